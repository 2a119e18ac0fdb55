"""A case as its files were found, before it has an id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FoundCase", "Problem"]


@dataclass(frozen=True)
class FoundCase:
    """Files of one patient.

    Attributes:
        name: what the files or their folder call the case.
        folder: where its images lie.
        layout: the way its files are named, for people.
        files: file name by sequence; for a 4D file the same for all.
        channels: channel by sequence of a 4D file; empty for 3D files.
        reasons: why a file is taken for its sequence.
        label: a segmentation that lies with the case, which is no image.
        report: a text file that belongs to this case by its name.
        alone: whether nothing else in the folder is a case.
        left_out: names of other images of the patient, with the reason.
        same_patient: whether the name is the patient's, as in public data sets; not so for "image.nii.gz".
    """

    name: str
    folder: Path
    layout: str
    files: Mapping[str, str]
    reasons: Mapping[str, str]
    channels: Mapping[str, int]
    label: Path | None = None
    report: Path | None = None
    alone: bool = True
    left_out: tuple[tuple[str, str], ...] = ()
    same_patient: bool = False


@dataclass(frozen=True)
class Problem:
    """Files that make no case: what they would have been called, and a sentence without paths outside the studies."""

    name: str
    sentence: str
