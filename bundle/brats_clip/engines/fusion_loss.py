"""The loss over all training outputs of the network."""

from __future__ import annotations

import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn


class FusionLoss(nn.Module):
    """Dice plus cross-entropy on the full-size logits, the deep-supervision logits, the semantic attention maps, and
    the logits after findings and after clicks.

    Coarser outputs are compared with the share of each region in their voxels, so that no target voxel is lost.

    Args:
        deep_weight: weight of the coarser logits; halved with each level.
        attention_weight: weight of the attention maps.
        finding_weight: weight of the logits after findings, if there are any.
        click_weight: weight of the logits after clicks, if there are any.
    """

    def __init__(
        self,
        deep_weight: float = 0.5,
        attention_weight: float = 0.3,
        finding_weight: float = 0.5,
        click_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.deep_weight, self.attention_weight = deep_weight, attention_weight
        self.finding_weight, self.click_weight = finding_weight, click_weight
        # Dice over the whole batch: a crop without ET then counts as part of a batch that has ET.
        self.dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(self, outputs, target: Tensor) -> Tensor:
        """Sum the weighted losses.

        Args:
            outputs: output of the network in training mode (``Decoded``), or logits only.
            target: regions ``(N, 3, D, H, W)`` in 0 to 1.
        """
        if isinstance(outputs, Tensor):
            return self._both(outputs, target)
        loss = self._both(outputs.unstated, target)
        weight = self.deep_weight
        for logits in outputs.deep:
            loss = loss + weight * self._both(logits, target)
            weight /= 2
        if outputs.attention.shape[1]:
            loss = loss + self.attention_weight * self._both(outputs.attention, target)
        if outputs.logits is not outputs.unstated:
            loss = loss + self.finding_weight * self._both(outputs.logits, target)
        if outputs.refined is not outputs.logits:
            loss = loss + self.click_weight * self._both(outputs.refined, target)
        return loss

    def _both(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = logits.float(), target.as_subclass(Tensor)
        if logits.shape[2:] != target.shape[2:]:
            target = F.adaptive_avg_pool3d(target, logits.shape[2:])
        return self.dice(logits, target) + F.binary_cross_entropy_with_logits(logits, target)
