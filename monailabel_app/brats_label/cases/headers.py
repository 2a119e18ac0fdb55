"""What the header of a NIfTI file says, without its voxels."""

from __future__ import annotations

import gzip
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from brats_clip.errors import CaseError

__all__ = ["Header", "HeaderCache", "read_header"]

_EXPECTED = "a NIfTI file (.nii or .nii.gz)"
_LONGEST = 540  # bytes of a NIfTI-2 header


@dataclass(frozen=True, eq=False)
class Header:
    """Grid and voxel type of a file.

    Attributes:
        shape: all axes but trailing ones of length 1 beyond the third.
        affine: ``(4, 4)`` from voxel to RAS mm.
        whole: whether the stored voxels are integers that are taken as they are.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    whole: bool

    @property
    def channels(self) -> int:
        """Images in the file: 1 for a 3D file. ITK puts those of a vector image on the fifth axis."""
        return int(np.prod(self.shape[3:], dtype=int))


def read_header(path: Path) -> Header:
    """Read the header of ``path``, packed or not, whatever its name says.

    Raises:
        CaseError: if there is no such file, it cannot be opened, or is no NIfTI image of three axes or more.
    """
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            data = (gzip.GzipFile(fileobj=file) if packed else file).read(_LONGEST)
    except FileNotFoundError as reason:
        raise CaseError(path, "no file", _EXPECTED) from reason
    except (EOFError, zlib.error, gzip.BadGzipFile) as reason:
        raise CaseError(path, "a truncated or damaged gzip file", _EXPECTED) from reason
    except OSError as reason:
        raise CaseError(path, f"a file that cannot be read ({reason.strerror or reason})", _EXPECTED) from reason
    if not data:
        raise CaseError(path, "an empty file", _EXPECTED)
    kind = next((k for k in (nib.Nifti1Header, nib.Nifti2Header) if k.may_contain_header(data)), None)
    if kind is None:
        raise CaseError(path, "a file without a NIfTI header", _EXPECTED)
    try:
        header = kind(binaryblock=data[: kind.template_dtype.itemsize], check=False)
        shape = tuple(int(n) for n in header.get_data_shape())
        affine = np.asarray(header.get_best_affine(), np.float64)
        whole = header.get_data_dtype().kind in "iu" and header.get_slope_inter() in ((None, None), (1.0, 0.0))
    except (HeaderDataError, WrapStructError, ValueError, KeyError) as reason:
        raise CaseError(path, "a damaged header", _EXPECTED) from reason
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise CaseError(path, f"an image of shape {' x '.join(map(str, shape))}", "an image of three axes")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise CaseError(path, "an affine that is none", "a grid of voxels in mm")
    return Header(shape, affine, whole)


class HeaderCache:
    """Remembers headers, also that there is none, until the file changes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], Header | CaseError]] = {}
        self._lock = threading.Lock()

    def get(self, path: Path) -> Header:
        """The header of ``path``. Raises as ``read_header`` does."""
        try:
            status = path.stat()
        except OSError as reason:
            raise CaseError(path, f"no readable file ({reason.strerror})", _EXPECTED) from reason
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            known = self._known.get(path)
        if known is None or known[0] != stamp:
            try:
                known = (stamp, read_header(path))
            except CaseError as problem:
                # A fresh one: the traceback of the one raised would stay in memory, and grow.
                known = (stamp, CaseError(problem.where, problem.found, problem.expected))
            with self._lock:
                self._known[path] = known
        if isinstance(known[1], CaseError):
            raise CaseError(known[1].where, known[1].found, known[1].expected)
        return known[1]
