"""The MR studies of a DICOMweb server, listed in the background and served from memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests

from ...dicom.client import Connection, as_unreachable, pages
from ...errors import Unreachable
from ...settings import Settings
from .. import Case
from ..identity import Identities
from .image_choice import answer_by_images
from .study_record import STUDY_FIELDS, FetchedSeries, StudyRecord, look_up, signature_of

log = logging.getLogger(__name__)
PARALLEL = 4  # studies queried in parallel
INACTIVITY_S = 20.0  # longest wait for a listing while the server does not answer


class StudyList:
    """Studies and their cases, as last listed by the server. Safe to use from several threads.

    Args:
        connection: to the server.
        series: fetches series whose headers do not identify them.
        settings: ``reference`` and ``preprocess`` are used.
        identities: the IDs given to studies so far.
        expiry_s: age at which the listing is refreshed, in the background.

    Attributes:
        records: by StudyInstanceUID; None until the server has answered.
        looked: time of the last listing (``time.monotonic``).
    """

    def __init__(
        self,
        connection: Connection,
        series: FetchedSeries,
        settings: Settings,
        identities: Identities,
        expiry_s: float,
    ) -> None:
        self._connection, self._series, self._settings = connection, series, settings
        self._identities, self._expiry_s = identities, expiry_s
        self._refreshing = threading.Lock()
        self.records: dict[str, StudyRecord] | None = None
        self._cases: dict[str, Case] = {}
        self.looked = self._tried = float("-inf")
        self._unread: dict[str, str] = {}  # why a study could not be listed

    def __len__(self) -> int:
        """Return the number of cases in the last listing."""
        return len(self._cases)

    def cases(self) -> dict[str, Case]:
        """Return all cases by ID. Waits for the server the first time only.

        Raises:
            Unreachable: if the server has never answered.
        """
        if self.records is None:
            self._connection.breaker.check()
            with self._only_one_refreshes():
                if self.records is None:
                    self._look()
        elif time.monotonic() - max(self.looked, self._tried) > self._expiry_s:
            self._look_in_background()
        return dict(self._cases)

    def refresh(self) -> None:
        """Query the server again. The series of unchanged studies are not queried.

        Raises:
            Unreachable: if it does not answer; the last listing is kept.
        """
        with self._only_one_refreshes():
            self._look()

    def problems(self) -> list[str]:
        """Return a message for each study in the last listing that is not a case. Sends no request."""
        known = sorted((self.records or {}).items())
        return [*(why for _, record in known if (why := record.why_no_case())), *self._unread.values()]

    def replace_listing(self, records: dict[str, StudyRecord], unread: dict[str, str] | None = None) -> None:
        """Replace the listing.

        Args:
            records: by StudyInstanceUID.
            unread: by StudyInstanceUID, a message on each study that could not be listed.
        """
        reference, mode = self._settings.reference, self._settings.preprocess
        cases = (record.case(reference, self._identities, mode) for record in records.values())
        self._cases = {case.case_id: case for case in cases if case is not None}
        self.records, self._unread, self.looked = records, unread or {}, time.monotonic()

    @contextmanager
    def _only_one_refreshes(self) -> Iterator[None]:
        """Hold the lock for refreshing. If another thread refreshed meanwhile and failed, raise its error.

        Raises:
            Unreachable: that error, or if the server has been inactive for too long.
        """
        begun = time.monotonic()
        while not self._refreshing.acquire(timeout=0.2):
            if time.monotonic() - max(begun - INACTIVITY_S + 1, self._connection.last_answer) > INACTIVITY_S:
                raise Unreachable(
                    f"The DICOMweb server at {self._connection.host} was asked for its studies and has not answered "
                    "yet; check that it runs and is not overloaded."
                )
        try:
            self._connection.breaker.check(since=begun)
            yield
        finally:
            self._refreshing.release()

    def _look_in_background(self) -> None:
        if not self._refreshing.acquire(blocking=False):
            return

        def look() -> None:
            try:
                self._look()
            except Exception as problem:
                log.warning("The list of studies was not refreshed: %s", problem)
            finally:
                self._refreshing.release()

        threading.Thread(target=look, name="dicomweb-listing", daemon=True).start()

    def _look(self) -> None:
        """Query all studies; the caller holds ``_refreshing``."""
        self._connection.note_answer()
        self._tried = self._connection.last_answer
        before = self.records or {}
        with self._connection.breaker.recording(), as_unreachable(self._connection.url):
            items = pages(
                self._connection.client.search_for_studies,
                "0020000D",
                fields=STUDY_FIELDS,
                search_filters={"ModalitiesInStudy": "MR"},
            )
        unread: dict[str, str] = {}
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="dicomweb-study") as pool:
            records = list(pool.map(lambda item: self._look_at(item, before, unread), items))
        self.replace_listing({record.uid: record for record in records if record is not None}, unread)

    def _look_at(self, item: dict, before: dict[str, StudyRecord], unread: dict[str, str]) -> StudyRecord | None:
        """Query one study. A study that cannot be read must not hide the others."""
        uid = str(item["0020000D"]["Value"][0])
        old, signature = before.get(uid), signature_of(item)
        if old is not None and signature is not None and old.signature == signature:
            return old
        self._connection.note_answer()
        try:
            self._connection.breaker.check()
            with self._connection.breaker.recording():
                record = look_up(self._connection.client, item, old)
            self._connection.note_answer()
            return answer_by_images(record, self._series) if record.choice.needs_image else record
        except (requests.Timeout, requests.ConnectionError, Unreachable) as problem:
            log.warning("Study %s could not be queried: %s", uid, type(problem).__name__)
            if old is None:
                unread[uid] = f"Study {uid} is no case yet: the DICOMweb server did not list its series."
            return old
        except (requests.RequestException, KeyError, IndexError, ValueError, TypeError, AttributeError) as problem:
            log.warning("Study %s was left out: its listing cannot be read (%s)", uid, type(problem).__name__)
            unread[uid] = f"Study {uid} is no case: the DICOMweb server's answer about it cannot be read."
            return None
