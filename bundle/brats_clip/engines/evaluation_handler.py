"""Score every case of an evaluation, and write the metrics table, summary, overlays and HTML report."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from nibabel.affines import voxel_sizes

from ..cases import SEQUENCES
from ..errors import InputError
from ..evaluation import (
    case_metrics,
    draw_overlay,
    note_training_cases,
    summarise,
    write_metrics_csv,
    write_report,
    write_summary,
)
from ..labels import REGIONS
from .finished_items import affine_of, case_of, check_same_place, finished_items, label_of, volume_of

logger = logging.getLogger(__name__)

# Names that radiologists use. These two sequences together show all three regions.
DISPLAYED_SEQUENCES = {"FLAIR": "flair", "T1ce": "t1ce"}


class EvaluationWriter:
    """Handler that scores each case after its iteration and writes everything when the run is complete.

    Writes ``metrics.csv``, ``summary.json``, ``report.html`` and ``overlays/CASE.png`` below ``output_dir``. With
    several processes, each scores and draws its own cases; the first one gathers the rows and writes the files. Cases
    that a sampler repeated to balance the processes count once, so the number of processes does not change the results.

    Args:
        output_dir: folder of the results; created if missing.
        run_info: facts about the run, as from ``evaluation.collect_run_info``; the number of cases is added.
        curves: training curves for the report: ``epoch`` and columns of the same length.
        overlays: draw an overlay picture per case.
        max_pictures: maximum number of pictures in the report, worst cases first.
        title: heading of the report.
        pred_key, label_key: label maps (1, X, Y, Z) in the case's own geometry, MetaTensors, values 0, 1, 2, 4.
        image_key: sequences (4, X, Y, Z) in the same geometry, in the order of ``cases.SEQUENCES``.
        case_key, report_key: id and report text of the case.
        attention_key: semantic attention (C, X, Y, Z) in [0, 1] in the same geometry, drawn as a column per channel;
            ``None``, or a case without it, adds no columns.
        attention_names: the names of these channels.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        run_info: Mapping[str, Any] | None = None,
        curves: Mapping[str, Sequence[float | None]] | None = None,
        overlays: bool = True,
        max_pictures: int = 200,
        title: str = "Brain-tumour segmentation: evaluation",
        pred_key: str = "pred",
        label_key: str = "label",
        image_key: str = "image",
        case_key: str = "case",
        report_key: str = "report",
        attention_key: str | None = None,
        attention_names: Sequence[str] = tuple(f"attention {region}" for region in REGIONS),
    ) -> None:
        self.output_dir = Path(output_dir)
        self.run_info, self.curves = dict(run_info or {}), curves
        self.overlays, self.max_pictures, self.title = overlays, max_pictures, title
        self.pred_key, self.label_key, self.image_key = pred_key, label_key, image_key
        self.case_key, self.report_key = case_key, report_key
        self.attention_key, self.attention_names = attention_key, tuple(attention_names)
        self.rows: list[dict[str, Any]] = []
        self._reports: dict[str, str] = {}
        self._assessments: dict[str, dict[str, Any]] = {}

    def attach(self, engine: Engine) -> None:
        """Score after each iteration of an evaluator that decollates; write when its run is complete."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self.rows, self._reports, self._assessments = [], {}, {}

    def _score(self, engine: Engine) -> None:
        items = finished_items(engine)
        assessed = getattr(getattr(engine, "inferer", None), "assessments", None) or [None] * len(items)
        for item, assessment in zip(items, assessed, strict=True):
            case = case_of(item, self.case_key)
            if case in self._reports:
                continue
            prediction, label = (label_of(item, key, case) for key in (self.pred_key, self.label_key))
            affine = affine_of(item, self.label_key, case)
            mine = (prediction.shape, affine_of(item, self.pred_key, case))
            check_same_place(case, mine, (label.shape, affine), "its label")
            row = {"case": case, **case_metrics(prediction, label, voxel_sizes(affine))}
            if assessment is not None:
                row |= {f"expected_dice_{region}": dice for region, dice in assessment.expected_dice.items()}
                self._assessments[case] = assessment.to_dict()
            report = str(item.get(self.report_key) or "").strip()
            self.rows.append({**row, "report": "yes" if report else "no"})
            self._reports[case] = report
            if self.overlays:
                self._draw(item, row, prediction, label, affine)
            dice = ", ".join(f"{region} {row[f'dice_{region}']:.3f}" for region in REGIONS)
            logger.info("%s: Dice %s", case, dice)

    def _draw(self, item: Mapping, row: Mapping, prediction: np.ndarray, label: np.ndarray, affine: np.ndarray) -> None:
        case = row["case"]
        image = volume_of(item, self.image_key, case)
        if image.shape[0] != len(SEQUENCES):
            raise InputError(f"case {case}", f"{image.shape[0]} sequences", f"{', '.join(SEQUENCES)}")
        attention = None
        if self.attention_key is not None and self.attention_key in item:
            maps = volume_of(item, self.attention_key, case)
            attention = dict(zip(self.attention_names, maps, strict=True))
        draw_overlay(
            self._overlay_path(case),
            {name: image[SEQUENCES.index(sequence)] for name, sequence in DISPLAYED_SEQUENCES.items()},
            prediction,
            affine,
            label,
            title=case,
            subtitle="Dice   " + "   ".join(f"{region} {row[f'dice_{region}']:.2f}" for region in REGIONS),
            attention=attention,
        )

    def _overlay_path(self, case: str) -> Path:
        return self.output_dir / "overlays" / f"{case}.png"

    def _finish(self, engine: Engine) -> None:
        parts = [(self.rows, self._reports, self._assessments)]
        if idist.get_world_size() > 1:
            parts = idist.all_gather(parts[0])
        if idist.get_rank() != 0:
            return
        by_case = {row["case"]: row for rows, _, _ in parts for row in rows}
        if not by_case:
            raise InputError(self.output_dir, "no case", "at least one case to evaluate")
        self.rows = [by_case[case] for case in sorted(by_case)]
        self._reports = {case: text for _, reports, _ in parts for case, text in reports.items()}
        self._assessments = {case: found for _, _, assessments in parts for case, found in assessments.items()}
        summary = summarise(self.rows)
        run = {**self.run_info, "cases": len(self.rows)}
        if warning := note_training_cases(run, by_case):
            logger.warning("%s", warning)
        write_metrics_csv(self.rows, self.output_dir / "metrics.csv")
        write_summary(summary, self.output_dir / "summary.json", run)
        write_report(
            self.output_dir / "report.html",
            self.rows,
            summary,
            run,
            overlays={case: self._overlay_path(case) for case in by_case} if self.overlays else None,
            reports=self._reports,
            assessments=self._assessments,
            curves=self.curves,
            title=self.title,
            max_pictures=self.max_pictures,
        )
        logger.info("%d cases: mean Dice %.3f -> %s", len(self.rows), summary["dice_mean"]["mean"], self.output_dir)
