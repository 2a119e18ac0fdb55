"""Labelled cases with reports, for measurements that run the network many times per case."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes

from ..cases import REFERENCE, SEQUENCES, case_report, find_cases, load_datalist, read_case
from ..errors import InputError, LabelError
from ..reports import describe_mask, write_report

OWN, WRITTEN = "own", "written from the label"


class Truth(NamedTuple):
    """The true label of a case, and its report.

    ``label`` is ``(X, Y, Z)``, uint8, with 0, 1, 2, 4 and voxels of ``voxel_mm``; ``source`` of the report is ``OWN``
    or ``WRITTEN``.
    """

    label: np.ndarray
    voxel_mm: tuple[float, float, float]
    report: str
    source: str


def labelled_cases(
    folder: str | PathLike | None = None,
    dataset_dir: str | PathLike | None = None,
    datalist: str | PathLike | None = None,
    section: str | Sequence[str] = "testing",
) -> list[dict]:
    """Return the cases with a label, below ``folder`` or in a section of a datalist.

    Raises:
        InputError: unless either ``folder`` or both ``dataset_dir`` and ``datalist`` are given; if no case has a label;
            and as ``find_cases`` and ``load_datalist`` do.
    """
    if (folder is None) == (datalist is None) or (datalist is None) != (dataset_dir is None):
        raise InputError("cases", "not one source of cases", "a folder (--cases), or --dataset_dir with --datalist")
    found = find_cases(folder) if folder is not None else load_datalist(datalist, dataset_dir, section)
    labelled = [case for case in found if case.get("label")]
    if not labelled:
        raise LabelError(folder or datalist, f"{len(found)} cases, none with a label", "cases with a label")
    return labelled


def read_truth(case: dict, seed: int = 0) -> Truth:
    """Read the label and the report of a case; if it has no report, write one from the label.

    Args:
        case: as from ``labelled_cases``.
        seed: of the wording of a written report, which does not depend on the other cases.

    Raises:
        InputError: for files that cannot be used, see ``cases.read_case``.
    """
    # One image is enough to check the grid of the label and to find the brain.
    image = REFERENCE if case.get(REFERENCE) else next(s for s in SEQUENCES if case.get(s))
    less = {key: value for key, value in case.items() if key == image or key not in SEQUENCES}
    content = read_case(less, allow_missing_sequences=True)
    volume = content.volumes[image]
    voxel_mm = tuple(float(size) for size in voxel_sizes(volume.affine))
    if content.report:
        return Truth(content.label, voxel_mm, content.report, OWN)
    findings = describe_mask(content.label, volume.affine, brain=volume.array != 0)
    return Truth(content.label, voxel_mm, write_report(findings, draws(seed, case["case"], "report")), WRITTEN)


def report_of(case: dict, seed: int = 0) -> str:
    """Return only the report of ``read_truth``; opens an image only if the report has to be written."""
    return case_report(case) or read_truth(case, seed).report


def draws(seed: int, *names: str) -> np.random.Generator:
    """Return a random generator for ``names`` (a case, a kind, ...), independent of other random draws."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])
