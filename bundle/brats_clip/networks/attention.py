"""Feature-level fusion: attention over channels, over space, and on the skip connections."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelSpatialAttention(nn.Module):
    """Weights channels by their mean over the volume, and voxels by a learned combination of their channels.

    Concurrent squeeze and excitation (Roy et al. 2018, arXiv:1803.02579) with the two weights added, so that one
    multiplication applies both. Both weights start at 0.5, so the block starts as the identity.

    Args:
        channels: number of channels C of both input and output, ``(N, C, D, H, W)``.
        reduction: ratio of C to the width of the hidden layer of the channel weights.
    """

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // reduction, 4))
        self.excite = nn.Linear(max(channels // reduction, 4), channels)
        self.spatial = nn.Conv3d(channels, 1, kernel_size=1)
        for layer in (self.excite, self.spatial):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.squeeze(x.mean(dim=(2, 3, 4))))
        channel = torch.sigmoid(self.excite(hidden))[:, :, None, None, None]
        return x * (channel + torch.sigmoid(self.spatial(x)))


class AttentionGate(nn.Module):
    """Weights the voxels of a skip connection by attention from the coarser decoder level.

    After Oktay et al. 2018 (arXiv:1804.03999): the weights are computed at the coarse resolution, then upsampled.

    Args:
        skip_channels: channels of the skip connection ``(N, C, 2D, 2H, 2W)``.
        coarse_channels: channels of the decoder level below ``(N, C', D, H, W)``.
    """

    def __init__(self, skip_channels: int, coarse_channels: int):
        super().__init__()
        hidden = max(skip_channels // 2, 8)
        self.from_skip = nn.Conv3d(skip_channels, hidden, kernel_size=2, stride=2)
        self.from_coarse = nn.Conv3d(coarse_channels, hidden, kernel_size=1)
        self.weight = nn.Conv3d(hidden, 1, kernel_size=1)
        nn.init.constant_(self.weight.bias, 2.0)  # the gate starts open, so that early training uses the skips

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.from_skip(skip) + self.from_coarse(coarse))
        weight = torch.sigmoid(self.weight(hidden))
        weight = F.interpolate(weight, scale_factor=2.0, mode="trilinear", align_corners=False)
        # Copy the weight to every channel first: a broadcast multiplication takes three times as long on a CPU.
        return skip * weight.expand_as(skip).contiguous(memory_format=torch.channels_last_3d)
