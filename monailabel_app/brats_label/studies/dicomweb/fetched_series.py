"""Series of a DICOMweb server as files: each is fetched and converted once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ...dicom import pydicom2
from ...dicom.client import Connection
from ...dicom.volume import to_nifti
from ...errors import Refused
from ..disk_cache import KeyedLocks, touch, whole_folder
from .study_record import StudyRecord


class FetchedSeries:
    """Fetches and converts series into a cache; one caller at a time per study. Safe to use from several threads.

    Args:
        connection: to the server that they are on.
        cache: folder for them; what lies there may be deleted at any time.
    """

    def __init__(self, connection: Connection, cache: Path) -> None:
        self._connection, self.cache = connection, Path(cache)
        self._fetching = KeyedLocks()

    def nifti_files(self, record: StudyRecord, names: Mapping[str, str], skip_refused: bool = False) -> dict[str, Path]:
        """A NIfTI file per series, by SeriesInstanceUID.

        Args:
            record: the study.
            names: what the wanted series are called, for messages, by SeriesInstanceUID.
            skip_refused: leave out a series that makes no volume.

        Raises:
            Refused: if a series makes no volume.
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
        """Folder with the instances of one series.

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
            with whole_folder(target) as draft:
                to_nifti(source.glob("*.dcm"), draft / file.name, f"Series {name}")
        touch([file], self.cache)
        return file

    def _dicom(self, record: StudyRecord, uid: str, name: str) -> Path:
        expected = record.counts.get(uid, 0)
        target = self.cache / record.uid / uid / f"dicom-{expected}"
        if not target.is_dir():
            with whole_folder(target) as draft:
                count = self._download(record.uid, uid, lambda number: draft / f"{number:05d}.dcm")
                if count < max(expected, 1):
                    raise Refused(f"Series {name}: found {count} instances; expected {expected}, as the server lists.")
        touch(target.glob("*.dcm"), self.cache)
        return target

    def _download(self, study: str, series: str, path: Callable[[int], Path]) -> int:
        count = 0
        with self._connection.asking():
            for count, instance in enumerate(self._connection.client.iter_series(study, series), 1):
                self._connection.hear()
                pydicom2.save(instance, path(count))
        return count
