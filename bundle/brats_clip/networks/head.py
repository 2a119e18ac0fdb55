"""The output head: compute logits at 1 mm from 2 mm features and 1 mm detail."""
# ruff: noqa: UP006, UP035, UP045 - torch.jit.script reads the annotations

import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pixel_fusion import PixelProjection
from .pixel_shuffle import shuffle
from .semantic_attention import SemanticAttention

INITIAL_LOGIT = math.log(0.02 / 0.98)  # tumour voxels are rare; starting at 0.5 wastes the first hundred steps


def logits_layer(channels: int, out_channels: int) -> nn.Conv3d:
    """Return a 1x1x1 convolution to logits; its initial probabilities are about 0.02."""
    layer = nn.Conv3d(channels, out_channels, kernel_size=1)
    nn.init.constant_(layer.bias, INITIAL_LOGIT)
    return layer


class RegionHead(nn.Module):
    """Combines decoder features with full-resolution image detail, so that borders are resolved at 1 mm.

    Args:
        fused: channels of the fused image.
        channels: channels of the decoder features at 2 mm.
        width: channels of the hidden layer.
        regions: number of regions.
        region_embeddings: ``(regions, E)`` for ``SemanticAttention``; ``None``: no semantic attention.
    """

    def __init__(self, fused: int, channels: int, width: int, regions: int, region_embeddings: Optional[Tensor] = None):
        super().__init__()
        self.detail = PixelProjection(fused, width)  # independent of the report, so computed once per case
        self.features = nn.Conv3d(channels, width, kernel_size=1)
        self.semantic_attention: Optional[SemanticAttention] = None
        if region_embeddings is not None:
            self.semantic_attention = SemanticAttention(channels, region_embeddings, refined=width)
        self.logits = logits_layer(width, 8 * regions)

    def forward(self, x: Tensor, detail: Tensor) -> Tuple[Tensor, Tensor]:
        """Predict logits and attention maps.

        Args:
            x: decoder features ``(N, C, D/2, H/2, W/2)``.
            detail: ``(N, width, D/2, H/2, W/2)``, from ``self.detail``.

        Returns:
            Logits ``(N, regions, D, H, W)`` and attention maps as logits ``(N, regions, D/2, H/2, W/2)``. The maps have
            no channels if there is no semantic attention. Both ``float32``.
        """
        hidden = self.features(x).add_(detail)
        attention = torch.zeros([x.shape[0], 0, x.shape[2], x.shape[3], x.shape[4]], device=x.device)
        if self.semantic_attention is not None:
            attention, refinement = self.semantic_attention(x)
            hidden = hidden.add_(refinement)
        return shuffle(self.logits(F.leaky_relu(hidden, inplace=True))).float(), attention
