"""Uploaded archives are unpacked into their folder, within limits, or refused."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from brats_label.errors import Refused, TooLarge
from brats_label.uploads import LONGEST_NAME, safe_name, unpack

LIMIT = 2**20


def tar(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            info.size = len(content) if isinstance(content, bytes) else 0
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, target
    return info


def unpacked(folder: Path, content: bytes, limit: int = LIMIT) -> dict[str, bytes]:
    inside = folder / "a" / "b" / "images"
    inside.mkdir(parents=True)
    archive = folder / "archive"
    archive.write_bytes(content)
    unpack(archive, inside, limit)
    return {str(path.relative_to(inside)): path.read_bytes() for path in inside.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", [tar, lambda m: tar(m, "w:gz"), lambda m: tar(m, "w:xz"), zipped])
def test_valid_archive_is_unpacked(tmp_path, make):
    content = {"x_t1.nii.gz": b"one", "case/x_t2.nii.gz": b"two" * 1000}
    assert unpacked(tmp_path, make(content)) == content


BOMB = 200 * LIMIT


def huge_header() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, BOMB
    return info.tobuf() + bytes(BOMB)


BAD = {
    "tar that climbs": (tar({"../../../x": b"bad"}), Refused, "outside"),
    "tar with an absolute name": (tar({"/tmp/brats_clip_was_here": b"bad"}), Refused, "outside"),
    "tar with a symbolic link": (tar({"link": link(tarfile.SYMTYPE, "/etc"), "link/x": b"bad"}), Refused, "link"),
    "tar with a hard link": (tar({"link": link(tarfile.LNKTYPE, "/etc/passwd")}), Refused, "link"),
    "tar with a device": (tar({"link": link(tarfile.CHRTYPE, "")}), Refused, "device"),
    "tar too large": (tar({"x": bytes(LIMIT + 1)}, "w:gz"), TooLarge, "max_unpacked_mb"),
    "tar with a header too large": (gzip.compress(huge_header(), 1), TooLarge, "max_unpacked_mb"),
    "tar with too many files": (tar({f"{n}": b"" for n in range(10_001)}, "w:gz"), TooLarge, "10000"),
    "zip that climbs": (zipped({"../../../x": b"bad"}), Refused, "outside"),
    "zip with backslashes": (zipped({"..\\..\\..\\x": b"bad"}), Refused, "outside"),
    "zip with a drive": (zipped({"C:\\x": b"bad"}), Refused, "outside"),
    "zip too large": (zipped({"x": bytes(BOMB)}), TooLarge, "1 MiB"),
    "zip with too many files": (zipped({f"{n}": b"" for n in range(10_001)}), TooLarge, "10000"),
    "file over its folder": (tar({"x": b"1", "x/y": b"2"}), Refused, "unpacked"),
    "name that is too long": (zipped({"x" * 300: b"1"}), Refused, "unpacked"),
    "RAR": (b"Rar!\x1a\x07\x01\x00" + bytes(500), Refused, "zip or tar"),
    "gzip that is no tar": (gzip.compress(b"image" * 1000), Refused, "zip or tar"),
    "damaged gzip": (tar({"x": bytes(range(256)) * 100}, "w:gz")[:200], Refused, "zip or tar"),
    "damaged zip": (zipped({"x": b"12345" * 1000}).replace(b"PK\x01\x02", b"PK\x01\x09"), Refused, "zip or tar"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_archive_is_refused_and_writes_nothing_outside(tmp_path, name):
    content, error, says = BAD[name]
    with pytest.raises(error) as raised:
        unpacked(tmp_path, content, 100 * LIMIT if "many" in name else LIMIT)
    assert says in raised.value.sentence and str(tmp_path) not in raised.value.sentence
    inside = tmp_path / "a" / "b" / "images"
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "archive" and inside not in p.parents]
    assert not Path("/tmp/brats_clip_was_here").exists()


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("ax T1 post.nii.gz", "ax T1 post.nii.gz"),
        ("C:\\scans\\x_t1.nii.gz", "x_t1.nii.gz"),
        ("..", "image"),
        ("", "image"),
        (None, "image"),
        ("../../.bashrc", "bashrc"),
        ("meta.info", "imagemeta.info"),
        ("a\nb\x00.nii", "ab.nii"),
    ],
)
def test_file_name_is_sanitised(given, becomes):
    assert safe_name(given) == becomes


@pytest.mark.parametrize("name", ["a" * 300 + ".nii.gz", "ü" * 150 + ".nii.gz", "a." * 300])
def test_long_file_name_is_truncated_and_keeps_its_extension(name):
    assert len(safe_name(name).encode()) <= LONGEST_NAME
    assert safe_name(name).endswith(".nii.gz") == name.endswith(".nii.gz")
