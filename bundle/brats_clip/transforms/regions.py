"""Between label maps and nested regions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cc3d
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from ..errors import InputError
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

    Args:
        key: where the logits are; the label map takes their place.
        min_lesion_ml: separate pieces of tumour smaller than this are dropped; 0 keeps every voxel. Specks cost little
            Dice, but each counts as a false lesion. A piece that somebody clicked on (``native_clicks``) stays.
        min_et_ml: a smaller enhancing tumour in the whole case becomes core. BraTS scores one false voxel of ET in a
            case without any as 0, which is why many entries to the challenge do so; 0 keeps every voxel.

    Raises:
        InputError: if a logit is NaN, which would otherwise count as "no tumour".
    """

    def __init__(self, key: str = "pred", min_lesion_ml: float = 0.0, min_et_ml: float = 0.0) -> None:
        self.key, self.min_lesion_ml, self.min_et_ml = key, min_lesion_ml, min_et_ml

    def __call__(self, data: Mapping) -> dict:
        logits = data[self.key]
        if logits.isnan().any():
            raise InputError(f"{self.key} of case {data.get('case', '')}", "NaN", "logits: are the weights sound?")
        regions = nest(logits, dim=0) > 0
        voxel_ml = float(torch.as_tensor(logits.affine)[:3, :3].det().abs()) / 1000 if _has_affine(logits) else 0.001
        label = clean_label(torch.as_tensor(regions), voxel_ml, self.min_lesion_ml, self.min_et_ml, _clicked(data))
        return {**data, self.key: _like(label, logits)}


def clean_label(
    regions: torch.Tensor,
    voxel_ml: float,
    min_lesion_ml: float = 0.0,
    min_et_ml: float = 0.0,
    clicked: Sequence[Sequence[int]] = (),
) -> torch.Tensor:
    """Turn nested regions ``(3, D, H, W)``, bool, into a label map ``(1, D, H, W)``; see ``LogitsToLabeld``.

    Args:
        regions: changed in place.
        voxel_ml: volume of a voxel in ml.
        min_lesion_ml, min_et_ml: as in ``LogitsToLabeld``.
        clicked: voxels inside the tumour by somebody's word; their pieces stay, and so does their ET.
    """
    kept = [tuple(int(v) for v in voxel) for voxel in clicked]
    if min_lesion_ml > 0:
        tumour = regions[0].cpu().numpy()
        whole = cc3d.dust(tumour, threshold=math.ceil(min_lesion_ml / voxel_ml), connectivity=26).astype(bool)
        if any(tumour[voxel] and not whole[voxel] for voxel in kept):
            pieces = cc3d.connected_components(tumour, connectivity=26)
            whole |= np.isin(pieces, [pieces[voxel] for voxel in kept if tumour[voxel]])
        regions &= torch.from_numpy(whole).to(regions.device)
    if regions[2].sum() * voxel_ml < min_et_ml and not any(regions[(2, *voxel)] for voxel in kept):
        regions[2] = False
    return regions_to_label(regions)


def _clicked(data: Mapping) -> list[list[int]]:
    if "native_clicks" not in data:
        return []
    inside = data["click_targets"][:, 0] > 0
    return data["native_clicks"][inside.cpu()].tolist()


def _has_affine(image: torch.Tensor) -> bool:
    return isinstance(image, MetaTensor)


def _like(label: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    if not _has_affine(source):
        return label
    return MetaTensor(label.as_subclass(torch.Tensor), meta=source.meta)
