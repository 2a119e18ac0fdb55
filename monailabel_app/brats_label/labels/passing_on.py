"""Labels that another server is to have, too: brought there, and again until it has them."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib

from ..cases.case import Case
from ..cases.keyed_locks import KeyedLocks
from ..durable import write_json
from ..errors import ClientError, Unreachable
from .store import LabelStore
from .version import FINAL, Version
from .version_folders import safe

logger = logging.getLogger(__name__)


class PassingOn:
    """Keeps another server in step with the newest final label of each case.

    A case that is not in step has a file in ``folder``. It is written before the label is stored and goes once the
    server has the label, so that neither a server that is away nor a killed process makes us forget. Of several labels
    that the server missed it gets the newest. Safe to use from several threads.

    Args:
        folder: for those files.
        store: where the labels are.
        find: the case with an id.
        put: brings a label there: case, label on the reference grid, version. Twice the same must do no harm.
        withdraw: takes labels of a case back that are no longer in use; returns what to tell people.
    """

    def __init__(
        self,
        folder: Path,
        store: LabelStore,
        find: Callable[[str], Case],
        put: Callable[[Case, nib.Nifti1Image, Version], object],
        withdraw: Callable[[Case, Sequence[Version]], Sequence[str]] | None = None,
    ) -> None:
        self._folder, self._store, self._find, self._put, self._withdraw = Path(folder), store, find, put, withdraw
        self._bringing, self._retrying = KeyedLocks(), threading.Lock()

    def expect(self, case_id: str) -> None:
        """Note that the label of a case is about to change."""
        self._note(case_id, uuid.uuid4().hex, "")

    def bring(self, case_id: str) -> list[str]:
        """Bring the newest label of a case there, or take it back if it was removed; nothing if it is in step.

        Returns:
            What to tell people.

        Raises:
            ClientError: if it cannot be done now; ``retry`` tries again.
        """
        with self._bringing(case_id):
            entry = self._read(self._place(case_id))
            if entry is None:
                return []
            version = self._store.current(case_id, FINAL)
            try:
                notes = self._bring(case_id, version)
            except Exception as problem:
                says = (
                    problem.sentence if isinstance(problem, ClientError) else f"{type(problem).__name__}, see the log"
                )
                if entry == self._read(self._place(case_id)):
                    self._note(case_id, entry["token"], says)
                raise
            now, after = self._store.current(case_id, FINAL), self._read(self._place(case_id))
            if after is not None and after["token"] == entry["token"] and now == version:
                self._place(case_id).unlink(missing_ok=True)
            return notes

    def retry(self) -> None:
        """Bring what the server has missed; stops where it does not answer."""
        if not self._retrying.acquire(blocking=False):
            return
        try:
            for path in sorted(self._folder.glob("*.json")):
                entry = self._read(path)
                if entry is None:
                    continue
                try:
                    self.bring(entry["case"])
                    logger.info("label of case %s passed on at last", entry["case"])
                except Unreachable as problem:
                    logger.warning("labels wait to be passed on: %s", problem)
                    return
                except Exception as problem:  # the others must not wait for it
                    if not isinstance(problem, ClientError):
                        logger.exception("label of case %s was not passed on", entry["case"])
        finally:
            self._retrying.release()

    def retry_in_background(self) -> None:
        """``retry``, without waiting for it."""
        if any(self._folder.glob("*.json")):
            threading.Thread(target=self.retry, name="labels to pass on", daemon=True).start()

    def waiting(self) -> list[str]:
        """A sentence for each label that the server does not have yet."""
        entries = [entry for path in sorted(self._folder.glob("*.json")) if (entry := self._read(path)) is not None]
        return [
            f"The label of case {entry['case']} is not on the DICOM server yet: {entry['problem']}"
            for entry in entries
            if entry["problem"]
        ]

    def _bring(self, case_id: str, version: Version | None) -> list[str]:
        if version is not None:
            self._put(self._find(case_id), nib.load(version.path), version)
            return []
        brought = [old for old in self._store.history(case_id) if old.tag == FINAL and not old.removed]
        if not brought or self._withdraw is None:
            return []
        return list(self._withdraw(self._find(case_id), brought))

    def _place(self, case_id: str) -> Path:
        return self._folder / f"{safe(case_id)}.json"

    def _note(self, case_id: str, token: str, problem: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._place(case_id), {"case": case_id, "token": token, "problem": problem})

    def _read(self, path: Path) -> dict[str, str] | None:
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            return {name: str(entry[name]) for name in ("case", "token", "problem")}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("%s cannot be read; delete it", path)
            return None
