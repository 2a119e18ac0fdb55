"""A robot that clicks on segmentation errors, roughly as a person would."""

from __future__ import annotations

from typing import NamedTuple

import cc3d
import numpy as np
from scipy import ndimage

from ..geometry import bounding_box
from ..labels import REGIONS
from .kinds import kind_of_label
from .strokes import rasterise


class Click(NamedTuple):
    """A voxel and the kind of the click on it (a key of ``KINDS``)."""

    voxel: tuple[int, int, int]
    kind: str


class RobotAnnotator:
    """Clicks on one of the worst errors, near its middle.

    The worst error is the connected component, missing from a region or added to it, that costs this region most Dice:
    a person who corrects a small enhancing tumour does not start with a sliver of oedema that is larger. A person
    does not always find the worst error or hit its middle; a robot that does both overestimates the benefit of
    clicks.

    Args:
        second: probability of taking the second-worst error instead of the worst.
        jitter: standard deviation of the offset of a click from the middle, per axis, in voxels.
        smallest: errors with fewer voxels are ignored.
        seed: seed of all random draws.
    """

    def __init__(self, second: float = 0.25, jitter: float = 2.0, smallest: int = 8, seed: int = 0) -> None:
        self.second, self.jitter, self.smallest = second, jitter, smallest
        self.random = np.random.default_rng(seed)

    def click(self, answer: np.ndarray, truth: np.ndarray) -> Click | None:
        """Click once.

        Args:
            answer: label map ``(X, Y, Z)`` with 0, 1 NCR, 2 ED, 4 ET.
            truth: ground truth, in the same format.

        Returns:
            A wrong voxel with the kind of its true label, or None if no error is large enough.
        """
        if (box := bounding_box(answer != truth)) is None:
            return None
        errors = self._errors(answer, truth, box)
        if not errors:
            return None
        errors.sort(key=lambda error: -error[0])
        # One error may appear in two regions; the second-worst must be a different one.
        others = [error for error in errors[1:] if not (error[1] & errors[0][1]).any()]
        part = others[0][1] if others and self.random.random() < self.second else errors[0][1]
        voxel = tuple(int(v) + s.start for v, s in zip(self._aim(part), box, strict=True))
        return Click(voxel, kind_of_label(truth[voxel]))

    def stroke(self, answer: np.ndarray, truth: np.ndarray) -> tuple[str, list[list[int]]] | None:
        """Draw one stroke along the wrong voxels around the position of ``click``, in the axial slice (the last axis).

        Returns:
            The kind, and the corners of a polyline whose voxels all have this true label; None if ``click`` gives None.
        """
        click = self.click(answer, truth)
        if click is None:
            return None
        at, value = np.array(click.voxel), truth[click.voxel]
        plane = (truth[:, :, at[2]] == value) & (answer[:, :, at[2]] != value)
        pieces, _ = ndimage.label(plane)
        inside = np.argwhere(pieces == pieces[at[0], at[1]])
        along = (
            np.linalg.svd(inside - inside.mean(axis=0), full_matrices=False)[2][0] if len(inside) > 1 else [1.0, 0.0]
        )
        places = (inside - at[:2]) @ along
        ends = []
        for side in (-1, 1):
            far = inside[np.argsort(-side * places)]
            ends += [e for e in far if self._all_of(truth, value, at, e)][:1]
        corners = [[int(x), int(y), int(at[2])] for x, y in (ends[0], at[:2], ends[1])]
        return click.kind, corners

    @staticmethod
    def _all_of(truth: np.ndarray, value: int, at: np.ndarray, end: np.ndarray) -> bool:
        line = rasterise([at, [*end, at[2]]])
        return bool((truth[tuple(line.T)] == value).all())

    def confirm(self, truth: np.ndarray) -> Click:
        """Return a click on a random voxel with its true label."""
        value = self.random.choice(np.unique(truth))
        places = np.flatnonzero(truth == value)
        voxel = np.unravel_index(places[self.random.integers(len(places))], truth.shape)
        return Click(tuple(int(v) for v in voxel), kind_of_label(value))

    def _errors(self, answer: np.ndarray, truth: np.ndarray, box: tuple) -> list[tuple[float, np.ndarray]]:
        """Return the two largest errors per region with the Dice that each costs, within ``box``."""
        found = []
        for values in REGIONS.values():
            said, true = np.isin(answer, values), np.isin(truth, values)
            total = int(said.sum()) + int(true.sum())
            said, true = said[box], true[box]
            wrong = np.where(said != true, 1 + true, 0).astype(np.uint8)
            pieces = cc3d.connected_components(wrong, connectivity=6)
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            order = np.argsort(sizes)[::-1][:2]
            found += [(sizes[i] / total, pieces == i) for i in order if sizes[i] >= self.smallest]
        return found

    def _aim(self, part: np.ndarray) -> np.ndarray:
        """Return a voxel of ``part`` near its middle."""
        box = bounding_box(part)
        part = part[box]
        depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1, 1:-1]
        # Several voxels are about equally deep in a large error; a person takes any of them.
        middle = np.argwhere(depth >= 0.8 * depth.max())
        aim = middle[self.random.integers(len(middle))] + self.random.normal(0, self.jitter, 3)
        inside = np.argwhere(part)
        return inside[np.argmin(((inside - aim) ** 2).sum(axis=1))] + [s.start for s in box]
