"""Cases from a DICOMweb server: a study is a case, its series are told apart by their headers."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests

from ..cases.case import Case
from ..cases.disk_cache import touch, whole_folder
from ..cases.identities import Identities
from ..cases.keyed_locks import KeyedLocks
from ..durable import durable_write
from ..errors import NotFound, Refused, Unreachable
from ..settings import Settings
from .client import Client, connect, pages, reaching
from .convert import to_nifti
from .image_choice import tell_by_image
from .outage import Outage
from .report_documents import newest
from .small_grid import on_small_grid
from .study_index import STUDY_FIELDS, StudyRecord, is_uid, look_up, signature_of

__all__ = ["DicomWebSource"]

log = logging.getLogger(__name__)
ASK_AT_ONCE = 4  # studies that are asked about at a time
PATIENCE_S = 20.0  # so long nobody waits for a listing during which the server says nothing
LOOK_AGAIN_S = 5.0  # for an id that is not known, the server is asked at most this often


class DicomWebSource:
    """Cases on a DICOMweb server. Safe to use from several threads. Implements ``CaseSource``.

    Args:
        url: of the DICOMweb service, such as http://127.0.0.1:8042/dicom-web.
        settings: ``reference`` and ``register`` are used.
        cache: folder for downloaded and converted series.
        username, password: for basic authentication, if any.
        expiry_s: age at which the listing is refreshed, in the background.
        identities: what studies were called before; None remembers it while the source lives.

    Raises:
        ClientError: if ``url`` is no address. Nothing is asked of the server yet.
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
        self.url, self._settings, self._cache, self._expiry_s = url, settings, Path(cache), expiry_s
        self._login, self._identities = (username, password), identities or Identities()
        connect(url, username, password)
        self._local = threading.local()
        self._refreshing, self._outage = threading.Lock(), Outage()
        self._fetching = KeyedLocks()
        self._records: dict[str, StudyRecord] | None = None
        self._cases: dict[str, Case] = {}
        self._looked = self._tried = self._heard = float("-inf")
        self._reports: dict[tuple, str] = {}
        self._unread: dict[str, str] = {}  # why a study could not be listed

    @property
    def client(self) -> Client:
        """This thread's client."""
        if not hasattr(self._local, "client"):
            self._local.client = connect(self.url, *self._login)
        return self._local.client

    def cases(self) -> dict[str, Case]:
        """All cases by id, the SeriesInstanceUID of their reference sequence when they were first seen; waits for the
        server the first time only.

        Raises:
            Unreachable: if the server has never answered.
        """
        if self._records is None:
            self._outage.check()
            with self._turn_to_look():
                if self._records is None:
                    self._look()
        elif time.monotonic() - max(self._looked, self._tried) > self._expiry_s:
            self._look_in_background()
        return dict(self._cases)

    def refresh(self) -> None:
        """Ask the server again; studies that have not changed are not asked for their series.

        Raises:
            Unreachable: if it does not answer; what was known stays.
        """
        with self._turn_to_look():
            self._look()

    def problems(self) -> list[str]:
        """A sentence for each study of the server that is no case, by what was last heard of it. Asks nothing."""
        known = sorted((self._records or {}).items())
        return [*(why for _, record in known if (why := record.why_no_case())), *self._unread.values()]

    def resolve(self, image_id: str) -> tuple[Case, str]:
        """The case and the sequence that a SeriesInstanceUID shows; a StudyInstanceUID shows the reference sequence.

        Raises:
            NotFound: with the reason if the series was left out.
            Unreachable: if the server has never answered.
        """
        found = self._find(image_id)
        if found is None and is_uid(str(image_id)) and time.monotonic() - self._looked > LOOK_AGAIN_S:
            self._outage.check()
            self.refresh()  # it may have arrived since
            found = self._find(image_id)
        if found is None:
            shown = "".join(c if c.isprintable() else "?" for c in str(image_id)[:80])
            raise NotFound(f"There is no series or study {shown!r} with MR images among {len(self._cases)} studies.")
        return found

    def native_files(self, case: Case) -> dict[str, Path]:
        """A NIfTI file per sequence; only the chosen series are fetched, once.

        Raises:
            NotFound: if the case has gone.
            Refused: if a series makes no volume.
            Unreachable: if the server does not answer.
        """
        record = self._record(case)
        with self._fetching(record.uid):
            return {s: self._nifti(record, image.image_id, image.name) for s, image in case.images.items()}

    def dicom_folder(self, case: Case, sequence: str = "") -> Path:
        """Folder with the instances of one sequence, the reference if not told otherwise; a SEG refers to them.

        Raises:
            As ``native_files``.
        """
        record, image = self._record(case), case.images[sequence or case.reference]
        with self._fetching(record.uid):
            return self._dicom(record, image.image_id, image.name)

    def fingerprint(self, case: Case) -> list:
        """The series that serve as sequences or may hold a report, and how many instances each has.

        Raises:
            NotFound: if the case has gone.
        """
        record = self._record(case)
        uids = [*(image.image_id for _, image in sorted(case.images.items())), *sorted(record.reports)]
        return [[sorted(case.images), *((uid, record.counts.get(uid)) for uid in uids)]]

    def report(self, case: Case) -> str:
        """The text of the study's newest structured report or encapsulated text; "" without one.

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
        # The case whose id it is comes first; but a viewer that shows this very series wants the answer on its grid.
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
        for record in (self._records or {}).values():
            if image_id in (record.uid, *record.headers) and (why := record.why_no_case()):
                raise NotFound(why)
        return None

    def _record(self, case: Case) -> StudyRecord:
        self.cases()
        record = (self._records or {}).get(case.info.get("StudyInstanceUID", ""))
        if record is None:
            raise NotFound(f"Case {case.case_id} is no longer on the DICOMweb server.")
        return record

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around requests to the server.

        Raises:
            Unreachable: if it does not answer, or kept somebody else waiting in vain some seconds ago.
        """
        self._outage.check()
        with self._outage.noting(), reaching(self.url):
            yield

    @contextmanager
    def _turn_to_look(self) -> Iterator[None]:
        """Wait for whoever is looking, and share the failure if that is how it ends.

        Raises:
            Unreachable: that failure, or if the server has said nothing for too long.
        """
        begun = time.monotonic()
        while not self._refreshing.acquire(timeout=0.2):
            if time.monotonic() - max(begun - PATIENCE_S + 1, self._heard) > PATIENCE_S:
                host = urlsplit(self.url).netloc.rpartition("@")[2]
                raise Unreachable(
                    f"The DICOMweb server at {host} was asked for its studies and has not answered yet; check that it "
                    "runs and is not overloaded."
                )
        try:
            self._outage.check(since=begun)
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
        """Ask for all studies; the caller holds ``_refreshing``."""
        self._tried = self._heard = time.monotonic()
        before = self._records or {}
        with self._outage.noting(), reaching(self.url):
            items = pages(
                self.client.search_for_studies,
                "0020000D",
                fields=STUDY_FIELDS,
                search_filters={"ModalitiesInStudy": "MR"},
            )
        unread: dict[str, str] = {}
        with ThreadPoolExecutor(ASK_AT_ONCE, thread_name_prefix="dicomweb-study") as pool:
            records = list(pool.map(lambda item: self._look_at(item, before, unread), items))
        known = {record.uid: record for record in records if record is not None}
        reference, register = self._settings.reference, self._settings.register
        cases = (record.case(reference, self._identities, register) for record in known.values())
        self._cases = {case.case_id: case for case in cases if case is not None}
        self._records, self._unread, self._looked = known, unread, time.monotonic()

    def _look_at(self, item: dict, before: dict[str, StudyRecord], unread: dict[str, str]) -> StudyRecord | None:
        """One study; one that cannot be read must not hide the others."""
        uid = str(item["0020000D"]["Value"][0])
        old, signature = before.get(uid), signature_of(item)
        if old is not None and signature is not None and old.signature == signature:
            return old
        self._heard = time.monotonic()
        try:
            self._outage.check()
            with self._outage.noting():
                record = look_up(self.client, item, old)
            self._heard = time.monotonic()
            return self._settle(record) if record.choice.needs_image else record
        except (requests.Timeout, requests.ConnectionError, Unreachable) as problem:
            log.warning("Study %s could not be asked for: %s", uid, type(problem).__name__)
            if old is None:
                unread[uid] = f"Study {uid} is no case yet: the DICOMweb server did not tell what it holds."
            return old
        except (requests.RequestException, KeyError, IndexError, ValueError, TypeError, AttributeError) as problem:
            log.warning("Study %s was left out: its listing cannot be read (%s)", uid, type(problem).__name__)
            unread[uid] = f"Study {uid} is no case: what the DICOMweb server says of it cannot be read."
            return None

    def _settle(self, record: StudyRecord) -> StudyRecord:
        """Look at the images of series that headers do not tell apart; the answers are kept."""
        answers: dict[str, str] = {}
        for question in record.choice.questions:
            # In a folder of its own: what trims the cache takes a folder with files, and all below it, as one.
            kept = self._cache / record.uid / "answers" / f"{'-'.join(question.sequences)}.json"
            asked = {uid: record.counts[uid] for uid in question.uids}
            old = json.loads(kept.read_text()) if kept.is_file() else {}
            if old.get("asked") != asked:
                old = {"asked": asked, "answers": self._tell(record, question.uids, question.sequences)}
                with durable_write(kept) as draft:
                    draft.write_text(json.dumps(old, indent=2))
            answers |= old["answers"]
        return record.answered(answers)

    def _tell(self, record: StudyRecord, uids: Iterable[str], sequences: Iterable[str]) -> dict[str, str]:
        files, answers = {}, {}
        with self._fetching(record.uid):
            for uid in uids:
                try:
                    files[uid] = self._nifti(record, uid, record.headers[uid].name)
                except Refused:
                    answers[uid] = ""
        return answers | tell_by_image(on_small_grid(files), tuple(sequences))

    def _nifti(self, record: StudyRecord, uid: str, name: str) -> Path:
        target = self._cache / record.uid / uid / f"nifti-{record.counts.get(uid, 0)}"
        file = target / "image.nii.gz"
        if not file.is_file():
            source = self._dicom(record, uid, name)
            with whole_folder(target) as draft:
                to_nifti(source.glob("*.dcm"), draft / file.name, f"Series {name}")
        touch([file], self._cache)
        return file

    def _dicom(self, record: StudyRecord, uid: str, name: str) -> Path:
        expected = record.counts.get(uid, 0)
        target = self._cache / record.uid / uid / f"dicom-{expected}"
        if not target.is_dir():
            with whole_folder(target) as draft:
                count = self._download(record.uid, uid, lambda number: draft / f"{number:05d}.dcm")
                if count < max(expected, 1):
                    raise Refused(f"Series {name}: found {count} instances; expected {expected}, as the server lists.")
        touch(target.glob("*.dcm"), self._cache)
        return target

    def _download(self, study: str, series: str, path: Callable[[int], Path]) -> int:
        count = 0
        with self.asking():
            for count, instance in enumerate(self.client.iter_series(study, series), 1):
                self._heard = time.monotonic()
                instance.save_as(path(count), write_like_original=False)
        return count
