"""Cases ready to be segmented: found, fetched and on one grid."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from .case import Case, CaseSource
from .disk_cache import identity, key_of, touch, trim
from .keyed_locks import KeyedLocks
from .one_grid import Aligned, align

__all__ = ["CaseLibrary"]

_REMEMBERED = 256  # grids and paths only, no voxels


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
