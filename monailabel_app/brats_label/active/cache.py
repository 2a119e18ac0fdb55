"""Scores in the store and in memory, by model version and case."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import delete, func, insert, select

from ..store import Store
from ..store import scores as table
from .scores import CaseScores

logger = logging.getLogger(__name__)


class ScoreCache:
    """Keeps ``CaseScores`` in the store, and all of them in memory.

    One process writes; several threads may. Scores that cannot be read count as not there, so the case is measured
    again.

    Args:
        store: has the table ``scores``.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._versions: dict[str, dict[str, CaseScores]] = {}
        self._lock = threading.RLock()

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
            same = (table.c.version == scores.version) & (table.c.case_id == scores.case_id)
            with self.store.write() as connection:
                written = (connection.scalar(select(func.max(table.c.written))) or 0) + 1
                connection.execute(delete(table).where(same))
                row = {"version": scores.version, "case_id": scores.case_id, "written": written}
                connection.execute(insert(table).values(**row, content=json.dumps(scores.to_dict())))
            by_case[scores.case_id] = scores

    def drop(self, version: str, case_id: str) -> None:
        """Forget the scores of a case whose files have changed."""
        with self._lock:
            self._load(version).pop(case_id, None)
            with self.store.write() as connection:
                connection.execute(delete(table).where(table.c.version == version, table.c.case_id == case_id))

    def versions(self) -> list[str]:
        """Model versions with scores, the one written to last first."""
        newest = func.max(table.c.written)
        with self.store.read() as connection:
            return list(connection.scalars(select(table.c.version).group_by(table.c.version).order_by(newest.desc())))

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
                with self.store.write() as connection:
                    connection.execute(delete(table).where(table.c.version == name))
                self._versions.pop(name, None)

    def _load(self, version: str) -> dict[str, CaseScores]:
        if version not in self._versions:
            with self.store.read() as connection:
                rows = connection.execute(select(table.c["case_id", "content"]).where(table.c.version == version)).all()
            read = (_read(case_id, content) for case_id, content in rows)
            self._versions[version] = {s.case_id: s for s in read if s is not None and s.version == version}
        return self._versions[version]


def _read(case_id: str, content: str) -> CaseScores | None:
    try:
        return CaseScores.from_dict(json.loads(content))
    except ValueError as reason:
        logger.warning("scores of case %s: %s; the case is measured again", case_id, type(reason).__name__)
        return None
