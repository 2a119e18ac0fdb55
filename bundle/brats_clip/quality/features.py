"""What an answer tells about its own quality, as a few numbers per region."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from .voxels import BLOCK

FEATURES = (
    "soft_dice",  # logit of the Dice that the probabilities lead to expect, by the rules for empty regions
    "size",  # log of the expected volume, ml
    "doubt",  # share of the expected error that lies away from the border
    "peak",  # logit of the probability that there is any of the region at all, see ``_presence``
    "empty",  # whether the answer has none of it
    "outer",  # logit of the soft Dice of the region around this one (of WT itself for WT)
    "no_t1ce",
    "no_flair",
    "disagrees",  # 1 - consistency of the report with the image; 0 without a report
)
_EPS = 0.01
_LEAST_ML = 0.08


@dataclass(frozen=True)
class Circumstances:
    """What is known of an answer beside its probabilities.

    Attributes:
        missing: sequences that the case lacks.
        consistency: score of the report, 0 to 1; None without one, or where nothing could be compared.
    """

    missing: Collection[str] = ()
    consistency: float | None = None


def case_features(
    probabilities: Tensor, masks: Tensor, coarse: Tensor, voxel_ml: float, known: Circumstances
) -> tuple[Tensor, Tensor, Tensor]:
    """Features per region, ``(3, len(FEATURES))``, and the expected and the answered volumes, ``(3,)`` ml.

    Args:
        probabilities: calibrated, of WT, TC and ET, ``(3, D, H, W)``.
        masks: the answer's regions, bool.
        coarse: means of ``probabilities`` over blocks.
        voxel_ml: volume of a voxel.
    """
    inside = (probabilities * masks).flatten(1).sum(dim=1)
    expected = probabilities.flatten(1).sum(dim=1)
    answered = masks.flatten(1).sum(dim=1).float()
    presence = _presence(coarse, voxel_ml)
    soft = _logit(torch.where(answered > 0, presence * 2 * inside / (expected + answered).clamp(min=1), 1 - presence))
    error = torch.where(masks, 1 - probabilities, probabilities)
    # At a border the probability is about a half whatever the answer: what is doubtful farther away, is.
    doubt = (error * (error > 0.25) * ((probabilities < 0.35) | (probabilities > 0.65))).flatten(1).sum(dim=1)
    doubt = doubt / error.flatten(1).sum(dim=1).clamp(min=1)
    size = torch.log(expected * voxel_ml + 0.1)
    outer = torch.stack([soft[0], soft[0], soft[1]])
    given = [float(name in known.missing) for name in ("t1ce", "flair")]
    given.append(0.0 if known.consistency is None else 1 - known.consistency)
    rest = torch.tensor(given).expand(3, -1)
    rows = torch.cat(
        [torch.stack([soft, size, doubt, _logit(presence), (answered == 0).float(), outer], dim=1).cpu(), rest], dim=1
    )
    return rows, expected.cpu() * voxel_ml, answered.cpu() * voxel_ml


def _presence(coarse: Tensor, voxel_ml: float) -> Tensor:
    """Probability ``(3,)`` that the region exists: of its most probable ``_LEAST_ML``, the least probable block."""
    flat = coarse.flatten(1)
    number = round(_LEAST_ML / (voxel_ml * BLOCK**3))
    return flat.topk(max(1, min(number, flat.shape[1])), dim=1).values[:, -1]


def _logit(share: Tensor) -> Tensor:
    share = share.clamp(_EPS, 1 - _EPS)
    return torch.log(share / (1 - share))
