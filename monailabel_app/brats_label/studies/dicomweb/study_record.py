"""One study on a DICOMweb server: its series, the chosen ones and those with reports; and downloads of series."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.dataset import Dataset

from ...dicom import save_file
from ...dicom.client import Client, Connection
from ...dicom.volume import to_nifti
from ...durable import KeyedLocks, atomic_folder, touch
from ...errors import Refused
from .. import SEQUENCES, Case, reference_of
from ..identity import Identities, Identity
from .series import SeriesHeader, read_header
from .series_choice import SPOKEN, StudyChoice, choose

REPORT_MODALITIES = ("SR", "DOC")
NO_IMAGES = ("SEG", "PR", "KO", "RTSTRUCT", "PLAN", "REG", "AU", "OT")
STUDY_FIELDS = ("PatientID", "IssuerOfPatientID", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
SERIES_FIELDS = ("SeriesDescription", "SeriesNumber", "NumberOfSeriesRelatedInstances")
SHOWN = 5  # series listed in a message
_UID = re.compile(r"[0-9][0-9.]{0,63}")


@dataclass(frozen=True)
class StudyRecord:
    """A study as it was when the server was queried.

    Attributes:
        signature: number of series and of instances; None if the server does not report them.
        counts: number of instances by SeriesInstanceUID.
        reports: SeriesInstanceUIDs of series that may hold a report.
    """

    uid: str
    patient: str
    date: str
    signature: tuple[int, int] | None
    headers: Mapping[str, SeriesHeader] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    reports: tuple[str, ...] = ()
    choice: StudyChoice = field(default_factory=StudyChoice)

    def answered(self, answers: Mapping[str, str]) -> StudyRecord:
        """Return the record with the choice updated by the answers of the images."""
        return replace(self, choice=choose(self.headers.values(), answers))

    def case(self, reference: str, identities: Identities | None = None, mode: str = "auto") -> Case | None:
        """Return the study as a case, or None if no series serves as any sequence.

        Args:
            reference: the sequence whose grid the case is stored on, if the study has it. A new study gets the
                SeriesInstanceUID of its reference sequence as its ID.
            identities: the IDs given to studies so far, if they are stored.
            mode: preprocessing mode (``never``: sequences are not registered), for a note to users.
        """
        chosen = self.choice.chosen
        if not chosen:
            return None
        reference = reference_of(reference, chosen)
        new = Identity(chosen[reference].image_id, self.patient)
        [(case_id, patient)] = (identities or Identities()).of([self.uid], lambda *_: [new])
        info = {
            "StudyInstanceUID": self.uid,
            "SeriesInstanceUID": chosen[reference].image_id,
            "StudyDate": self.date,
            "Modality": "MR",
            "series": {
                s: {"SeriesInstanceUID": chosen[s].image_id, "name": chosen[s].name, "reason": chosen[s].reason}
                for s in SEQUENCES
                if s in chosen
            },
            "left_out": [
                {"SeriesInstanceUID": image.image_id, "name": image.name, "reason": image.reason}
                for image in self.choice.left_out
            ],
        }
        if notes := [*self.choice.notes, *self._frames(reference, mode)]:
            info["notes"] = notes
        return Case(case_id, patient, dict(chosen), reference, tuple(self.choice.left_out), info)

    def _frames(self, reference: str, mode: str) -> list[str]:
        """Return a note for each sequence in another frame of reference than the reference sequence."""
        frames = {s: self.headers[image.image_id].frame for s, image in self.choice.chosen.items()}
        what = (
            "it is aligned by registration"
            if mode != "never"
            else "the patient may have moved between them, and nothing aligns them; use --conf preprocess auto"
        )
        return [
            f"{SPOKEN[s]} lies in another frame of reference than {SPOKEN[reference]}: {what}."
            for s in SEQUENCES
            if frames.get(s) and frames[reference] and frames[s] != frames[reference]
        ]

    def why_no_case(self) -> str:
        """Return a message for users on why no series can be used; "" if one can."""
        if self.choice.chosen:
            return ""
        left = [f"{image.name}: {image.reason}" for image in self.choice.left_out]
        more = f", and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        says = "; ".join(left[:SHOWN]) or "it lists no MR series"
        return f"Study {self.uid} is no case, since none of its series can be used ({says}{more})."


def is_uid(text: str) -> bool:
    """Return whether ``text`` is a UID that is safe in a path or an address."""
    return _UID.fullmatch(text) is not None


def signature_of(item: dict) -> tuple[int, int] | None:
    """Return the numbers of series and instances of a study in the server's list. They change with every upload."""
    numbers = [_value(item, tag) for tag in ("00201206", "00201208")]
    return None if None in numbers else (int(numbers[0]), int(numbers[1]))


