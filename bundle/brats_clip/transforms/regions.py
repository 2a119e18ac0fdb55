"""Between label maps and nested regions."""

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
from ..geometry import Grid, Placement, find_placement, place
from ..labels import label_to_regions, nest, regions_to_label


class LabelToRegionsd(Transform):
    """Replace ``label`` ``(1, D, H, W)`` by its regions WT, TC, ET ``(3, D, H, W)``, float; a case without stays."""

    def __init__(self, key: str = "label") -> None:
        self.key = key

    def __call__(self, data: Mapping) -> dict:
        if self.key not in data:
            return dict(data)
        return {**data, self.key: label_to_regions(data[self.key])}


class LogitsToLabeld(Transform):
    """Replace logits ``(3, D, H, W)`` of WT, TC, ET by a label map ``(1, D, H, W)`` with values 0, 1, 2, 4.

    What is too small to be kept costs little Dice, but each piece would count as a false lesion. A piece that somebody
    clicked into its region (``native_clicks``) stays.

    Args:
        key: where the logits are; the label map takes their place.
        min_lesion_ml: separate pieces of tumour smaller than this are dropped; 0 keeps every voxel.
        min_part_ml: separate pieces of core and of enhancing tumour smaller than this become what lies around them.
            BraTS does not count lesions below 50 voxels, which is 0.05 ml, either.
        min_et_ml: a smaller enhancing tumour in the whole case becomes core. BraTS scores one false voxel of ET in a
            case without any as 0, which is why many entries to the challenge do so; 0 keeps every voxel.
        invert: an ``Invertd`` for logits on the working grid of ``image``. It is only used where resampling lies
            between that grid and the case's own; elsewhere the label is placed into it, which is exact and quicker.

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
        if math.isnan(float(_plain(data[self.key]).sum())):  # a NaN anywhere makes the sum one, at a fifth of the time
            where = f"{self.key} of case {data.get('case', '')}"
            raise InputError(where, "NaN", "logits: are the weights sound?")
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
        """The label map on the grid of the case, which has the voxels of the working grid."""
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
    """The working grid of an image ``(C, D, H, W)``, and that of the case it was made from."""
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
        regions: changed in place.
        voxel_ml: volume of a voxel in ml.
        min_lesion_ml, min_part_ml, min_et_ml: as in ``LogitsToLabeld``.
        clicks: clicked voxels.
        targets: what they say of each region, 1, 0 or -1; a piece that is said to be there stays.
    """
    whole = torch.zeros((1, *regions.shape[1:]), dtype=torch.uint8, device=regions.device)
    box = _bounds(regions[0])
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
    # What lay in a piece that was just dropped is no enhancing tumour any more.
    regions = nest(regions, dim=0)
    if regions[2].sum() * voxel_ml < min_et_ml and not any(said[2] > 0 for said in targets):
        regions[2] = False
    whole[(slice(None), *box)] = regions_to_label(regions)
    return whole


def _bounds(mask: torch.Tensor) -> tuple[slice, ...] | None:
    """The box around a mask ``(D, H, W)``; None if it is empty."""
    box = []
    for others in ((1, 2), (0, 2), (0, 1)):
        places = mask.any(dim=others[1]).any(dim=others[0]).nonzero()
        if len(places) == 0:
            return None
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)


def _without_small_pieces(mask: np.ndarray, smallest: int, kept: list[tuple[int, ...]]) -> np.ndarray:
    large = cc3d.dust(mask, threshold=smallest, connectivity=26).astype(bool)
    kept = [v for v in kept if all(0 <= a < n for a, n in zip(v, mask.shape, strict=True)) and mask[v] and not large[v]]
    if kept:
        pieces = cc3d.connected_components(mask, connectivity=26)
        large |= np.isin(pieces, [pieces[voxel] for voxel in kept])
    return large


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory without meta, which every operation on a MetaTensor would copy."""
    return tensor.as_subclass(torch.Tensor)


def _has_affine(image: torch.Tensor) -> bool:
    return isinstance(image, MetaTensor)


def _like(label: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    if not _has_affine(source):
        return label
    return MetaTensor(label.as_subclass(torch.Tensor), meta=source.meta)
