"""Building blocks of the U-Net: normalisation, residual block, encoder level and decoder level."""
# ruff: noqa: UP006, UP035, UP045 - torch.jit.script reads the annotations

from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import AttentionGate, ChannelSpatialAttention
from .guidance import ReportGuidance


class SampleNorm(nn.Module):
    """Instance normalisation with a scale and a shift per channel, for ``(N, C, D, H, W)``.

    ``nn.InstanceNorm3d`` loses the ``channels_last_3d`` memory format, which makes the following layers several times
    slower on a CPU. Batch normalisation of one sample at a time computes the same and keeps the format.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def _normalise(self, x: Tensor) -> Tensor:
        # Not F.batch_norm, which raises an error for a single voxel.
        return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, True)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 1:
            return self._normalise(x)
        samples: List[Tensor] = []
        for n in range(x.shape[0]):
            samples.append(self._normalise(x[n : n + 1]))
        return torch.cat(samples)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with a residual connection, and optional attention before the sum.

    Args:
        channels: number of channels C of both input and output, ``(N, C, D, H, W)``.
        attention: whether to add ``ChannelSpatialAttention``.
    """

    def __init__(self, channels: int, attention: bool):
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = SampleNorm(channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = SampleNorm(channels)
        self.attention = ChannelSpatialAttention(channels) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.attention is not None:
            y = self.attention(y)
        return F.leaky_relu(y.add_(x), inplace=True)


class EncoderLevel(nn.Module):
    """Halves the resolution, then applies residual blocks: ``(N, C, D, H, W)`` to ``(N, C', D/2, H/2, W/2)``."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, attention: bool):
        super().__init__()
        self.down = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False)
        self.norm = SampleNorm(out_channels)
        self.blocks = nn.Sequential(*[ResidualBlock(out_channels, attention) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(F.leaky_relu(self.norm(self.down(x)), inplace=True))


class DecoderLevel(nn.Module):
    """Doubles the resolution, adds the skip connection, and applies report guidance.

    Args:
        in_channels: channels of the coarser level.
        out_channels: channels of the skip connection and of the output.
        attention: whether an ``AttentionGate`` weights the skip connection.
        block_attention: whether the residual block has ``ChannelSpatialAttention``.
        guidance: the level's ``ReportGuidance``, or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        attention: bool,
        block_attention: bool,
        guidance: Optional[ReportGuidance] = None,
    ):
        super().__init__()
        self.gate = AttentionGate(out_channels, in_channels) if attention else None
        self.up = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=2, stride=2)
        self.block = ResidualBlock(out_channels, block_attention)
        self.guidance = guidance

    def forward(self, x: Tensor, skip: Tensor, memory: Tensor, memory_mask: Tensor, extent: Tensor) -> Tensor:
        """Decode ``x`` ``(N, C, D, H, W)`` and ``skip`` ``(N, C', 2D, 2H, 2W)`` into ``(N, C', 2D, 2H, 2W)``."""
        if self.gate is not None:
            skip = self.gate(skip, x)
        x = self.block(self.up(x).add_(skip))
        if self.guidance is not None:
            x = self.guidance(x, memory, memory_mask, extent)
        return x
