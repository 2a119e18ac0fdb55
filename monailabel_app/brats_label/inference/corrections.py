"""Map strokes and places to look at between the displayed image and the working grid, and apply corrections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np

from brats_clip.clicks.strokes import obey_stroke, rasterise
from brats_clip.labels import keep_regions

from ..errors import Refused
from ..studies.aligned import Aligned
from .options import CLICKS


def stroke_voxels(aligned: Aligned, shown: str, strokes: Mapping[str, Sequence]) -> list[tuple[str, np.ndarray]]:
    """Return kind and voxels ``(K, 3)`` of each stroke on the working grid, with the nearest to each displayed voxel.

    Raises:
        Refused: for a corner outside the displayed image.
    """
    found, shape = [], aligned.grids[shown].shape
    for name, lines in strokes.items():
        for line in lines:
            corners = np.rint(np.asarray(line, float))
            if (corners < 0).any() or (corners >= shape).any():
                size = " x ".join(map(str, shape))
                raise Refused(f"strokes on {name}: found a corner outside the image; expected voxels within {size}.")
            points = aligned.points_to_working(shown, rasterise(line))
            found.append((CLICKS[name], rasterise(points)))
    return found


def corrected(label: np.ndarray, prompts: Sequence, keep: Sequence[str], before: np.ndarray | None) -> np.ndarray:
    """Return the label with all strokes applied and the finished regions unchanged.

    Args:
        label: ``(X, Y, Z)`` on the working grid, BraTS values.
        prompts: kind and voxels, as ``stroke_voxels``; later ones overrule earlier ones.
        keep: finished regions.
        before: label with these regions.

    Raises:
        Refused: if ``keep`` has a region and there is no such label.
    """
    if prompts:
        label = label.copy()
    for kind, voxels in prompts:
        obey_stroke(label, voxels, kind)
    if not keep:
        return label
    if before is None or before.shape != label.shape:
        raise Refused(
            f"keep: found {'no earlier answer or label' if before is None else 'an earlier answer on another grid'}; "
            "expected one to keep a region of. Segment the case first."
        )
    return keep_regions(label, before, keep)


def places_on(aligned: Aligned, shown: str, places: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the places of ``look_here`` with voxel and slice numbers of the displayed image."""
    found = []
    for place in places:
        voxel = aligned.voxel_at(shown, place["ras_mm"])
        axes = nib.io_orientation(aligned.grids[shown].affine)[:, 0]
        planes = ("sagittal", "coronal", "axial")
        slices = {plane: voxel[int(np.flatnonzero(axes == axis)[0])] + 1 for axis, plane in enumerate(planes)}
        text = f"{place['where']}, slice {slices['axial']}: {place['text'].partition(': ')[2]}"
        found.append({**place, "voxel": voxel, "slices": slices, "text": text})
    return found