def look_up(client: Client, item: dict, before: StudyRecord | None = None) -> StudyRecord:
    """Query the series of a study, and the headers of those that are new or have another instance count.

    Args:
        item: the study in the server's list.
        before: the previous record of the study.

    Raises:
        KeyError, ValueError: if the server's answer is malformed.
        requests.RequestException: if the server does not answer.
    """
    study = str(_value(item, "0020000D") or "")
    if not is_uid(study):
        raise ValueError("a study without a valid StudyInstanceUID")
    headers, counts, reports = {}, {}, []
    for found in client.search_for_series(study, fields=SERIES_FIELDS):
        uid, modality = str(_value(found, "0020000E")), str(_value(found, "00080060") or "")
        if not is_uid(uid):
            continue
        counts[uid] = int(_value(found, "00201209") or 0)
        if modality in REPORT_MODALITIES:
            reports.append(uid)
        elif modality == "MR":
            known = before is not None and uid in before.headers and before.counts.get(uid) == counts[uid] != 0
            headers[uid] = before.headers[uid] if known else _fetch_header(client, study, uid, counts[uid])
        elif modality not in NO_IMAGES:
            description = str(_value(found, "0008103E") or "")
            headers[uid] = SeriesHeader(uid, modality=modality, description=description)
    patient = "|".join(str(_value(item, tag) or "") for tag in ("00100020", "00100021"))
    return StudyRecord(
        uid=study,
        patient=hashlib.sha256((patient if patient != "|" else study).encode()).hexdigest()[:16],
        date=str(_value(item, "00080020") or ""),
        signature=signature_of(item),
        headers=headers,
        counts=counts,
        reports=tuple(reports),
        choice=choose(headers.values()),
    )


def _fetch_header(client: Client, study: str, series: str, count: int) -> SeriesHeader:
    listed = client.search_for_instances(study, series, limit=1)
    metadata = client.retrieve_instance_metadata(study, series, str(_value(listed[0], "00080018")))
    # Newer versions of the library return the data set, older ones a list that contains it.
    metadata = metadata[0] if isinstance(metadata, list) else metadata
    dataset = Dataset.from_json(metadata, bulk_data_uri_handler=lambda tag, vr, uri: None)
    return read_header(dataset, slices=count)


def _value(item: dict, tag: str) -> str | int | float | None:
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]


class FetchedSeries:
    """Fetch and convert series into a cache; one caller at a time per study. Safe to use from several threads.

    Args:
        connection: to the server of the series.
        cache: folder for the files, which may be deleted at any time.
    """

    def __init__(self, connection: Connection, cache: Path) -> None:
        self._connection, self.cache = connection, Path(cache)
        self._fetching = KeyedLocks()

    def nifti_files(self, record: StudyRecord, names: Mapping[str, str], skip_refused: bool = False) -> dict[str, Path]:
        """Return a NIfTI file per series, by SeriesInstanceUID.

        Args:
            record: the study.
            names: of the wanted series, for messages, by SeriesInstanceUID.
            skip_refused: leave out series that do not form a volume.

        Raises:
            Refused: if a series does not form a volume.
            Unreachable: if the server does not answer.
        """
        files = {}
        with self._fetching(record.uid):
            for uid, name in names.items():
                try:
                    files[uid] = self._nifti(record, uid, name)
                except Refused:
                    if not skip_refused:
                        raise
        return files

    def dicom_folder(self, record: StudyRecord, uid: str, name: str) -> Path:
        """Return the folder with the instances of one series.

        Raises:
            As ``nifti_files``.
        """
        with self._fetching(record.uid):
            return self._dicom(record, uid, name)

    def _nifti(self, record: StudyRecord, uid: str, name: str) -> Path:
        target = self.cache / record.uid / uid / f"nifti-{record.counts.get(uid, 0)}"
        file = target / "image.nii.gz"
        if not file.is_file():
            source = self._dicom(record, uid, name)
            with atomic_folder(target) as draft:
                to_nifti(source.glob("*.dcm"), draft / file.name, f"Series {name}")
        touch([file], self.cache)
        return file

    def _dicom(self, record: StudyRecord, uid: str, name: str) -> Path:
        expected = record.counts.get(uid, 0)
        target = self.cache / record.uid / uid / f"dicom-{expected}"
        if not target.is_dir():
            with atomic_folder(target) as draft:
                count = self._download(record.uid, uid, lambda number: draft / f"{number:05d}.dcm")
                if count < max(expected, 1):
                    raise Refused(f"Series {name}: found {count} instances; expected {expected}, as the server lists.")
        touch(target.glob("*.dcm"), self.cache)
        return target

    def _download(self, study: str, series: str, path: Callable[[int], Path]) -> int:
        count = 0
        with self._connection.asking():
            for count, instance in enumerate(self._connection.client.iter_series(study, series), 1):
                self._connection.note_answer()
                save_file(instance, path(count))
        return count
