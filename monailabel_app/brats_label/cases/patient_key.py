"""Whose a case is, by where its files lie: two visits of a patient must not fall on both sides of the split."""

from __future__ import annotations

import re
from collections.abc import Sequence

from brats_clip.cases import patient_of
from brats_clip.cases.naming import MSD_FILE

from .case_ids import safe_name
from .found_case import FoundCase

__all__ = ["patient_key"]

# Folders that hold patients, not the visits of one.
_COLLECTION = re.compile(
    r"""(train|val|valid|test)(ing|idation)?([ ._-]?(data|set|cases))*
    |(site|cent(er|re)|hospital|batch|part|fold|cohort|group)([ ._-]?\d+|[ ._-]\w)?
    |(data(sets?)?|images?|labels?|nifti|cases|patients|subjects|studies|sourcedata|derivatives|raw(data)?)(_?t[rs])?
    |hgg|lgg|task[ ._-]?\d.*|(miccai[ ._-]?)?(brats|fets|msd)([ ._-]?\d{4})?([ ._-]?(train|val|test).*)?""",
    re.IGNORECASE | re.VERBOSE,
)


def patient_key(found: FoundCase, case_id: str, folders: Sequence[str]) -> str:
    """Name the patient of a case.

    Args:
        found: the case.
        case_id: its id.
        folders: from the studies folder down to its images.

    Returns:
        What public data sets call the patient, where the files are named as they name them. Else the first folder,
        passing over those that are called as collections of patients are (``training``, ``site1``, ``imagesTr``):
        rather two patients taken for one than one for two. The case's own id where there is none.
    """
    if found.same_patient:
        return patient_of(safe_name(found.name))
    if any(MSD_FILE.fullmatch(name) for name in found.files.values()):
        return case_id
    first = next((folder for folder in folders if not _COLLECTION.fullmatch(folder)), None)
    return patient_of(case_id if first is None else safe_name(first))
