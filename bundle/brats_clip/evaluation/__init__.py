"""Metrics of predicted label maps, and the table, pictures and page that show them."""

from __future__ import annotations

from .case_metrics import MEASURES, case_metrics, region_dice, region_volumes_ml
from .overlay import draw_overlay
from .report_page import write_report
from .run_info import collect_run_info, note_training_cases, refuse_training_cases, sha256_of
from .summary import summarise, write_metrics_csv, write_summary

__all__ = [
    "MEASURES",
    "case_metrics",
    "collect_run_info",
    "draw_overlay",
    "note_training_cases",
    "refuse_training_cases",
    "region_dice",
    "region_volumes_ml",
    "sha256_of",
    "summarise",
    "write_metrics_csv",
    "write_report",
    "write_summary",
]
