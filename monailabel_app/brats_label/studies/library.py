"""Cases ready to be segmented: found, fetched and on one grid."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from brats_clip.cases import Volume, read_volume
from brats_clip.errors import CaseError
from brats_clip.geometry import Grid, resample
from brats_clip.images import check_intensities, read_header, write_image

from ..durable import KeyedLocks, identity, key_of, remove, touch, trim, whole_folder
from ..errors import Refused
from . import Case, CaseSource
from .aligned import Aligned
from .aligned import register as find_motion

_REMEMBERED = 256  # grids and paths only, no voxels
_RECORD = "aligned.json"
_VERSION = 1  # of what is cached; to be raised when the same files would be aligned in another way


class CaseLibrary:
    """Aligns cases of a source, each once. Safe to use from several threads.

    Args:
        source: where cases come from.
        cache: folder for files that can be made again.
        register: whether sequences are aligned rigidly before they are resampled.
    """

    def __init__(self, source: CaseSource, cache: Path, register: bool) -> None:
        self.source = source
        self._cache, self._register = Path(cache).absolute(), register
        self._known: OrderedDict[str, tuple[list, Aligned]] = OrderedDict()
        self._guard = threading.Lock()
        self._aligning = KeyedLocks()

    def case(self, image_id: str) -> Case:
        """The case that an image belongs to. Raises ``NotFound`` as the source does."""
        return self.source.resolve(image_id)[0]

    def image_file(self, image_id: str) -> Path:
        """The native 3D NIfTI file of the sequence that ``image_id`` shows.

        Raises:
            NotFound, Refused, Unreachable: as the source does.
        """
        case, sequence = self.source.resolve(image_id)
        path = self.source.native_files(case)[sequence]
        touch([path], self._cache)
        return path

    def aligned(self, case: Case) -> Aligned:
        """The case on the grid of its reference; from memory while its files are unchanged.

        Raises:
            Refused: if a file cannot be used.
            NotFound, Unreachable: as the source does.
        """
        with self._aligning(case.case_id):
            files = self.source.native_files(case)
            stamp = [case.reference, *((sequence, identity(path)) for sequence, path in sorted(files.items()))]
            with self._guard:
                known = self._known.get(case.case_id)
            if known is None or known[0] != stamp or not all(path.is_file() for path in known[1].files.values()):
                known = (stamp, align(case, files, self._cache, self._register))
            with self._guard:
                self._known[case.case_id] = known
                self._known.move_to_end(case.case_id)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        touch([*files.values(), *known[1].files.values()], self._cache)
        return known[1]

    def fingerprint(self, case: Case) -> str:
        """What tells whether ``aligned`` and the report are still what they were. Nothing is fetched or converted, and
        it is the same after files in the cache were trimmed and made again.

        Raises:
            NotFound, Refused, OSError: if a file of the case is gone, or its report cannot be read.
        """
        return key_of(self.source.fingerprint(case), case.reference, self._register)

    def trim(self, max_bytes: int) -> int:
        """Delete cached files of the cases used longest ago until ``max_bytes`` are left; returns what is left.

        Those used within ten minutes stay, since somebody may be reading them.
        """
        return trim(self._cache, max_bytes)


def align(case: Case, files: Mapping[str, Path], cache: Path, register: bool) -> Aligned:
    """Resample every sequence to the grid of ``case.reference``; what is there already stays the file that it is.

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
        if not grid.overlaps(reference):
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
            array = resample(volume.array, grid, reference, None if motion is None else motion.matrix)
            if not array.any():
                raise Refused(_apart(sequence, path, case.reference))
            if motion is not None:
                record["motions"][sequence] = motion.matrix.tolist()
                moved = f"moved {motion.moved_mm:.1f} mm, turned {motion.turned_degrees:.1f} degrees"
                record["notes"].append(f"{sequence}: {moved}")
            if not grid.same_as(reference):
                size = " x ".join(f"{side:.1f}" for side in grid.spacing)
                record["notes"].append(f"{sequence}: resampled from {size} mm onto the grid of {case.reference}")
            record["files"][sequence] = f"{case.case_id}_{sequence}.nii.gz"
            write_image(draft / record["files"][sequence], array, reference.affine)
        (draft / _RECORD).write_text(json.dumps(record), "utf-8")


def _grid_of(sequence: str, path: Path) -> Grid:
    try:
        header = read_header(path)
        if len(header.shape) != 3:
            raise CaseError(path, f"an image of shape {' x '.join(map(str, header.shape))}", "a 3D image")
    except CaseError as problem:
        raise _refused(sequence, path, problem) from None
    return header.grid


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
