"""Labels on their way to the DICOM server, as DICOM SEG: delivered when they are saved, and again until it has them."""

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

    A case has a row while the server lacks its newest label. The row is written before the label is stored and goes
    once the server has the label, so that neither an outage nor a killed process loses a delivery. Of several labels
    that the server missed it gets the newest. Safe to use from several threads.

    Args:
        store: has the table ``outbox``.
        labels: where the labels are.
        find: the case with an id.
        put: delivers a label: case, label on the reference grid, revision. Twice the same must do no harm.
        withdraw: takes labels of a case back that are no longer in use; returns what to tell people.
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
        """Note that the label of a case is about to change."""
        values = {"token": uuid.uuid4().hex, "attempts": 0, "problem": ""}
        row = insert(outbox).values(case_id=case_id, **values)
        with self._store.write() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["case_id"], set_=values))

    def deliver(self, case_id: str) -> list[str]:
        """Deliver the newest label of a case, or withdraw it if it was removed; nothing if the server is up to date.

        Returns:
            What to tell people.

        Raises:
            ClientError: if it cannot be done now; ``retry`` tries again.
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
        """Deliver what the server has missed; stops where it does not answer."""
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
                except Exception as reason:  # the others must not wait for it
                    if not isinstance(reason, ClientError):
                        logger.exception("label of case %s was not delivered", entry.case_id)
        finally:
            self._retrying.release()

    def retry_in_background(self) -> None:
        """``retry``, without waiting for it."""
        if self._entries():
            threading.Thread(target=self.retry, name="outbox", daemon=True).start()

    def problems(self) -> list[str]:
        """A sentence for each label that could not be delivered yet."""
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
    """What the app does with DICOM SEG; each refers to the series of the case's reference sequence."""

    def __init__(self, source: DicomWebSource) -> None:
        self.source = source

    def write(self, case: Case, label: nib.Nifti1Image, path: Path, version: str) -> None:
        """Write an answer in the numbers of ``naming.LABELS``, on the reference grid, by the weights ``version``.

        Raises:
            Refused: for an answer without a single voxel, which DICOM SEG cannot hold.
        """
        dataset = write_seg(
            np.asarray(label.dataobj), label.affine, self._files(case), version=version, algorithm_type="AUTOMATIC"
        )
        save_file(dataset, path)

    def store(self, case: Case, label: nib.Nifti1Image, revision: Revision) -> None:
        """Put a label that a person submitted on the server, if it is not there; an empty one, too.

        Raises:
            Refused, Unreachable: if the server does not take it.
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
        """Delete labels from the server; returns a sentence on those that it keeps.

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
        """Read a SEG that a client submitted.

        Raises:
            Refused: if it is none, or does not lie on ``grid``.
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
    """A revision has one series, however often it is sent and whoever looks for it later."""
    return revision.case_id, str(revision.number), str(revision.record["sha256"])
