"""A case that a client uploads: a 4D NIfTI file of four sequences."""

from __future__ import annotations

import gzip
import re
import shutil
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from brats_clip.cases import SEQUENCES, read_volume
from brats_clip.errors import CaseError
from brats_clip.images import check_intensities

from .durable import durable_write
from .errors import NotFound, Refused, TooLarge
from .labels.reading import NIFTI, look
from .studies import CaseSource

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_EXPECTED = f"a 4D NIfTI file whose four channels are {', '.join(SEQUENCES)} in the order that --conf channels says"
_CHUNK = 2**20


def add_case(source: CaseSource, studies: Path | None, image_id: str, path: Path, max_voxels: int = 10**9) -> str:
    """Put an uploaded file among the studies.

    Args:
        source: what lists the studies.
        studies: their folder; None for a DICOMweb server, which takes no files through here.
        image_id: what the case is to be called.
        path: the upload.
        max_voxels: of all channels together.

    Returns:
        The id of the case.

    Raises:
        Refused: if it cannot be a case; nothing is left of it then.
        TooLarge: for more voxels.
    """
    if studies is None:
        raise Refused("The studies are on a DICOMweb server; store the four series there, and the case appears.")
    if not _ID.fullmatch(str(image_id or "")):
        raise Refused("The id of a new case has 1 to 64 letters, digits, _ or -, and starts with a letter or digit.")
    if _exists(source, image_id):
        raise Refused(f"There is a case {image_id} already; choose another id.")
    _check(path, max_voxels)
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
        raise Refused(f"The file makes no case; expected {_EXPECTED}.")
    return image_id


def _exists(source: CaseSource, image_id: str) -> bool:
    try:
        source.resolve(image_id)
    except NotFound:
        return False
    return True


def _check(path: Path, max_voxels: int) -> None:
    kind, words = look(path)
    if kind != NIFTI:
        raise Refused(
            f"The image looks like {words}; expected {_EXPECTED}. For four 3D files, put a folder with them among the "
            "studies."
        )
    try:
        header = nib.load(path).header if path.name.endswith((".nii", ".nii.gz")) else None
        if header is None:
            raise Refused(f"The image's name ends with neither .nii nor .nii.gz; expected {_EXPECTED}.")
        shape = header.get_data_shape()
        if len(shape) != 4 or shape[3] != len(SEQUENCES):
            raise Refused(
                f"The image has shape {' x '.join(map(str, shape))}; expected {_EXPECTED}. For four 3D files, put a "
                "folder with them among the studies."
            )
        if np.prod(shape, dtype=np.int64) > max_voxels:
            raise TooLarge(
                f"The image has {np.prod(shape, dtype=np.int64):,} voxels; at most {max_voxels:,} are taken."
            )
        _check_length(path, int(np.prod(shape, dtype=np.int64)) * header.get_data_dtype().itemsize + _CHUNK)
        opened: dict = {}
        for channel in range(len(SEQUENCES)):
            check_intensities(read_volume(f"{path}#{channel}", opened=opened))
    except CaseError as problem:
        raise Refused(f"The image has {problem.found}; expected {problem.expected}.") from None
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, zlib.error, ValueError) as reason:
        raise Refused(f"The image is a truncated or damaged NIfTI file; expected {_EXPECTED}.") from reason


def _check_length(path: Path, most: int) -> None:
    """Refuse a file that unpacks to more than its header says, before anybody unpacks it whole."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        length = 0
        while chunk := file.read(_CHUNK):
            length += len(chunk)
            if length > most:
                raise Refused("The image file goes on after its voxels; expected a NIfTI file and nothing else.")
