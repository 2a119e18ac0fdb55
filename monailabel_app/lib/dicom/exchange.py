"""Labels and answers as DICOM SEG, to and from the server that the images are on."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from ..cases.case import Case
from ..cases.grid import Grid
from ..errors import Refused
from ..labels.drawing import Drawing, Segment
from ..labels.version import Version
from .seg import read_seg, store, write_seg
from .web_source import DicomWebSource


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
            label: numbers of ``infers.labels.LABELS`` on the case's reference grid.
            path: where to.
            version: of the weights.

        Raises:
            Refused: for an answer without a single voxel, which DICOM SEG cannot hold.
        """
        self._dataset(case, label, version, "AUTOMATIC").save_as(path, write_like_original=False)

    def store(self, case: Case, label: nib.Nifti1Image, version: Version) -> None:
        """Put a label that a person submitted on the server.

        Raises:
            Refused, Unreachable: if the server does not take it.
        """
        made_by = str(version.record.get("model_version") or "by hand")
        store(self.source.client, self._dataset(case, label, made_by, "SEMIAUTOMATIC"))

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

    def _dataset(self, case: Case, label: nib.Nifti1Image, version: str, how: str):
        files = sorted(self.source.dicom_folder(case).glob("*.dcm"))
        return write_seg(np.asarray(label.dataobj), label.affine, files, version=version, algorithm_type=how)
