"""Scores on disk and in memory, by model version and case."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from brats_clip.evaluation import atomic_write

from .scores import CaseScores

logger = logging.getLogger(__name__)

_LONGEST_NAME = 150
_ABANDONED_SECONDS = 3600.0


class ScoreCache:
    """Keeps ``CaseScores``: a JSON file per case in a folder per model version, and all of them in memory.

    A file is whole or not there. One process writes; several threads may. Files that cannot be read count as not
    there, so the case is measured again.

    Args:
        folder: made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._versions: dict[str, dict[str, CaseScores]] = {}
        self._lock = threading.RLock()
        self._sweep()

    def scores(self, version: str) -> Mapping[str, CaseScores]:
        """All scores of a model version by case id; read from disk the first time it is asked for."""
        with self._lock:
            return MappingProxyType(dict(self._load(version)))

    def get(self, version: str, case_id: str, identity: str | None = None) -> CaseScores | None:
        """The scores of a case; None without any, or if they are those of other files than ``identity`` tells."""
        with self._lock:
            found = self._load(version).get(case_id)
        return found if found is not None and identity in (None, found.identity) else None

    def put(self, scores: CaseScores) -> None:
        """Keep scores in place of earlier ones of the same version and case."""
        with self._lock:
            by_case = self._load(scores.version)
            name = self._folder(scores.version) / "version.txt"  # as it is; the folder's name may have been changed
            if not name.is_file():
                with atomic_write(name) as draft:
                    draft.write_text(scores.version, encoding="utf-8")
            with atomic_write(self._path(scores.version, scores.case_id)) as draft, draft.open("w") as file:
                json.dump(scores.to_dict(), file)
                file.flush()
                os.fsync(file.fileno())
            by_case[scores.case_id] = scores

    def drop(self, version: str, case_id: str) -> None:
        """Forget the scores of a case whose files have changed."""
        with self._lock:
            self._load(version).pop(case_id, None)
            self._path(version, case_id).unlink(missing_ok=True)

    def versions(self) -> list[str]:
        """Model versions with scores, the one written to last first."""
        found = [path for path in self.folder.glob("*/version.txt") if path.is_file()]
        found.sort(key=lambda path: path.parent.stat().st_mtime_ns, reverse=True)
        return [path.read_text(encoding="utf-8") for path in found]

    def latest(self, case_ids: set[str], version: str) -> dict[str, CaseScores]:
        """Scores of ``version``, and for cases without them those of the version before that has them."""
        found: dict[str, CaseScores] = {}
        with self._lock:
            for name in dict.fromkeys([version, *self.versions()]):
                if len(found) == len(case_ids):
                    break
                for case_id, scores in self._load(name).items():
                    if case_id in case_ids:
                        found.setdefault(case_id, scores)
        return found

    def prune(self, keep: int, version: str) -> None:
        """Remove all but ``version`` and the last ``keep`` others."""
        with self._lock:
            for name in [name for name in self.versions() if name != version][keep:]:
                shutil.rmtree(self._folder(name), ignore_errors=True)
                self._versions.pop(name, None)

    def _load(self, version: str) -> dict[str, CaseScores]:
        if version not in self._versions:
            found = (self._read(path) for path in self._folder(version).glob("[!.]*.json"))  # a dot: half-written
            self._versions[version] = {s.case_id: s for s in found if s is not None and s.version == version}
        return self._versions[version]

    def _read(self, path: Path) -> CaseScores | None:
        try:
            return CaseScores.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as reason:
            logger.warning("scores %s: %s; the case is measured again", path.name, type(reason).__name__)
            return None

    def _folder(self, version: str) -> Path:
        return self.folder / _file_name(version)

    def _path(self, version: str, case_id: str) -> Path:
        return self._folder(version) / f"{_file_name(case_id)}.json"

    def _sweep(self) -> None:
        """Remove what a process that was killed while it wrote has left."""
        for path in self.folder.glob("*/.tmp-*"):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)


def _file_name(name: str) -> str:
    """A file name that no other ``name`` has, whatever it holds."""
    quoted = quote(name, safe="-_@+")
    quoted = quoted if not name.startswith(".") else quoted.replace(".", "%2E")
    if not name or len(quoted) > _LONGEST_NAME:
        return f"sha256-{hashlib.sha256(name.encode()).hexdigest()}"
    return quoted
