"""What is around the brain: tell stripped images from raw ones, and set a background that is not 0 to exactly 0.

Everything downstream takes "not 0" for the brain: cropping, normalising, the choice of slices, pixel fusion, what a
report is compared with. Resampling with splines lets a stripped image ring around 0; other tools fill the background
with the minimum, with -1, or leave noise. Whatever is inside the brain stays as it is, negative values too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cc3d
import numpy as np

from ..images import Volume

# Of the median magnitude inside. At the edge of an image whose background is 0 the magnitude is 0.12 or more of it
# (28 BraTS cases); where a spline rings, its last ripples end in rounding.
_FAINT = 0.03
_SLICES = 12  # looked at to decide what the background of a sequence is
_INSIDE = 0.25  # of the median magnitude, averaged over sequences: above the ripples, below grey matter and CSF on T2
# A brain with its CSF has up to about 2.0 l, in BraTS up to 1.8 l; a head, even cut above the eyes, more than this.
_LARGEST_BRAIN_ML = 2100.0


class Background(NamedTuple):
    """What a sequence shows around the brain.

    Attributes:
        clear: whether it is 0, up to a sharp edge.
        value: the one value it has, where it has one; else 0.
        inside: share of the voxels that stand out from it.
    """

    clear: bool
    value: float
    inside: float


def look_at_background(array: np.ndarray) -> Background:
    """Judge the background of ``(X, Y, Z)`` by a dozen slices; takes a few milliseconds."""
    # Along the axis with the longest stride a slice lies in one piece.
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
    """Whether no more than a brain stands out from the background; a head is larger."""
    inside = look_at_background(volume.array).inside
    return inside * volume.array.size * volume.grid.voxel_ml <= _LARGEST_BRAIN_ML


def clear_background(volumes: Mapping[str, Volume]) -> tuple[dict[str, Volume], list[str]]:
    """Find one brain mask per case and set the sequences that are not 0 outside it to 0 there.

    A background of one value other than 0 is subtracted first: an image with its minimum as background becomes the one
    it was made from. The mask is where the sequences with a background of 0 are not 0; without such, what stands out
    from the background in all sequences together: connected, without holes.

    Args:
        volumes: stripped images on one grid, by sequence. They are not changed.

    Returns:
        The volumes, the same objects where nothing was to do, and sentences on what was done.
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
    """The largest connected part of a mask ``(X, Y, Z)``, without holes."""
    import fill_voids

    return fill_voids.fill(cc3d.largest_k(mask, k=1, connectivity=6) > 0)


def _standing_out(arrays: list[np.ndarray]) -> np.ndarray:
    total = np.zeros(arrays[0].shape, np.float32)
    for array in arrays:
        total += np.minimum(np.abs(array) / _scale(array[::4, ::4, ::4]), 2.0)
    return solid(total > _INSIDE * len(arrays))


def _scale(sample: np.ndarray) -> float:
    """Median magnitude of what is not background."""
    magnitude = np.abs(sample)
    high = float(np.percentile(magnitude[:: max(1, len(magnitude) // 40)], 99))
    return float(np.median(magnitude[magnitude > 0.1 * high])) if high else 1.0
