"""Strokes: polylines that act like a click on each of their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from ..labels import label_to_regions, regions_to_label
from .kinds import click_targets

EVERY_MM = 2.5  # a click sets everything within 1.5 mm, so that the clicks of a stroke leave no gap
MOST_CLICKS = 60  # per stroke: each click costs the network a few milliseconds


def rasterise(points: Sequence[Sequence[float]]) -> np.ndarray:
    """Return every voxel that a polyline passes through.

    Args:
        points: corners ``(P, 3)`` in voxels, at least one.

    Returns:
        Voxel indices ``(K, 3)`` in the order of the line; consecutive voxels touch.
    """
    corners = np.asarray(points, float).reshape(-1, 3)
    pieces = [corners[:1]]
    for start, end in pairwise(corners):
        steps = max(1, int(np.ceil(2 * np.abs(end - start).max())))
        pieces.append(start + (end - start) * np.arange(1, steps + 1)[:, None] / steps)
    voxels = np.rint(np.concatenate(pieces)).astype(int)
    return voxels[np.r_[True, (np.diff(voxels, axis=0) != 0).any(axis=1)]]


def stroke_clicks(voxels: np.ndarray, spacing: Sequence[float], most: int = MOST_CLICKS) -> np.ndarray:
    """Return the voxels of a stroke that the network gets as clicks: both ends, and one every ``EVERY_MM``.

    Args:
        voxels: from ``rasterise``.
        spacing: voxel sizes, mm.
        most: maximum number of clicks; longer strokes get wider gaps.

    Returns:
        ``(C, 3)``.
    """
    way = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(voxels, axis=0) * np.asarray(spacing), axis=1))]
    count = int(min(max(1, min(most, MOST_CLICKS)), np.ceil(way[-1] / EVERY_MM) + 1))
    return voxels[np.unique(np.searchsorted(way, np.linspace(0, way[-1], count)))]


def obey_stroke(label: np.ndarray, voxels: np.ndarray, kind: str) -> None:
    """Apply a stroke to a label map, in place.

    Args:
        label: ``(X, Y, Z)`` with 0, 1 NCR, 2 ED, 4 ET.
        voxels: ``(K, 3)``; voxels outside the map are ignored.
        kind: a key of ``KINDS``.
    """
    inside = voxels[((voxels >= 0) & (voxels < label.shape)).all(axis=1)]
    said = click_targets([kind])[0][:, None, None, None]
    regions = label_to_regions(torch.arange(5, dtype=torch.uint8)[None, :, None, None]) > 0
    becomes = regions_to_label((regions | (said > 0)) & (said >= 0)).numpy().ravel()
    at = tuple(inside.T)
    label[at] = becomes[label[at]]
