"""A CLIP's visual encoder with its preprocessing, in one scriptable module."""

import torch
import torch.nn.functional as F
from torch import nn


class SliceVision(nn.Module):
    """Resize, normalise and encode slices.

    Args:
        visual: an open_clip visual encoder; called with ``(S, 3, image_size, image_size)``.
        image_size: side of its input, in pixels.
        mean: per channel, of the CLIP's training images.
        std: per channel, of the CLIP's training images.
    """

    def __init__(self, visual: nn.Module, image_size: int, mean: list[float], std: list[float]):
        super().__init__()
        self.visual = visual
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Encode slices ``(S, 3, h, w)`` with values in [0, 1] into ``(S, E)`` of unit norm."""
        if slices.shape[-2] != self.image_size or slices.shape[-1] != self.image_size:
            slices = F.interpolate(
                slices, size=[self.image_size, self.image_size], mode="bilinear", align_corners=False, antialias=True
            )
        return F.normalize(self.visual((slices - self.mean) / self.std).float(), dim=-1)
