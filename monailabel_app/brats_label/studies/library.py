"""Cases prepared for segmentation: found, fetched and resampled to one grid."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from brats_clip.cases import Preparation, Volume, is_ready, prepare, read_volume
from brats_clip.cases.background import is_stripped
from brats_clip.cases.check import check_same_grid
from brats_clip.errors import CaseError
from brats_clip.images import check_intensities, write_image

from ..durable import KeyedLocks, atomic_folder, identity, key_of, remove, touch, trim
from ..errors import Refused
from . import Case, CaseSource
from .aligned import Aligned

_REMEMBERED = 256  # grids and paths only, no voxels
_RECORD = "aligned.json"
_VERSION = 2  # of the cache; increase it when the same files would be aligned in another way
_one_at_a_time = threading.Lock()  # preparing an exam takes 2 GB, and all cores


def _ignore_step(step: str) -> None:
    pass


class CaseLibrary:
    """Align the cases of a source, each once. Safe to use from several threads.

    Args:
        source: where cases come from.
        cache: folder for files that can be regenerated.
        mode: ``auto``, ``always`` or ``never``: whether raw images are registered, stripped and resampled.
    """

    def __init__(self, source: CaseSource, cache: Path, mode: str = "auto") -> None:
        self.source = source
        self._cache, self._mode = Path(cache).absolute(), mode
        self._known: OrderedDict[str, tuple[list, Aligned]] = OrderedDict()
        self._just_read: tuple[Aligned, Mapping[str, Volume]] | None = None
        self._steps: dict[str, tuple[str, float]] = {}
        self._guard = threading.Lock()
        self._aligning = KeyedLocks()

    def case(self, image_id: str) -> Case:
        """Return the case that an image belongs to. Raises ``NotFound`` as the source does."""
        return self.source.resolve(image_id)[0]

    def image_file(self, image_id: str) -> Path:
        """Return the native 3D NIfTI file of the sequence that ``image_id`` refers to.

        Raises:
            NotFound, Refused, Unreachable: as the source does.
        """
        case, sequence = self.source.resolve(image_id)
        path = self.source.native_files(case)[sequence]
        touch([path], self._cache)
        return path

    def aligned(self, case: Case) -> Aligned:
        """Return the case on one grid, from memory while its files are unchanged.

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
                known = (stamp, self._align(case, files))
            with self._guard:
                self._known[case.case_id] = known
                self._known.move_to_end(case.case_id)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        touch([*files.values(), *known[1].files.values()], self._cache)
        return known[1]

    def images(self, aligned: Aligned) -> Mapping[str, Path | Volume]:
        """Return the images of a case: files, or once, for a case that was just aligned, volumes in memory."""
        with self._guard:
            just_read, self._just_read = self._just_read, None
        return just_read[1] if just_read and just_read[0] is aligned else aligned.files

    def preparing(self, case_id: str) -> dict[str, Any] | None:
        """Return the current step of preparing a case and the seconds since the first step; None if there is none."""
        now = self._steps.get(case_id)
        return None if now is None else {"step": now[0], "seconds": round(time.monotonic() - now[1], 1)}

    def _align(self, case: Case, files: Mapping[str, Path]) -> Aligned:
        started = time.monotonic()

        def on_step(step: str) -> None:
            self._steps[case.case_id] = (step, started)

        try:
            aligned, volumes = align(case, files, self._cache, self._mode, on_step)
        finally:
            self._steps.pop(case.case_id, None)
        with self._guard:
            self._just_read = (aligned, volumes) if volumes else None
        return aligned

    def fingerprint(self, case: Case) -> str:
        """Return a key that changes when the result of ``aligned`` or the report would change. Nothing is fetched or
        converted, and the key stays the same when files are trimmed from the cache and regenerated.

        Raises:
            NotFound, Refused, OSError: if a file of the case is gone, or its report cannot be read.
        """
        return key_of(self.source.fingerprint(case), case.reference, self._mode)

    def trim(self, max_bytes: int) -> int:
        """Delete the least recently used files of the cache until ``max_bytes`` are left; return the remaining bytes.

        Files used within ten minutes stay, since somebody may be reading them.
        """
        return trim(self._cache, max_bytes)


