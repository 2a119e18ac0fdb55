"""A robot that clicks into errors until it is content, and what each of its clicks comes to."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from brats_clip import Segmenter
from brats_clip.clicks import KINDS, Click, RobotAnnotator
from brats_clip.interactive import Segmentation
from brats_clip.labels import REGIONS

from .region_dice import dice_of

JITTER_MM, SMALLEST_MM3 = 2.0, 8.0


def make_robot(voxel_mm: Sequence[float], ideal: bool, seed: int) -> RobotAnnotator:
    """A robot whose jitter and blindness to small errors are the same in mm on every grid."""
    smallest = max(1, round(SMALLEST_MM3 / math.prod(voxel_mm)))
    if ideal:
        return RobotAnnotator(second=0.0, jitter=0.0, smallest=smallest, seed=seed)
    return RobotAnnotator(jitter=JITTER_MM / np.asarray(voxel_mm), smallest=smallest, seed=seed)


def annotate(
    segmenter: Segmenter, truth: np.ndarray, report: str, robots: Sequence[RobotAnnotator], clicks: int
) -> list[dict]:
    """Let each robot click up to ``clicks`` times on the current case; a row per robot and number of clicks.

    A robot that sees nothing worth a click any more stops, and its last answer counts for the clicks it did not need:
    ``clicks_made`` tells. ``seconds`` are those of one answer; the first one is the same for all robots.
    """
    first, seconds = _timed(segmenter, report, [])
    start = {"clicks": 0, "clicks_made": 0, **dice_of(first.label, truth), "seconds": seconds}
    start["report_used"] = first.report_used if report else None
    rows = []
    for repeat, robot in enumerate(robots):
        made: list[Click] = []
        answer, row = first, start
        rows.append({"repeat": repeat, **start})
        for number in range(1, clicks + 1):
            click = robot.click(answer.label, truth) if len(made) == number - 1 else None
            if click is None:
                row = {key: value for key, value in row.items() if key.startswith(("clicks_made", "dice_"))}
            else:
                made.append(click)
                answer, seconds = _timed(segmenter, report, made)
                row = {"clicks_made": number, **dice_of(answer.label, truth), "seconds": seconds}
                row |= {"kind": click.kind, "voxel": " ".join(map(str, click.voxel))}
                row["obeyed"], row["asked"] = obeyed(answer.label, made)
                row["furthest_mm"] = furthest_mm(answer.label, first.label, made, answer.affine)
            rows.append({"repeat": repeat, **row, "clicks": number})
    return rows


def _timed(segmenter: Segmenter, report: str, clicks: Sequence[Click]) -> tuple[Segmentation, float]:
    started = time.perf_counter()
    answer = segmenter.segment(report=report, clicks=[(click.kind, click.voxel) for click in clicks])
    return answer, time.perf_counter() - started


def obeyed(label: np.ndarray, clicks: Sequence[Click]) -> tuple[int, int]:
    """How many clicked voxels are what was clicked, and how many should be: all but those that clicks disagree on."""
    said: dict[tuple, set[str]] = {}
    for click in clicks:
        said.setdefault(click.voxel, set()).add(click.kind)
    asked = {voxel: kinds.pop() for voxel, kinds in said.items() if len(kinds) == 1}
    return sum(_says(label[voxel], kind) for voxel, kind in asked.items()), len(asked)


def _says(value: int, kind: str) -> bool:
    """Whether a label is what a kind of click says of each region; 0 says nothing."""
    pairs = zip(KINDS[kind], REGIONS.values(), strict=True)
    return all(said == 0 or (int(value) in values) == (said > 0) for said, values in pairs)


def furthest_mm(label: np.ndarray, first: np.ndarray, clicks: Sequence[Click], affine: np.ndarray) -> float | None:
    """How far the furthest voxel that changed lies from the nearest click, in mm; None if none changed."""
    changed = np.argwhere(label != first)
    if not len(changed) or not clicks:
        return None
    turn = np.asarray(affine, float)[:3, :3].T
    return float(cKDTree(np.array([c.voxel for c in clicks]) @ turn).query(changed @ turn)[0].max())
