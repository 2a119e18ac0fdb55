"""Only one file depends on pydicom 2; this test lists what has to change for pydicom 3."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from brats_label import dicom

APP = Path(dicom.__file__).parents[2]
# Arguments and attributes that pydicom 3 removes, and their replacements.
GONE = {
    "write_like_original": "enforce_file_format=True for write_like_original=False",
    "is_little_endian": "nothing: the transfer syntax tells",
    "is_implicit_VR": "nothing: the transfer syntax tells",
    "_storage_sopclass_uids": "pydicom.uid",
    "read_file": "dcmread",
}


def test_only_one_file_uses_what_pydicom_3_removes():
    found = {
        f"{path.relative_to(APP)}: {name}"
        for path in APP.rglob("*.py")
        for name in GONE
        if re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))
    }
    here = "brats_label/dicom/__init__.py"
    assert found == {f"{here}: {name}" for name in ("write_like_original", "is_little_endian", "is_implicit_VR")}


def test_installed_pydicom_is_version_2():
    changes = "; ".join(f"{old} becomes {new}" for old, new in GONE.items())
    assert version("pydicom").startswith("2."), (
        f"pydicom {version('pydicom')}: change brats_label/dicom/__init__.py ({changes}), raise highdicom, "
        "pynetdicom and dicomweb-client in requirements.txt, and drop the limits in brats_label/doctor/__init__.py"
    )


def test_new_dataset_is_saved_as_a_standard_dicom_file(tmp_path):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.PatientID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3", "P"
    dicom.save_file(dicom.as_file(dataset), tmp_path / "a.dcm")
    assert (tmp_path / "a.dcm").read_bytes()[128:132] == b"DICM"
    read = dcmread(tmp_path / "a.dcm")
    assert (read.PatientID, read.file_meta.MediaStorageSOPInstanceUID) == ("P", "1.2.3")
    assert read.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"  # Explicit VR Little Endian