def align(
    case: Case,
    files: Mapping[str, Path],
    cache: Path,
    mode: str = "auto",
    on_step: Callable[[str], None] = _ignore_step,
) -> tuple[Aligned, dict[str, Volume]]:
    """Prepare every sequence for the network, see ``cases.prepare``. Images that need no change keep their files.

    Args:
        files: a 3D NIfTI file per sequence, from ``CaseSource.native_files``.
        cache: folder for prepared images, which are written once for unchanged files.
        mode: ``auto``, ``always`` or ``never``.
        on_step: called with the name of the next step.

    Returns:
        The aligned case, and its volumes; no volumes if the cache had the prepared images.

    Raises:
        Refused: naming sequence and file, if one is unreadable, not 3D or empty, or the images cannot be prepared.
    """
    for sequence, path in files.items():
        if not path.is_file():
            _read(sequence, path)  # raises Refused
    identities = [(sequence, identity(path)) for sequence, path in sorted(files.items())]
    folder = Path(cache) / "aligned" / key_of(_VERSION, identities, case.case_id, case.reference, mode)
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((folder / _RECORD).read_text("utf-8"))
        written = {sequence: folder / name for sequence, name in record["files"].items()}
        if all(path.is_file() for path in written.values()):
            preparation = Preparation.from_json(record["preparation"])
            return Aligned({**files, **written}, case.reference, preparation), {}
    remove(folder)  # it may be incomplete or unreadable
    given = {sequence: _read(sequence, path) for sequence, path in files.items()}
    prepared, preparation = _prepared(case, given, mode, on_step)
    changed = {s: f"{case.case_id}_{s}.nii.gz" for s in given if prepared[s] is not given[s]}
    with atomic_folder(folder) as draft:
        for sequence, name in changed.items():
            write_image(draft / name, prepared[sequence].array, preparation.working.affine)
            prepared[sequence] = prepared[sequence]._replace(path=str(folder / name))
        (draft / _RECORD).write_text(json.dumps({"files": changed, "preparation": preparation.to_json()}), "utf-8")
    written = {sequence: folder / name for sequence, name in changed.items()}
    return Aligned({**files, **written}, case.reference, preparation), prepared


def _prepared(
    case: Case, given: dict[str, Volume], mode: str, on_step: Callable[[str], None]
) -> tuple[dict[str, Volume], Preparation]:
    try:
        if mode == "never" or (mode == "auto" and is_ready(given)):
            prepared, preparation = given, None
            for volume in given.values():
                check_same_grid(volume, given[case.reference])
        else:
            on_step("wait for another exam")
            with _one_at_a_time:
                prepared, preparation = prepare(given, mode, reference=case.reference, on_step=on_step)
    except CaseError as problem:
        expected = problem.expected.partition(";")[0]
        advice = "--conf preprocess auto" if mode == "never" else "--conf preprocess never takes images as they are"
        which = [f"{s} ({Path(v.path).name})" for s, v in given.items() if v.path == problem.where]
        raise Refused(
            f"{(which or [case.case_id])[0]}: found {problem.found}; expected {expected} ({advice})."
        ) from None
    if preparation is None:
        native = {sequence: volume.grid for sequence, volume in given.items()}
        notes = [] if mode != "never" else [f"{s}: does not look stripped" for s in given if not is_stripped(given[s])]
        preparation = Preparation(
            case.reference, native[case.reference], native, dict.fromkeys(native, np.eye(4)), notes
        )
    return prepared, preparation


def _read(sequence: str, path: Path) -> Volume:
    try:
        volume = read_volume(path)
        check_intensities(volume)
    except CaseError as problem:
        name = Path(path).name
        raise Refused(f"{sequence} ({name}): found {problem.found}; expected {problem.expected}.") from None
    return volume
