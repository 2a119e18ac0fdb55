"""The labelled cases as files, for a training or a download."""

from __future__ import annotations

import logging
from typing import Any

from brats_clip.cases import as_text
from brats_clip.errors import BratsClipError

from .cases.case import CaseSource
from .errors import ClientError, sentence
from .labels.placed import PlacedLabels
from .labels.revision import FINAL
from .labels.store import LabelStore
from .labels.submission import Library

logger = logging.getLogger(__name__)


class Datalist:
    """Cases with a final label; those that cannot be used are left out, and told.

    Args:
        source: where cases come from.
        labels: where labels are kept.
        library: where images are found, on one grid.
        placed: shows labels on that grid.
    """

    def __init__(self, source: CaseSource, labels: LabelStore, library: Library, placed: PlacedLabels) -> None:
        self._source, self._labels, self._library, self._placed = source, labels, library, placed
        self._left_out: list[dict[str, str]] = []

    def patients(self) -> dict[str, str]:
        """The patient of each case with a final label. Opens no file."""
        labelled = set(self._labels.labelled(FINAL))
        return {case_id: case.patient for case_id, case in sorted(self._source.cases().items()) if case_id in labelled}

    def entries(self) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """An entry for each case with a final label: files on the reference grid, label, report, patient.

        Labels are named by their revision, which no later save changes; one that was stored on another grid than that
        of the reference now is brought there.

        Returns:
            The entries, and ``case`` and ``reason`` of each case that cannot be used; the log and ``problems`` say so,
            too.
        """
        entries, left_out = [], []
        for case_id in sorted(set(self._source.cases()) & set(self._labels.labelled(FINAL))):
            try:
                entries.append(self._entry(case_id))
            except (ClientError, BratsClipError, OSError) as error:
                left_out.append({"case": case_id, "reason": sentence(error)})
                logger.warning("case %s is left out: %s", case_id, left_out[-1]["reason"])
        self._left_out = left_out
        return entries, left_out

    def problems(self) -> list[str]:
        """A sentence for each case that ``entries`` had to leave out the last time."""
        return [f"Labelled case {out['case']} is left out: {out['reason']}" for out in self._left_out]

    def _entry(self, case_id: str) -> dict[str, Any]:
        case = self._source.resolve(case_id)[0]
        files = {sequence: str(path) for sequence, path in self._library.aligned(case).files.items()}
        label = str(self._placed.file(case, case.reference, self._labels.in_use(case.case_id, FINAL)))
        report = as_text(report) if (report := self._source.report(case)) else ""
        entry = {"case": case_id, **files, "label": label, "report": report, "patient": case.patient}
        return {**entry, "image": files[case.reference]}
