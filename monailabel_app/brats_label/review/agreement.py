"""Agreement of two readers of the same case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np

from brats_clip.evaluation.metrics import crop_to_union, dice, hd95
from brats_clip.geometry import Grid
from brats_clip.labels import REGIONS

from ..case_info import Notes
from ..labels import Revision
from .queue import ReviewQueue, Row, final_by_reader

_SECTION = "agreement"


def agreement(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> dict[str, dict[str, float]]:
    """Return Dice and HD95 (mm) per region of two label maps ``(X, Y, Z)``; a region empty in both counts as equal."""
    first, second = crop_to_union(first, second, margin=1)
    masks = {region: [np.isin(label, values) for label in (first, second)] for region, values in REGIONS.items()}
    return {r: {"dice": round(dice(*p), 4), "hd95_mm": round(hd95(*p, spacing), 2)} for r, p in masks.items()}


class Agreements:
    """Agreement on the cases that two readers have labelled; each pair of revisions is compared once.

    Args:
        queue: of the cases.
        notes: where the comparisons are stored.
    """

    def __init__(self, queue: ReviewQueue, notes: Notes) -> None:
        self._queue, self._notes = queue, notes

    def report(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return ``cases`` (``readers`` and ``regions`` by case), and their ``mean`` Dice and HD95 per region."""
        read_twice = [row.case_id for row in rows if len(row.readers) > 1]
        history = self._queue.datastore.labels.by_case() if read_twice else {}
        compared = [(case_id, *list(final_by_reader(history[case_id]).items())[-2:]) for case_id in read_twice]
        cases = {
            case_id: {"readers": [one[0], other[0]], "regions": self._compare(case_id, one[1], other[1])}
            for case_id, one, other in compared
        }
        comparable = [case["regions"] for case in cases.values() if case["regions"]]
        mean = {
            region: {
                measure: round(float(np.mean([regions[region][measure] for regions in comparable])), 4)
                for measure in ("dice", "hd95_mm")
            }
            for region in (REGIONS if comparable else ())
        }
        return {"cases": cases, "mean": mean}

    def _compare(self, case_id: str, one: Revision, other: Revision) -> dict[str, dict[str, float]]:
        """Return the agreement; empty if the labels are on different grids, since the reference was changed."""
        versions = [one.number, other.number]
        known = self._notes.get(_SECTION, case_id)
        if known.get("versions") == versions:
            return known["regions"]
        first, second = (nib.load(revision.path) for revision in (one, other))
        regions = {}
        if Grid(first.shape, first.affine).same_as(Grid(second.shape, second.affine)):
            arrays = (np.asarray(image.dataobj) for image in (first, second))
            regions = agreement(*arrays, np.linalg.norm(first.affine[:3, :3], axis=0))
        self._notes.update(_SECTION, case_id, {"versions": versions, "regions": regions})
        return regions
