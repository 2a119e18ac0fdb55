"""Transforms that map clicks to the network's grid and apply them to the label map."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.transforms import Transform

from ..clicks import Clicks, click_targets, given_clicks, place_clicks
from ..labels import label_to_regions, regions_to_label
from .regions import case_grids


class PlaceClicksd(Transform):
    """Map the clicks of a case to the working grid; apply after all transforms that change the grid of ``image``.

    Reads ``image`` and ``clicks`` (as ``place_clicks`` takes them; missing or None: no clicks). Writes

    - ``clicks`` ``(K, 3)``: voxel coordinates in ``image``, for the network, and ``click_targets`` ``(K, 3)``;
    - ``native_clicks`` ``(K, 3)``: whole voxels of the case;
    - ``clicks_given``: the clicks as given, as a JSON string, which can be batched: a list of kind, position and space.

    Args:
        space: the space of the given positions, "voxel" or "world" (RAS mm).

    Raises:
        InputError: for clicks that ``place_clicks`` rejects.
    """

    def __init__(self, space: str = "voxel") -> None:
        self.space = space

    def __call__(self, data: Mapping) -> dict:
        working, native = case_grids(data["image"])
        grids = (native.shape, native.affine, working.affine)
        placed = click_tensors(data.get("clicks"), *grids, self.space, str(data.get("case", "")))
        given = [{**click, "space": self.space} for click in given_clicks(data.get("clicks"))]
        return {**data, **placed, "clicks_given": json.dumps(given)}


def click_tensors(
    clicks: Clicks | None,
    shape: Sequence[int],
    native: np.ndarray,
    working: np.ndarray,
    space: str = "voxel",
    case: str = "",
) -> dict[str, torch.Tensor]:
    """Return the tensors of ``PlaceClicksd`` for a case of ``shape``, its affine and that of the working grid."""
    kinds, voxels = place_clicks(clicks, shape, native, space, case)
    to_working = np.linalg.solve(working, native)
    placed = voxels @ to_working[:3, :3].T + to_working[:3, 3]
    return {
        "clicks": torch.as_tensor(placed, dtype=torch.float32),
        "click_targets": click_targets(kinds),
        "native_clicks": torch.as_tensor(voxels),
    }


class ObeyClicksd(Transform):
    """Set the clicked voxels of a label map ``(1, X, Y, Z)`` to the clicked tissue, also where resampling changed them.

    Reads ``native_clicks`` and ``click_targets`` of ``PlaceClicksd``. The last of contradictory clicks counts.
    """

    def __init__(self, key: str = "pred") -> None:
        self.key = key

    def __call__(self, data: Mapping) -> dict:
        label = data[self.key].as_subclass(torch.Tensor)  # the same memory
        obey_clicks(label, data["native_clicks"], data["click_targets"])
        return dict(data)


def obey_clicks(label: torch.Tensor, voxels: torch.Tensor, targets: torch.Tensor) -> None:
    """Make ``voxels`` ``(K, 3)`` of ``label`` ``(1, X, Y, Z)`` agree, in place, with ``targets`` ``(K, 3)``."""
    for voxel, target in zip(voxels.tolist(), targets, strict=True):
        at = (slice(None), *(slice(v, v + 1) for v in voxel))
        regions = label_to_regions(torch.as_tensor(label[at])) > 0
        said = target.to(regions.device)[:, None, None, None]
        label[at] = regions_to_label((regions | (said > 0)) & (said >= 0))
