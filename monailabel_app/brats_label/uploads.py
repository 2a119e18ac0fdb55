"""Files that clients upload: safe file names, safe unpacking of archives, and new cases as 4D files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from brats_clip.cases import SEQUENCES
from brats_clip.errors import CaseError
from brats_clip.images import Volume, check_intensities, open_image, read_header

from .durable import durable_write
from .errors import NotFound, Refused, TooLarge
from .labels.reading import NIFTI, detect_format
from .studies import CaseSource

LONGEST_NAME = 200  # bytes
_ENDING = re.compile(r"(\.[A-Za-z0-9]{1,8}){0,2}")
MAX_FILES = 10_000
_ARCHIVE = "expected a zip or tar archive (tar.gz, tar.bz2 and tar.xz will do)"
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CASE = f"a 4D NIfTI file whose four channels are {', '.join(SEQUENCES)} in the order that --conf channels says"
_FOUR_FILES = "For four 3D files, put a folder with them among the studies."


def safe_name(name: str | None) -> str:
    """Return the last part of a client's file name, made safe for any file system; its extension is kept."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(c for c in last if c.isprintable()).lstrip(". ")
    if len(plain.encode()) > LONGEST_NAME:
        ending = "".join(Path(plain).suffixes[-2:])
        plain = plain[: LONGEST_NAME // 8] + (ending if _ENDING.fullmatch(ending) else "")
    return plain if plain and plain != "meta.info" else f"image{plain}"  # MONAI Label's own file in a session


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack a zip or tar archive, compressed or not. If it is refused, some files may already be in ``folder``.

    Args:
        archive: the file; its format is told from the content, not from the name.
        folder: an empty folder.
        max_bytes: limit for the unpacked content.

    Raises:
        Refused: for any other format, and for members that are not files or are outside of ``folder``.
        TooLarge: for more bytes, or more than ``MAX_FILES`` members.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _unzip(opened, folder, max_bytes)
        else:
            with archive.open("rb") as file:
                beginning = file.read(6)
            opener = next((o for magic, o in _COMPRESSED.items() if beginning.startswith(magic)), open)
            with opener(archive, "rb") as file:
                _untar(file, folder, max_bytes)
    except (tarfile.FilterError, *_DAMAGED) as error:
        raise Refused(f"The archive cannot be unpacked ({type(error).__name__}); {_ARCHIVE}.") from None
    except (NotImplementedError, RuntimeError):  # a password, or a compression that Python does not know
        raise Refused(f"The archive is encrypted or compressed in an unknown way; {_ARCHIVE}.") from None
    except (OSError, UnicodeError, ValueError) as error:  # names that the file system refuses, damaged gzip
        raise Refused(f"The archive cannot be unpacked ({type(error).__name__}); {_ARCHIVE}.") from None


def _unzip(opened: zipfile.ZipFile, folder: Path, max_bytes: int) -> None:
    members = opened.infolist()
    _check_sizes((member.file_size for member in members), max_bytes)
    for member in members:
        name = member.filename.replace("\\", "/")
        _check_inside(name)
        target = folder / name
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        # A member yields at most its declared size; a link is unpacked as a file with the name of its target.
        with opened.open(member) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)


def _untar(file: IO[bytes], folder: Path, max_bytes: int) -> None:
    # Read as a stream, so that headers, which may be as large as files, also count against the limit.
    with tarfile.open(fileobj=_Bounded(file, max_bytes), mode="r|") as opened:
        for number, member in enumerate(opened, start=1):
            _check_sizes((member.size,), max_bytes, number)
            _check_inside(member.name)
            if not (member.isreg() or member.isdir()):
                raise Refused("The archive holds a link or a device; expected files and folders alone.")
            opened.extract(member, folder, filter="data")


def _check_sizes(sizes: Iterable[int], max_bytes: int, count: int = 0) -> None:
    sizes = list(sizes)
    if sum(sizes) > max_bytes:
        raise _too_large(max_bytes)
    if max(count, len(sizes)) > MAX_FILES:
        raise TooLarge(f"The archive holds more than {MAX_FILES} files; send fewer.")


def _check_inside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in name or "\x00" in name:
        raise Refused("The archive holds a file that would lie outside of its folder; expected relative names.")


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"Unpacked, the archive is larger than {max_bytes // 2**20} MiB; raise --conf max_unpacked_mb.")


class _Bounded:
    """A stream that raises ``TooLarge`` after ``limit`` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._read: Callable[[int], bytes] = file.read
        self._limit = self._left = limit

    def read(self, size: int) -> bytes:
        content = self._read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._limit)
        return content


def add_case(source: CaseSource, studies: Path | None, image_id: str, path: Path) -> str:
    """Add an uploaded file to the studies.

    Args:
        source: the source of the studies.
        studies: their folder; None for a DICOMweb server, which accepts no uploads from the app.
        image_id: id of the new case.
        path: the uploaded file.

    Returns:
        The id of the case.

    Raises:
        Refused: if the file cannot be a case; it is not kept then.
    """
    if studies is None:
        raise Refused("The studies are on a DICOMweb server; store the four series there, and the case appears.")
    if not _ID.fullmatch(str(image_id or "")):
        raise Refused("The id of a new case has 1 to 64 letters, digits, _ or -, and starts with a letter or digit.")
    if _exists(source, image_id):
        raise Refused(f"There is a case {image_id} already; choose another id.")
    _check(path)
    target = studies / f"{image_id}.nii.gz"
    if target.exists():
        raise Refused(f"There is a file {target.name} already; choose another id.")
    with durable_write(target) as draft, path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        with draft.open("wb") if packed else gzip.open(draft, "wb", compresslevel=1) as copy:
            shutil.copyfileobj(file, copy)
    source.refresh()
    if not _exists(source, image_id):
        target.unlink()
        source.refresh()
        raise Refused(f"The file makes no case; expected {_CASE}.")
    return image_id


def _exists(source: CaseSource, image_id: str) -> bool:
    try:
        source.resolve(image_id)
    except NotFound:
        return False
    return True


def _check(path: Path) -> None:
    """Refuse a file unless it has exactly four readable sequences and no data after them."""
    kind, words = detect_format(path)
    if kind != NIFTI:
        raise Refused(f"The image looks like {words}; expected {_CASE}. {_FOUR_FILES}")
    try:
        header = read_header(path)
        if header.shape[3:] != (len(SEQUENCES),):
            shape = " x ".join(map(str, header.shape))
            raise Refused(f"The image has shape {shape}; expected {_CASE}. {_FOUR_FILES}")
        image = open_image(path, strict=True)
        for channel in range(len(SEQUENCES)):
            check_intensities(Volume(np.asarray(image.dataobj[..., channel]), image.affine, path.name))
    except CaseError as problem:
        raise Refused(f"The image file: found {problem.found}; expected {problem.expected}.") from None
