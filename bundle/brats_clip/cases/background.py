"""Background of an image: tell skull-stripped images from raw ones, and set a background that is not 0 to exactly 0.

All later steps take nonzero voxels for the brain: cropping, normalisation, slice selection, pixel fusion, and the
comparison with a report. Spline resampling makes a stripped image ring around 0; other tools fill the background with
the minimum or -1, or leave noise. Values inside the brain, including negative ones, are not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cc3d
import numpy as np

from ..images import Volume

# Share of the median magnitude inside. At the edge of an image with background 0 the magnitude is at least 0.12 of it
# (28 BraTS cases); spline ringing fades down to rounding error.
_FAINT = 0.03
_SLICES = 12  # sampled to classify the background of a sequence
_INSIDE = 0.25  # of the median magnitude, averaged over sequences: above ringing, below grey matter and CSF on T2
_ABOVE_NOISE = 2.0  # times the strongest noise at the border of the image
_LARGEST_EDGE = 1.03  # volume with the dark edge of the brain relative to that without; ringing adds 10 % or more
# A brain with its CSF has up to about 2.0 l, in BraTS up to 1.8 l; a head, even cut off above the eyes, is larger.
_LARGEST_BRAIN_ML = 2100.0


class Background(NamedTuple):
    """The background of a sequence.

    Attributes:
        clear: whether it is 0, with a sharp edge to the brain.
        value: its value if it is constant; else 0.
        inside: share of the voxels that stand out from the background.
    """

    clear: bool
    value: float
    inside: float


def look_at_background(array: np.ndarray) -> Background:
    """Classify the background of ``(X, Y, Z)`` from a dozen slices; takes a few milliseconds."""
    # Slices along the axis with the longest stride are contiguous in memory.
    slices = np.moveaxis(array, int(np.argmax(np.abs(array.strides))), 0)
    slices = slices[:: max(1, len(slices) // _SLICES)]
    there = slices != 0
    if there.mean() > 0.99:
        frame = np.concatenate([slices[:, 0].ravel(), slices[:, -1].ravel(), slices[:, :, 0].ravel()])
        values, counts = np.unique(frame, return_counts=True)
        if counts.max() > 0.5 * counts.sum():
            value = float(values[counts.argmax()])
            return Background(False, value, float((slices != value).mean()))
        return Background(False, 0.0, float((np.abs(slices) > _INSIDE * _scale(slices)).mean()))
    inner = there[:, 1:-1, 1:-1] & there[:, :-2, 1:-1] & there[:, 2:, 1:-1] & there[:, 1:-1, :-2] & there[:, 1:-1, 2:]
    edge = there[:, 1:-1, 1:-1] & ~inner
    if edge.any() and np.median(np.abs(slices[:, 1:-1, 1:-1][edge])) < _FAINT * np.median(np.abs(slices[there])):
        return Background(False, 0.0, float((np.abs(slices) > _INSIDE * _scale(slices)).mean()))
    return Background(True, 0.0, float(there.mean()))


def is_stripped(volume: Volume) -> bool:
    """Whether the foreground is no larger than a brain; a head is larger."""
    inside = look_at_background(volume.array).inside
    return inside * volume.array.size * volume.grid.voxel_ml <= _LARGEST_BRAIN_ML


def clear_background(volumes: Mapping[str, Volume]) -> tuple[dict[str, Volume], list[str]]:
    """Find one brain mask per case, and set the sequences whose background is not 0 to 0 outside it.

    A constant background other than 0 is subtracted first, which restores an image that was filled with its minimum.
    The mask is the union of the nonzero voxels of the sequences with background 0; without any, the voxels that stand
    out in all sequences together. Its largest connected component is kept, and its holes are filled.

    Args:
        volumes: stripped images on one grid, by sequence. They are not changed.

    Returns:
        The volumes, the same objects where nothing changed, and notes on what was done.
    """
    found = {sequence: look_at_background(volume.array) for sequence, volume in volumes.items()}
    bad = {sequence: background.value for sequence, background in found.items() if not background.clear}
    if not bad:
        return dict(volumes), []
    arrays = {s: v.array - np.float32(bad[s]) if bad.get(s) else v.array for s, v in volumes.items()}
    sharp = [a != 0 for s, a in arrays.items() if s not in bad or (bad[s] and look_at_background(a).clear)]
    brain = solid(np.logical_or.reduce(sharp)) if sharp else _standing_out(list(arrays.values()))
    if not brain.any() or brain.mean() > 0.97:  # a crop inside the brain has no background
        return dict(volumes), []
    cleared, notes = dict(volumes), []
    for sequence, value in bad.items():
        array = np.where(brain, arrays[sequence], np.float32(0))
        cleared[sequence] = volumes[sequence]._replace(array=array)
        what = f"the value {value:g}" if value else "values near 0"
        notes.append(f"{sequence}: {what} around the brain set to 0")
    return cleared, notes


def solid(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected component of a mask ``(X, Y, Z)``, with holes filled."""
    import fill_voids

    return fill_voids.fill(cc3d.largest_k(mask, k=1, connectivity=6) > 0)


def _standing_out(arrays: list[np.ndarray]) -> np.ndarray:
    """Brain mask where no sequence has a sharp edge: the bright voxels, and the dark edge if it exceeds the noise.

    Noise is as strong at the border of the image as beside the brain, so the dark edge (fluid on T1) stands
    out from it. Spline ringing does not reach the border; the voxels that exceed the noise are then too many.
    """
    total = np.zeros(arrays[0].shape, np.float32)
    above_noise = np.zeros(arrays[0].shape, bool)
    for array in arrays:
        magnitude = np.abs(array)
        total += np.minimum(magnitude / _scale(array[::4, ::4, ::4]), 2.0)
        # The median of the six sides: the brain may touch one of them.
        noise = np.median([magnitude.take(end, axis).max() for axis in range(3) for end in (0, -1)])
        above_noise |= magnitude > _ABOVE_NOISE * noise
    bright = solid(total > _INSIDE * len(arrays))
    with_edge = solid(bright | above_noise)
    return with_edge if with_edge.sum() <= _LARGEST_EDGE * bright.sum() else bright


def _scale(sample: np.ndarray) -> float:
    """Return the median magnitude of the foreground."""
    magnitude = np.abs(sample)
    high = float(np.percentile(magnitude[:: max(1, len(magnitude) // 40)], 99))
    return float(np.median(magnitude[magnitude > 0.1 * high])) if high else 1.0
