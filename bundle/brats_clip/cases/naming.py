"""File naming conventions of public data sets, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import PurePath

from ..images import split_channel
from ..labels import BRATS_2018, BRATS_2023, BRATS_PED, MSD

SEQUENCES: tuple[str, ...] = ("t1", "t1ce", "t2", "flair")
# The image, the label and all results of a case are on the grid of this sequence.
REFERENCE = "t1ce"

NIFTI_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True, eq=False)
class Naming:
    """A file naming convention: ``<case id><ending>.nii.gz``, and ``.txt`` for the report.

    Args:
        name: for messages.
        endings: what follows the case id, for each of t1, t1ce, t2, flair, label and report; the usual one first.
        convention: what the label values mean under this naming (a key of ``labels.CONVENTIONS``).
    """

    name: str
    endings: dict[str, tuple[str, ...]]
    convention: str

    def pattern(self, role: str) -> str:
        """Return the file name to expect for ``role``, for messages."""
        return f"CASE{self.endings[role][0]}" + (".txt" if role == "report" else ".nii.gz")


NAMINGS: tuple[Naming, ...] = (
    Naming(
        "BraTS 2018-2021",
        {
            "t1": ("_t1",),
            "t1ce": ("_t1ce",),
            "t2": ("_t2",),
            "flair": ("_flair",),
            "label": ("_seg",),
            # TextBraTS adds its reports to BraTS 2020 folders under the second name.
            "report": ("_report", "_flair_text"),
        },
        BRATS_2018,
    ),
    Naming(
        "BraTS 2023 and later",
        {
            "t1": ("-t1n",),
            "t1ce": ("-t1c",),
            "t2": ("-t2w",),
            "flair": ("-t2f",),
            "label": ("-seg",),
            "report": ("-report",),
        },
        BRATS_2023,
    ),
)

# BraTS 2020 ships the label of Training_355 as W39_1998.09.19_Segm.nii: it belongs to the only case in its folder.
STRAY_LABEL = re.compile(r".+_segm\.nii(\.gz)?$", re.IGNORECASE)

# Of the tasks of BraTS 2023 and later, only this one gives the values other meanings.
_PEDIATRIC = re.compile(r"brats[-_]?ped", re.IGNORECASE)

MSD_NAME = "MSD Task01_BrainTumour"
MSD_FILE = re.compile(r"(?P<case>BRATS_\d+)\.nii(\.gz)?$")
# nnU-Net raw data: dataset.json beside the folder names the channels.
NNUNET_NAME = "nnU-Net"
NNUNET_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})\.nii(\.gz)?$")
FREE_NAMES = "free names"
MSD_FOLDERS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs"}
MSD_CHANNELS: dict[str, int] = {"flair": 0, "t1": 1, "t1ce": 2, "t2": 3}

_FREE_EXAMPLE = "a folder with T1.nii.gz, T1_post.nii.gz, T2.nii.gz, FLAIR.nii.gz"

# The part of a case id that names the patient: BraTS 2023 ids end in a time point, those of 2017-2019 in a scan number.
_PATIENT = (
    re.compile(r"(?P<patient>BraTS-[A-Za-z]+-\d+)-\d+", re.IGNORECASE),
    re.compile(r"(?P<patient>Brats1[789]_.+)_\d+", re.IGNORECASE),
)


def parse_name(file_name: str) -> tuple[str, str, Naming] | None:
    """Read a file name as ``(case id, role, naming)``; None if no naming fits. Letter case is ignored."""
    lower = file_name.lower()
    for naming in NAMINGS:
        for role, endings in naming.endings.items():
            extensions = (".txt",) if role == "report" else NIFTI_ENDINGS
            for tail in (ending + extension for ending in endings for extension in extensions):
                if lower.endswith(tail) and len(file_name) > len(tail):
                    return file_name[: -len(tail)], role, naming
    return None


def patient_of(case_id: str) -> str:
    """Return the patient id of a case: cases of one patient must never be split across sections."""
    for pattern in _PATIENT:
        if match := pattern.fullmatch(case_id):
            return match["patient"]
    return case_id


def convention_of_name(source: str | PathLike) -> str | None:
    """Return the label convention that the name of an image or label file suggests; None if it suggests none."""
    name = PurePath(split_channel(source)[0]).name
    if MSD_FILE.fullmatch(name):
        return MSD
    if _PEDIATRIC.match(name):
        return BRATS_PED
    parsed = parse_name(name)
    return parsed[2].convention if parsed else None


def describe_namings() -> str:
    """List the supported file names, for messages."""
    names = [", ".join(naming.pattern(s) for s in SEQUENCES) + f" ({naming.name})" for naming in NAMINGS]
    return "; ".join([*names, f"imagesTr/BRATS_001.nii.gz ({MSD_NAME})", _FREE_EXAMPLE])
