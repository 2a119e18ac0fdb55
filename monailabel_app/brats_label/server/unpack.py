"""Archives that clients send, unpacked into one folder and no further."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import Refused, TooLarge

MAX_FILES = 10_000
_EXPECTED = "expected a zip or tar archive (tar.gz, tar.bz2 and tar.xz will do)"
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack a zip or tar archive, compressed or not. What was unpacked of a refused one lies in ``folder``.

    Args:
        archive: the file; its content says what it is, not its name.
        folder: an empty folder.
        max_bytes: of all that comes out of it.

    Raises:
        Refused: for anything else, and for members that are no files or lie outside.
        TooLarge: for more bytes, or more than ``MAX_FILES`` members.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _unzip(opened, folder, max_bytes)
        else:
            with archive.open("rb") as file:
                beginning = file.read(6)
            way = next((way for magic, way in _COMPRESSED.items() if beginning.startswith(magic)), open)
            with way(archive, "rb") as file:
                _untar(file, folder, max_bytes)
    except (tarfile.FilterError, *_DAMAGED) as error:
        raise Refused(f"The archive cannot be unpacked ({type(error).__name__}); {_EXPECTED}.") from None
    except (NotImplementedError, RuntimeError):  # a password, or a compression that Python does not know
        raise Refused(f"The archive is encrypted or compressed in an unknown way; {_EXPECTED}.") from None
    except (OSError, UnicodeError, ValueError) as error:  # names that this file system does not take, damaged gzip
        raise Refused(f"The archive cannot be unpacked ({type(error).__name__}); {_EXPECTED}.") from None


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
        # A member gives no more bytes than it declares; a link becomes a file that holds its target's name.
        with opened.open(member) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)


def _untar(file: IO[bytes], folder: Path, max_bytes: int) -> None:
    # Read as a stream: headers, too, count against the limit, and may be as large as files.
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
    """A stream that ends in ``TooLarge`` rather than go on beyond ``limit`` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._read: Callable[[int], bytes] = file.read
        self._limit = self._left = limit

    def read(self, size: int) -> bytes:
        content = self._read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._limit)
        return content
