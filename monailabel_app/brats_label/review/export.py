"""Table of all final labels: who saved them, when, in what time, and with how many clicks."""

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
    """Return a row for each final label that was ever saved, by case and version; unknown values are empty.

    ``seconds`` is the time from the lease of the case to the save of the label, ``clicks`` the number of clicks and
    strokes that led to it.
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
    """Quote a text that a spreadsheet would read as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
