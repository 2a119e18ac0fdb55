"""Labels and answers as DICOM SEG, to and from the server that the images are on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from brats_clip.geometry import Grid

from ..dicom import save_file
from ..dicom.client import delete_series
from ..dicom.seg import DESCRIPTION, read_seg, series_uid, store, write_seg
from ..errors import Refused
from ..studies import Case
from ..studies.dicomweb import DicomWebSource
from . import Revision
from .reading import Drawing, Segment


class SegExchange:
    """What the app does with DICOM SEG; each refers to the series of the case's reference sequence.

    Args:
        source: where the images are.
    """

    def __init__(self, source: DicomWebSource) -> None:
        self.source = source

    def write(self, case: Case, label: nib.Nifti1Image, path: Path, version: str) -> None:
        """Write an answer.

        Args:
            case: whose.
            label: numbers of ``dicom.segments.LABELS`` on the case's reference grid.
            path: where to.
            version: of the weights.

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
