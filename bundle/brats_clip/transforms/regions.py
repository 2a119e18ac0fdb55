"""Conversion between label maps and nested regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import cc3d
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import MetaKeys

from ..errors import InputError
from ..geometry import Grid, Placement, bounding_box, find_placement, place
from ..labels import label_to_regions, nest, regions_to_label


class LabelToRegionsd(Transform):
    """Replace ``label`` ``(1, D, H, W)``, if there is one, by its regions WT, TC, ET ``(3, D, H, W)``, float."""

    def __init__(self, key: str = "label") -> None:
        self.key = key

    def __call__(self, data: Mapping) -> dict:
        if self.key not in data:
            return dict(data)
        return {**data, self.key: label_to_regions(data[self.key])}


class LogitsToLabeld(Transform):
    """Replace logits ``(3, D, H, W)`` of WT, TC, ET by a label map ``(1, D, H, W)`` with values 0, 1, 2, 4.

    Dropping small components costs little Dice, and each of them would count as a false lesion. A component that a
    click assigns to its region (``native_clicks``) is kept.

    Args:
        key: key of the logits; the label map replaces them.
        min_lesion_ml: connected components of the whole tumour smaller than this are dropped; 0 keeps every voxel.
        min_part_ml: connected components of the core and of the enhancing tumour smaller than this become part of the
            enclosing region. BraTS does not count lesions below 50 voxels (0.05 ml) either.
        min_et_ml: if the whole case has less enhancing tumour than this, it becomes core; 0 keeps every voxel. Many
            challenge entries do this, because BraTS scores a single false voxel of ET in a case without ET as 0.
        invert: an ``Invertd`` for logits on the working grid of ``image``. Used only where resampling lies between that
            grid and the native grid of the case; otherwise the label is copied, which is exact and faster.

    Raises:
        InputError: if a logit is NaN, which would otherwise count as "no tumour".
    """

    def __init__(
        self,
        key: str = "pred",
        min_lesion_ml: float = 0.0,
        min_part_ml: float = 0.0,
        min_et_ml: float = 0.0,
        invert: Callable[[dict], dict] | None = None,
    ) -> None:
        self.key, self.least, self.invert = key, (min_lesion_ml, min_part_ml, min_et_ml), invert

    def __call__(self, data: Mapping) -> dict:
        if math.isnan(float(_plain(data[self.key]).sum())):  # any NaN makes the sum NaN; five times faster than isnan
            where = f"{self.key} of case {data.get('case', '')}"
            raise InputError(where, "NaN", "numbers (check the weights)")
        if self.invert is not None:
            working, native = case_grids(data["image"])
            placement = find_placement(Grid(data[self.key].shape[1:], working.affine), native)
            if placement is not None:
                return {**data, self.key: self._placed(data, placement, native)}
            data = self.invert(dict(data))
        logits = data[self.key]
        voxel_ml = float(torch.as_tensor(logits.affine)[:3, :3].det().abs()) / 1000 if _has_affine(logits) else 0.001
        label = self._label(_plain(logits), voxel_ml, data, data.get("native_clicks"))
        return {**data, self.key: _like(label, logits)}

    def _placed(self, data: Mapping, placement: Placement, native: Grid) -> MetaTensor:
        """Return the label map on the grid of the case, which shares its voxels with the working grid."""
        logits, clicks = _plain(data[self.key])[(slice(None), *placement.source)], data.get("clicks")
        if clicks is not None:
            clicks = clicks.cpu().round().long() - torch.tensor([inside.start for inside in placement.source])
        label = self._label(logits, native.voxel_ml, data, clicks)
        label = place(label, placement._replace(source=(slice(None),) * 3), native.shape)
        return MetaTensor(label, affine=torch.as_tensor(native.affine))

    def _label(self, logits: torch.Tensor, voxel_ml: float, data: Mapping, clicks: torch.Tensor | None) -> torch.Tensor:
        clicked = ([], []) if clicks is None else (clicks.tolist(), data["click_targets"].tolist())
        return clean_label(nest(logits > 0, dim=0), voxel_ml, *self.least, *clicked)


def case_grids(image: MetaTensor) -> tuple[Grid, Grid]:
    """Return the working grid of an image ``(C, D, H, W)``, and the native grid of its case."""
    affine = torch.as_tensor(image.affine).double().cpu().numpy()
    native = np.asarray(image.meta[MetaKeys.ORIGINAL_AFFINE], float)
    return Grid(image.shape[1:], affine), Grid([int(n) for n in image.meta[MetaKeys.SPATIAL_SHAPE]], native)


def clean_label(
    regions: torch.Tensor,
    voxel_ml: float,
    min_lesion_ml: float = 0.0,
    min_part_ml: float = 0.0,
    min_et_ml: float = 0.0,
    clicks: Sequence[Sequence[int]] = (),
    targets: Sequence[Sequence[float]] = (),
) -> torch.Tensor:
    """Turn nested regions ``(3, D, H, W)``, bool, into a label map ``(1, D, H, W)``; see ``LogitsToLabeld``.

    Args:
        regions: modified in place.
        voxel_ml: volume of a voxel in ml.
        min_lesion_ml, min_part_ml, min_et_ml: as in ``LogitsToLabeld``.
        clicks: clicked voxels.
        targets: targets of the clicks per region, 1, 0 or -1; a component that is clicked with 1 is kept.
    """
    whole = torch.zeros((1, *regions.shape[1:]), dtype=torch.uint8, device=regions.device)
    box = bounding_box(regions[0])
    if box is None:
        return whole
    regions = regions[(slice(None), *box)]
    for region, least in enumerate((min_lesion_ml, min_part_ml, min_part_ml)):
        if least > 0:
            here = [voxel for voxel, said in zip(clicks, targets, strict=True) if said[region] > 0]
            kept = [tuple(int(v) - s.start for v, s in zip(voxel, box, strict=True)) for voxel in here]
            mask = np.ascontiguousarray(regions[region].cpu().numpy())
            large = _without_small_pieces(mask, math.ceil(least / voxel_ml), kept)
            regions[region] = torch.from_numpy(large).to(regions.device)
    # Inner regions must not keep voxels of a component that was dropped from an outer region.
    regions = nest(regions, dim=0)
    if regions[2].sum() * voxel_ml < min_et_ml and not any(said[2] > 0 for said in targets):
        regions[2] = False
    whole[(slice(None), *box)] = regions_to_label(regions)
    return whole


def _without_small_pieces(mask: np.ndarray, smallest: int, kept: list[tuple[int, ...]]) -> np.ndarray:
    large = cc3d.dust(mask, threshold=smallest, connectivity=26).astype(bool)
    kept = [v for v in kept if all(0 <= a < n for a, n in zip(v, mask.shape, strict=True)) and mask[v] and not large[v]]
    if kept:
        pieces = cc3d.connected_components(mask, connectivity=26)
        large |= np.isin(pieces, [pieces[voxel] for voxel in kept])
    return large


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a plain tensor on the same memory: every operation on a MetaTensor would copy the metadata."""
    return tensor.as_subclass(torch.Tensor)


def _has_affine(image: torch.Tensor) -> bool:
    return isinstance(image, MetaTensor)


def _like(label: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    if not _has_affine(source):
        return label
    return MetaTensor(label.as_subclass(torch.Tensor), meta=source.meta)
