"""Features of a segmentation from which its quality is predicted: a few numbers per region."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from .voxels import BLOCK, LIKELY, Coarse

FEATURES = (
    "soft_dice",  # logit of the Dice expected from the probabilities, with the rules for empty regions
    "size",  # log of the expected volume, ml
    "doubt",  # share of the expected error in blocks that are likely wrong; the rest is usual border error
    "peak",  # logit of the probability that the region exists at all, see ``_presence``
    "empty",  # whether the region is empty in the segmentation
    "outer",  # logit of the soft Dice of the region around this one (of WT itself for WT)
    "edge",  # step of the region's log-odds across its border; 0 for an empty region
    "no_t1ce",
    "no_flair",
    "disagrees",  # 1 - consistency of the report with the image; 0 without a report
)
_EPS = 0.01
_LEAST_ML = 0.08


@dataclass(frozen=True)
class Circumstances:
    """What is known about a segmentation besides its probabilities.

    Attributes:
        missing: sequences that the case lacks.
        consistency: of the report with the image, 0 to 1; None without a report, or if nothing could be compared.
    """

    missing: Collection[str] = ()
    consistency: float | None = None


def case_features(coarse: Coarse, voxel_ml: float, known: Circumstances) -> tuple[Tensor, Tensor, Tensor]:
    """Return features per region, ``(3, len(FEATURES))``, and the expected and segmented volumes, ``(3,)`` ml.

    Args:
        coarse: probabilities and masks.
        voxel_ml: volume of a voxel.
    """
    block_ml = voxel_ml * BLOCK**3
    expected, answered, inside = (part.flatten(1).sum(dim=1) * block_ml for part in coarse)
    presence = _presence(coarse.probabilities, block_ml)
    shared = 2 * inside / (expected + answered).clamp(min=block_ml)
    soft = _logit(torch.where(answered > 0, presence * shared, 1 - presence))
    wrong = coarse.wrong.flatten(1)
    doubt = torch.where(wrong >= LIKELY, wrong, 0).sum(dim=1) / wrong.sum(dim=1).clamp(min=1e-6)
    size, empty = torch.log(expected + 0.1), (answered == 0).float()
    outer = torch.stack([soft[0], soft[0], soft[1]])
    disagrees = 0.0 if known.consistency is None else 1 - known.consistency
    given = torch.tensor([float("t1ce" in known.missing), float("flair" in known.missing), disagrees]).expand(3, -1)
    own = [soft, size, doubt, _logit(presence), empty, outer, _edge(coarse)]
    rows = torch.cat([torch.stack(own, dim=1), given], dim=1)
    return rows, expected, answered


def _presence(probabilities: Tensor, block_ml: float) -> Tensor:
    """Return the probability ``(3,)`` that a region exists: the lowest one in its most probable ``_LEAST_ML``."""
    flat = probabilities.flatten(1)
    return flat.topk(max(1, min(round(_LEAST_ML / block_ml), flat.shape[1])), dim=1).values[:, -1]


def _edge(coarse: Coarse) -> Tensor:
    """Return the feature "edge" ``(3,)``: mean log-odds of the last blocks inside minus those of the first outside."""
    mask, odds = coarse.masks > 0.5, _logit(coarse.probabilities)

    def mean_in(blocks: Tensor) -> Tensor:
        return torch.where(blocks, odds, 0).flatten(1).sum(dim=1) / blocks.flatten(1).sum(dim=1).clamp(min=1)

    step = mean_in(mask & _dilate(~mask)) - mean_in(_dilate(mask) & ~mask)
    return torch.where(mask.flatten(1).any(dim=1), step, 0)


def _dilate(masks: Tensor) -> Tensor:
    """Dilate ``(C, D, H, W)`` bool by one block, also diagonally; MONAI's ``dilate`` takes 70 times as long."""
    found = masks.clone()
    for axis in (1, 2, 3):
        before, length = found.clone(), masks.shape[axis] - 1
        found.narrow(axis, 1, length).logical_or_(before.narrow(axis, 0, length))
        found.narrow(axis, 0, length).logical_or_(before.narrow(axis, 1, length))
    return found


def _logit(share: Tensor) -> Tensor:
    share = share.clamp(_EPS, 1 - _EPS)
    return torch.log(share / (1 - share))
