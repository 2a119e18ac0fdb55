"""What clients are told about a case and about its label, and what they and strategies note about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from .errors import Refused
from .labels import ENDING, TAGS, Revision
from .labels.store import LabelStore
from .store import Store
from .store import notes as table
from .studies import Case


class Notes:
    """Plain JSON by section and key, such as "images" and a case id. Safe for threads and processes.

    Args:
        store: has the table ``notes``.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, section: str, key: str) -> dict[str, Any]:
        """What was noted; empty if nothing was."""
        with self._store.read() as connection:
            return connection.scalar(_content(section, key)) or {}

    def update(self, section: str, key: str, notes: Mapping[str, Any]) -> None:
        """Add to what was noted, durably; equal names are replaced.

        Raises:
            Refused: if it is no mapping of plain JSON.
            OSError: if it cannot be written; it is not noted then.
        """
        try:
            notes = json.loads(json.dumps(dict(notes), allow_nan=False, ensure_ascii=False).encode())
        except (TypeError, ValueError):
            raise Refused("The info cannot be stored; expected a JSON object of text, numbers and lists.") from None
        with self._store.write() as connection:
            content = {**(connection.scalar(_content(section, key)) or {}), **notes}
            row = insert(table).values(section=section, key=key, content=content)
            connection.execute(row.on_conflict_do_update(index_elements=["section", "key"], set_={"content": content}))


def _content(section: str, key: str):
    return select(table.c.content).where(table.c.section == section, table.c.key == key)


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
        info["resampled"] = f"Stored on the grid of {drawn_on}, resampled to that of {case.reference}."
    return info
