"""Bring the sequences of a case onto the grid of its reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np

from brats_clip.cases import Volume, read_volume
from brats_clip.errors import CaseError
from brats_clip.images import check_intensities

from ..errors import Refused
from .aligned import Aligned
from .case import Case
from .disk_cache import identity, key_of, remove, whole_folder
from .grid import Grid
from .headers import read_header
from .register import register as find_motion
from .resample import resample

__all__ = ["Aligned", "align"]

_RECORD = "aligned.json"
_VERSION = 1  # of what is cached; to be raised when the same files would be aligned in another way


def align(case: Case, files: Mapping[str, Path], cache: Path, register: bool) -> Aligned:
    """Bring every sequence onto the grid of ``case.reference``; what is there already stays the file that it is.

    Args:
        files: a 3D NIfTI file per sequence, from ``CaseSource.native_files``.
        cache: folder for what has to be written, once for unchanged files.
        register: align the others to the reference first, rigidly.

    Raises:
        Refused: naming sequence and file, if one is unreadable, not 3D, empty, or does not overlap the reference.
    """
    grids = {sequence: _grid_of(sequence, path) for sequence, path in files.items()}
    reference = grids[case.reference]
    for sequence, grid in grids.items():
        if not grid.overlaps(reference, np.eye(4)):
            raise Refused(_apart(sequence, files[sequence], case.reference))
    if all(grid.same_as(reference) for grid in grids.values()) and not (register and len(files) > 1):
        return Aligned(dict(files), case.reference, grids)
    identities = [(sequence, identity(path)) for sequence, path in sorted(files.items())]
    folder = Path(cache) / "aligned" / key_of(_VERSION, identities, case.case_id, case.reference, register)
    for _ in range(2):
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads((folder / _RECORD).read_text("utf-8"))
            return _recorded(case, files, grids, folder, record)
        remove(folder)  # as far as it is there, it is of no use
        _write(case, files, grids, folder, register)
    raise OSError(f"{folder} cannot be read back")


def _recorded(case: Case, files: Mapping[str, Path], grids: dict[str, Grid], folder: Path, record: dict) -> Aligned:
    written = {sequence: folder / name for sequence, name in record["files"].items()}
    if not all(path.is_file() for path in written.values()):
        raise KeyError("files")
    motions = {sequence: np.array(matrix, np.float64).reshape(4, 4) for sequence, matrix in record["motions"].items()}
    return Aligned({**files, **written}, case.reference, grids, motions, tuple(record["notes"]))


def _write(case: Case, files: Mapping[str, Path], grids: dict[str, Grid], folder: Path, register: bool) -> None:
    reference = grids[case.reference]
    fixed = _read(case.reference, files[case.reference]) if register else None
    record: dict = {"files": {}, "motions": {}, "notes": []}
    with whole_folder(folder) as draft:
        for sequence, path in files.items():
            if sequence == case.reference or (not register and grids[sequence].same_as(reference)):
                continue
            grid, volume = grids[sequence], _read(sequence, path)
            motion = find_motion(fixed.array, reference, volume.array, grid) if register else None
            if motion is None and grid.same_as(reference):
                continue
            across = np.eye(4) if motion is None else motion.matrix
            array = resample(volume.array, grid, reference, across, linear=True)
            if not array.any():
                raise Refused(_apart(sequence, path, case.reference))
            if motion is not None:
                record["motions"][sequence] = motion.matrix.tolist()
                moved = f"moved {motion.moved_mm:.1f} mm, turned {motion.turned_degrees:.1f} degrees"
                record["notes"].append(f"{sequence}: {moved}")
            if not grid.same_as(reference):
                size = " x ".join(f"{side:.1f}" for side in grid.spacing)
                record["notes"].append(f"{sequence}: resampled from {size} mm onto the grid of {case.reference}")
            name = f"{case.case_id}_{sequence}.nii.gz"
            image = nib.Nifti1Image(array, reference.affine)
            image.header.set_xyzt_units("mm", "sec")
            nib.save(image, draft / name)
            record["files"][sequence] = name
        (draft / _RECORD).write_text(json.dumps(record), "utf-8")


def _grid_of(sequence: str, path: Path) -> Grid:
    try:
        header = read_header(Path(path))
        if len(header.shape) != 3:
            raise CaseError(path, f"an image of shape {' x '.join(map(str, header.shape))}", "a 3D image")
    except CaseError as problem:
        raise _refused(sequence, path, problem) from None
    return Grid(header.shape, header.affine)


def _read(sequence: str, path: Path) -> Volume:
    try:
        volume = read_volume(path)
        check_intensities(volume)
    except CaseError as problem:
        raise _refused(sequence, path, problem) from None
    return volume


def _refused(sequence: str, path: Path, problem: CaseError) -> Refused:
    return Refused(f"{sequence} ({Path(path).name}): found {problem.found}; expected {problem.expected}.")


def _apart(sequence: str, path: Path, reference: str) -> str:
    return f"{sequence} ({Path(path).name}): no part of it lies where {reference} is; expected images of one head."
