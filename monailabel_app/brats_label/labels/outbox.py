"""Outbox of labels for the DICOM server, as DICOM SEG: delivered when saved, and retried until the server has them."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from brats_clip.geometry import Grid

from ..dicom import save_file
from ..dicom.client import delete_series
from ..dicom.seg import DESCRIPTION, read_seg, series_uid, store, write_seg
from ..durable import KeyedLocks
from ..errors import ClientError, Refused, Unreachable
from ..store import Store, outbox
from ..studies import Case
from ..studies.dicomweb import DicomWebSource
from . import FINAL, Revision
from .reading import Drawing, Segment
from .store import LabelStore

logger = logging.getLogger(__name__)


class Outbox:
    """Keeps the DICOM server up to date with the newest final label of each case.

    A case has a row while the server lacks its newest label. The row is written before the label is stored, and deleted
    once the server has the label, so that neither an outage nor a killed process loses a delivery. If the server missed
    several labels of a case, only the newest is delivered. Safe to use from several threads.

    Args:
        store: has the table ``outbox``.
        labels: where the labels are.
        find: returns the case with an id.
        put: delivers a label: case, label on the reference grid, revision. Must be idempotent.
        withdraw: deletes removed labels of a case from the server; returns sentences for users.
    """

    def __init__(
        self,
        store: Store,
        labels: LabelStore,
        find: Callable[[str], Case],
        put: Callable[[Case, nib.Nifti1Image, Revision], object],
        withdraw: Callable[[Case, Sequence[Revision]], Sequence[str]] | None = None,
    ) -> None:
        self._store, self._labels, self._find, self._put, self._withdraw = store, labels, find, put, withdraw
        self._delivering, self._retrying = KeyedLocks(), threading.Lock()

    def add(self, case_id: str) -> None:
        """Record that the label of a case is about to change."""
        values = {"token": uuid.uuid4().hex, "attempts": 0, "problem": ""}
        row = insert(outbox).values(case_id=case_id, **values)
        with self._store.write() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["case_id"], set_=values))

    def deliver(self, case_id: str) -> list[str]:
        """Deliver the newest label of a case, or withdraw it if it was removed, unless the server is up to date.

        Returns:
            Sentences for users.

        Raises:
            ClientError: if the delivery fails; ``retry`` tries again.
        """
        with self._delivering(case_id):
            entry = next(iter(self._entries(outbox.c.case_id == case_id)), None)
            if entry is None:
                return []
            same = (outbox.c.case_id == case_id) & (outbox.c.token == entry.token)
            revision = self._labels.current(case_id, FINAL)
            try:
                notes = self._deliver(case_id, revision)
            except Exception as reason:
                says = reason.sentence if isinstance(reason, ClientError) else f"{type(reason).__name__}, see the log"
                with self._store.write() as connection:
                    connection.execute(update(outbox).where(same).values(attempts=entry.attempts + 1, problem=says))
                raise
            if self._labels.current(case_id, FINAL) == revision:  # else there is a newer one to deliver
                with self._store.write() as connection:
                    connection.execute(delete(outbox).where(same))
            return notes

    def retry(self) -> None:
        """Retry all pending deliveries; stop if the server does not answer."""
        if not self._retrying.acquire(blocking=False):
            return
        try:
            for entry in self._entries():
                try:
                    self.deliver(entry.case_id)
                    logger.info("label of case %s was delivered after %d attempts", entry.case_id, entry.attempts + 1)
                except Unreachable as reason:
                    logger.warning("labels wait in the outbox: %s", reason)
                    return
                except Exception as reason:  # continue with the other deliveries
                    if not isinstance(reason, ClientError):
                        logger.exception("label of case %s was not delivered", entry.case_id)
        finally:
            self._retrying.release()

    def retry_in_background(self) -> None:
        """Start ``retry`` in a thread, if any delivery is pending."""
        if self._entries():
            threading.Thread(target=self.retry, name="outbox", daemon=True).start()

    def problems(self) -> list[str]:
        """Return a sentence for each label that could not be delivered yet."""
        return [
            f"The label of case {entry.case_id} is not on the DICOM server yet: {entry.problem}"
            for entry in self._entries(outbox.c.problem != "")
        ]

    def _deliver(self, case_id: str, revision: Revision | None) -> list[str]:
        if revision is not None:
            self._put(self._find(case_id), nib.load(revision.path), revision)
            return []
        delivered = [old for old in self._labels.history(case_id) if old.tag == FINAL and not old.removed]
        if not delivered or self._withdraw is None:
            return []
        return list(self._withdraw(self._find(case_id), delivered))

    def _entries(self, *where) -> Sequence[Row]:
        with self._store.read() as connection:
            return connection.execute(select(outbox).where(*where).order_by(outbox.c.case_id)).all()


class SegExchange:
    """Reads, writes, stores and deletes DICOM SEG; each refers to the series of the case's reference sequence."""

    def __init__(self, source: DicomWebSource) -> None:
        self.source = source

    def write(self, case: Case, label: nib.Nifti1Image, path: Path, version: str) -> None:
        """Write an answer with values of ``naming.LABELS`` on the reference grid; ``version`` is that of the weights.

        Raises:
            Refused: for an empty answer, which DICOM SEG cannot represent.
        """
        dataset = write_seg(
            np.asarray(label.dataobj), label.affine, self._files(case), version=version, algorithm_type="AUTOMATIC"
        )
        save_file(dataset, path)

    def store(self, case: Case, label: nib.Nifti1Image, revision: Revision) -> None:
        """Store a submitted label on the server unless it is already there; an empty label, too.

        Raises:
            Refused, Unreachable: if the server refuses it or does not answer.
        """
        study, seed = case.info["StudyInstanceUID"], _seed(revision)
        with self.source.asking():
            if self.source.client.search_for_series(study, search_filters={"SeriesInstanceUID": series_uid(seed)}):
                return
        array, number = np.asarray(label.dataobj), revision.number
        dataset = write_seg(
            array,
            label.affine,
            self._files(case),
            version=str(revision.record.get("model_version") or "by hand"),
            series_description=f"{DESCRIPTION}, version {number}{'' if array.any() else ', no tumour'}",
            content_label=f"VERSION_{number}",
            uid_seed=seed,
            may_be_empty=True,
        )
        store(self.source.client, dataset)

    def withdraw(self, case: Case, revisions: Sequence[Revision]) -> list[str]:
        """Delete labels from the server; return a sentence about those that it does not delete.

        Raises:
            Unreachable: if the server does not answer.
        """
        study, client = case.info["StudyInstanceUID"], self.source.client
        kept = [v.number for v in revisions if not delete_series(client, study, series_uid(_seed(v)))]
        if not kept:
            return []
        which = ", ".join(map(str, kept))
        return [f"The DICOM server does not delete: the SEG series of version {which} stays there until it is deleted."]

    def read(self, path: Path, grid: Grid) -> Drawing:
        """Read a submitted DICOM SEG.

        Raises:
            Refused: if the file is not a DICOM SEG, or is not on ``grid``.
        """
        try:
            label, names = read_seg(dcmread(path), grid.affine, grid.shape)
        except (InvalidDicomError, AttributeError, LookupError, ValueError, OSError, EOFError) as reason:
            raise Refused(f"The label is no readable DICOM SEG ({type(reason).__name__}).") from None
        segments = tuple(Segment(name, 0, value) for name, value in names.items())
        return Drawing(label.astype(np.uint16)[..., None], segments)

    def _files(self, case: Case) -> list[Path]:
        return sorted(self.source.dicom_folder(case).glob("*.dcm"))


def _seed(revision: Revision) -> tuple[str, str, str]:
    """Return the seed of a revision's series UID, so that each revision always has the same series."""
    return revision.case_id, str(revision.number), str(revision.record["sha256"])
