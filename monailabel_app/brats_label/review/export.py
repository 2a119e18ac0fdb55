"""Who saved which label when, how long it took, and with how many clicks: as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from brats_clip.labels import REGIONS

from ..labels import ACCEPTED_FROM, FINAL, Revision
from .queue import ACCEPTED, CORRECTED

COLUMNS = (
    *("case", "version", "who", "client_id", "when", "state", "seconds", "clicks", "model", "model_version", "comment"),
    *(f"ml_{region}" for region in REGIONS),
    *(f"expected_dice_{region}" for region in REGIONS),
)


def labels_as_csv(history: Mapping[str, Sequence[Revision]]) -> str:
    """A row per final label that was ever saved, by case and version; what is not known is left empty.

    ``seconds`` is the time from when the case was leased to when the label was saved, ``clicks`` the clicks and strokes
    of the prompts that led to it.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\r\n", extrasaction="ignore")
    table.writeheader()
    for case_id in sorted(history):
        for revision in history[case_id]:
            if revision.tag == FINAL and not revision.removed:
                table.writerow({name: _plain(value) for name, value in _row(revision).items()})
    return text.getvalue()


def _row(revision: Revision) -> dict[str, object]:
    record = revision.record
    state = ACCEPTED if ACCEPTED_FROM in record else CORRECTED
    row = {**record, "case": revision.case_id, "version": revision.number, "state": state}
    for region in REGIONS:
        row[f"ml_{region}"] = record.get("volumes_ml", {}).get(region)
        row[f"expected_dice_{region}"] = record.get("expected_dice", {}).get(region)
    return row


def _plain(value: object) -> object:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
