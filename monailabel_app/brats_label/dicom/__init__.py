"""DICOM: client, series, segmentations and reports.

Only this file depends on pydicom 2, which MONAI Label 0.8.5 needs; it is the only one to change for pydicom 3.
"""

from __future__ import annotations

import os

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


def save_file(dataset: Dataset, path: str | os.PathLike) -> None:
    """Write a dataset that has its file meta information as a DICOM file, with preamble and prefix."""
    dataset.save_as(path, write_like_original=False)  # pydicom 3: enforce_file_format=True


def as_file(dataset: Dataset) -> FileDataset:
    """Wrap a new dataset as a file in Explicit VR Little Endian, ready for ``save_file``."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(None, dataset, file_meta=meta, preamble=b"\0" * 128)
    file.is_little_endian, file.is_implicit_VR = True, False  # pydicom 3: remove, implied by the transfer syntax
    return file
