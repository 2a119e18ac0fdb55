"""Cases from a DICOMweb server: each study is a case, and its series are identified by their headers."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

from ...dicom.client import Client, Connection
from ...dicom.report_documents import newest
from ...errors import NotFound
from ...settings import Settings
from .. import Case
from ..identity import Identities
from .study_list import StudyList
from .study_record import FetchedSeries, StudyRecord, is_uid

LOOK_AGAIN_S = 5.0  # shortest interval at which unknown IDs make us query the server again


class DicomWebSource:
    """Cases on a DICOMweb server. Safe to use from several threads. Implements ``CaseSource``.

    Args:
        url: of the DICOMweb service, such as http://127.0.0.1:8042/dicom-web.
        settings: ``reference`` and ``preprocess`` are used.
        cache: folder for downloaded and converted series.
        username, password: for basic authentication, if any.
        expiry_s: age at which the listing is refreshed, in the background.
        identities: the IDs given to studies so far; None keeps them in memory only.

    Raises:
        ClientError: if ``url`` is not an http address. No request is sent yet.
    """

    def __init__(
        self,
        url: str,
        settings: Settings,
        cache: Path,
        username: str = "",
        password: str = "",
        expiry_s: float = 30.0,
        identities: Identities | None = None,
    ) -> None:
        self._connection = Connection(url, username, password)
        self._series = FetchedSeries(self._connection, Path(cache))
        self._studies = StudyList(self._connection, self._series, settings, identities or Identities(), expiry_s)
        self._reports: dict[tuple, str] = {}

    @property
    def url(self) -> str:
        """Address of the DICOMweb service."""
        return self._connection.url

    @property
    def client(self) -> Client:
        """This thread's client."""
        return self._connection.client

    def cases(self) -> dict[str, Case]:
        """Return all cases by ID: the SeriesInstanceUID of the reference sequence when the study was first seen.
        Waits for the server the first time only.

        Raises:
            Unreachable: if the server has never answered.
        """
        return self._studies.cases()

    def refresh(self) -> None:
        """Query the server again. The series of unchanged studies are not queried.

        Raises:
            Unreachable: if it does not answer; the last listing is kept.
        """
        self._studies.refresh()

    def problems(self) -> list[str]:
        """Return a message for each study in the last listing that is not a case. Sends no request."""
        return self._studies.problems()

    def resolve(self, image_id: str) -> tuple[Case, str]:
        """Return the case and the sequence of a SeriesInstanceUID; a StudyInstanceUID means the reference sequence.

        Raises:
            NotFound: with the reason if the series was left out.
            Unreachable: if the server has never answered.
        """
        found = self._find(image_id)
        if found is None and is_uid(str(image_id)) and time.monotonic() - self._studies.looked > LOOK_AGAIN_S:
            self._connection.breaker.check()
            self.refresh()  # it may have arrived since
            found = self._find(image_id)
        if found is None:
            shown = "".join(c if c.isprintable() else "?" for c in str(image_id)[:80])
            raise NotFound(f"There is no series or study {shown!r} with MR images among {len(self._studies)} studies.")
        return found

    def native_files(self, case: Case) -> dict[str, Path]:
        """Return a NIfTI file per sequence. Only the chosen series are fetched, and only once.

        Raises:
            NotFound: if the case is no longer on the server.
            Refused: if a series does not form a volume.
            Unreachable: if the server does not answer.
        """
        record = self._record(case)
        files = self._series.nifti_files(record, {image.image_id: image.name for image in case.images.values()})
        return {s: files[image.image_id] for s, image in case.images.items()}

    def dicom_folder(self, case: Case, sequence: str = "") -> Path:
        """Return the folder with the instances of one sequence (default: the reference), to which a SEG refers.

        Raises:
            As ``native_files``.
        """
        record, image = self._record(case), case.images[sequence or case.reference]
        return self._series.dicom_folder(record, image.image_id, image.name)

    def fingerprint(self, case: Case) -> list:
        """Return the series that serve as sequences or may contain a report, with their instance counts.

        Raises:
            NotFound: if the case is no longer on the server.
        """
        record = self._record(case)
        uids = [*(image.image_id for _, image in sorted(case.images.items())), *sorted(record.reports)]
        return [[sorted(case.images), *((uid, record.counts.get(uid)) for uid in uids)]]

    def report(self, case: Case) -> str:
        """Return the text of the study's newest structured report or encapsulated text; "" without one.

        Raises:
            Unreachable: if the server does not answer.
        """
        record = self._record(case)
        if not record.reports:
            return ""
        key = (record.uid, *((uid, record.counts[uid]) for uid in record.reports))
        if key not in self._reports:
            with self.asking():
                documents = [ds for uid in record.reports for ds in self.client.retrieve_series(record.uid, uid)]
            self._reports[key] = newest(documents)
        return self._reports[key]

    def _find(self, image_id: str) -> tuple[Case, str] | None:
        cases = self.cases()
        named = [cases[image_id]] if image_id in cases else []
        # The case with this ID comes first. If it is also the ID of a series, a viewer wants the grid of that series.
        for case in (*named, *cases.values()):
            if case.info["StudyInstanceUID"] == image_id:
                return case, case.reference
            for sequence, image in case.images.items():
                if image.image_id == image_id:
                    return case, sequence
            if case in named:
                return case, case.reference
            for left in case.left_out:
                if left.image_id == image_id:
                    raise NotFound(f"Series {left.name} serves as no sequence: {left.reason}.")
        for record in (self._studies.records or {}).values():
            if image_id in (record.uid, *record.headers) and (why := record.why_no_case()):
                raise NotFound(why)
        return None

    def _record(self, case: Case) -> StudyRecord:
        self.cases()
        record = (self._studies.records or {}).get(case.info.get("StudyInstanceUID", ""))
        if record is None:
            raise NotFound(f"Case {case.case_id} is no longer on the DICOMweb server.")
        return record

    def asking(self) -> AbstractContextManager[None]:
        """Wrap requests to the server.

        Raises:
            Unreachable: if the server does not answer, or failed another caller some seconds ago.
        """
        return self._connection.asking()
