"""Calibrated probabilities of the regions at each voxel, from the logits at the voxel and around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import bounding_box
from ..labels import ED, ET, NCR, nest

VOXEL_FEATURES = ("one", "logit", "near", "far")
"""Inputs of a probability: a constant, the logit, and its mean over cubes of ``NEAR`` and ``FAR`` blocks. Near a
border, the means show its distance and side, and how certain the network is of the whole component."""
NEAR, FAR = 3, 9
BLOCK = 2  # block size in voxels per axis: means, features and places are computed on blocks, at an eighth of the cost
LIKELY = 0.2  # lower error probabilities occur nearly everywhere along a border
_CLAMP = 10.0
# Voxels far from the tumour with a WT logit below this, which is a probability of 1 %, are ignored.
_FLOOR = -4.6
_MARGIN = 8


class Box(NamedTuple):
    """The part of a working grid that is assessed: ``slices`` of D, H, W, in whole blocks."""

    slices: tuple[slice, slice, slice]

    @property
    def corner(self) -> tuple[int, int, int]:
        return tuple(s.start for s in self.slices)

    def of(self, volumes: Tensor) -> Tensor:
        """Return the part of volumes ``(..., D, H, W)`` that lies in the box."""
        return volumes[(..., *self.slices)]


def find_box(logits: Tensor) -> Box | None:
    """Return the box of possible tumour in logits ``(3, D, H, W)``, sides divisible by ``BLOCK``; None if empty."""
    tops = F.max_pool3d(logits[:1].float()[None], BLOCK)[0, 0] > _FLOOR
    if (box := bounding_box(tops)) is None:
        return None
    ends = [(side.start * BLOCK - _MARGIN, side.stop * BLOCK + _MARGIN) for side in box]
    return Box(tuple(slice(max(0, a), min(b, n)) for (a, b), n in zip(ends, logits.shape[1:], strict=True)))


def blocks(volumes: Tensor) -> Tensor:
    """Compute means over blocks: ``(C, D, H, W)`` to ``(C, D / 2, H / 2, W / 2)``."""
    found = volumes.float()
    for axis in (1, 2, 3):  # several times faster than pooling
        pairs = found.unflatten(axis, (-1, BLOCK))
        found = pairs.select(axis + 1, 0) + pairs.select(axis + 1, 1)
    return found / BLOCK**3


def voxel_features(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return nested logits ``(3, D, H, W)``, and their means ``near`` and ``far``, ``(3, D / 2, H / 2, W / 2)``."""
    nested = nest(logits.float(), dim=0).clamp(-_CLAMP, _CLAMP)
    coarse = blocks(nested)
    return nested, mean_of_cube(coarse, NEAR), mean_of_cube(coarse, FAR)


def mean_of_cube(volumes: Tensor, side: int) -> Tensor:
    """Compute the mean of ``(C, D, H, W)`` over cubes of ``side`` voxels, an odd number, with replicated borders."""
    found = F.pad(volumes[None], [side // 2] * 6, mode="replicate")[0]
    for axis in (1, 2, 3):  # separable: per axis, the difference of two cumulative sums
        sums = F.pad(found.cumsum(dim=axis), [0, 0] * (3 - axis) + [1, 0])
        number = found.shape[axis] - side + 1
        found = (sums.narrow(axis, side, number) - sums.narrow(axis, 0, number)) / side
    return found


def region_probabilities(logits: Tensor, coefficients: Sequence[Sequence[float]]) -> Tensor:
    """Compute calibrated, nested probabilities of WT, TC and ET ``(3, D, H, W)``, float.

    Args:
        logits: of a box, ``(3, D, H, W)`` with sides divisible by ``BLOCK``.
        coefficients: per region, one for each of ``VOXEL_FEATURES``.
    """
    nested, near, far = voxel_features(logits)
    one, own, of_near, of_far = (
        torch.tensor(c, dtype=torch.float32, device=logits.device).view(3, 1, 1, 1)
        for c in zip(*coefficients, strict=True)
    )
    around = one + of_near * near + of_far * far
    for axis in (1, 2, 3):
        around = around.repeat_interleave(BLOCK, dim=axis)
    return nest(torch.sigmoid(own * nested + around), dim=0)


class Coarse(NamedTuple):
    """Block means ``(3, d, h, w)`` of the regions' probabilities, of the segmentation's masks, and of their product."""

    probabilities: Tensor
    masks: Tensor
    inside: Tensor

    @property
    def wrong(self) -> Tensor:
        """Expected share of a block that is missed, and that is false positive, ``(3, 2, d, h, w)``."""
        missed, false = self.probabilities - self.inside, self.masks - self.inside
        return torch.stack([missed, false], dim=1).clamp(min=0)


def coarse_of(probabilities: Tensor, label: Tensor) -> Coarse:
    """Compute block means of calibrated probabilities ``(3, D, H, W)`` and the label ``(D, H, W)``."""
    masks = torch.stack([label > 0, (label == NCR) | (label == ET), label == ET]).float()
    return Coarse(blocks(probabilities), blocks(masks), blocks(probabilities * masks))


def error_of_label(probabilities: Tensor, label: Tensor) -> Tensor:
    """Return the probability ``(D, H, W)`` that ``label`` is wrong, from nested probabilities of the regions."""
    whole, core, enhancing = probabilities
    right = 1 - whole
    for value, probability in ((ED, whole - core), (NCR, core - enhancing), (ET, enhancing)):
        right = torch.where(label == value, probability, right)
    return 1 - right
