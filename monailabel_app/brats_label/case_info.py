"""What clients are told about a case and about its label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cases.case import Case
from .labels.revision import ENDING, TAGS, Revision
from .labels.store import LabelStore


def image_info(case: Case, sequence: str, labels: LabelStore, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Which images were chosen and why, what is missing and left out, and what was noted. Opens no image.

    Args:
        case: whose.
        sequence: which of its sequences is shown.
        labels: where its labels are kept.
        notes: about the case.
    """
    shown = case.images[sequence]
    return {
        **case.info,
        "name": f"{shown.image_id}{ENDING}",
        "case": case.case_id,
        "patient": case.patient,
        "image": shown.image_id,
        "sequence": sequence,
        "reference": case.reference,
        "sequences": {
            s: {"image": image.image_id, "name": image.name, "reason": image.reason} for s, image in case.images.items()
        },
        "missing": list(case.missing),
        "left_out": [{"image": i.image_id, "name": i.name, "reason": i.reason} for i in case.left_out],
        "labels": {tag: v.number for tag in TAGS if (v := labels.current(case.case_id, tag))},
        **notes,
    }


def label_info(case: Case, revision: Revision, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Who saved it and when, with which model, its volumes, and what was noted.

    Args:
        case: whose.
        revision: of its label.
        notes: about this revision.
    """
    info = {"name": f"{case.case_id}{ENDING}", "version": revision.number, **revision.record, **notes}
    drawn_on = revision.record.get("reference", case.reference)
    if drawn_on != case.reference:
        info["resampled"] = f"Stored on the grid of {drawn_on}, brought to that of {case.reference}."
    return info
