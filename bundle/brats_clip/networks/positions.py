"""Positional embedding of voxels and slices."""
# ruff: noqa: UP006, UP035 - torch.jit.script reads the annotations

import math
from typing import List

import torch
from torch import Tensor, nn


def voxel_centres(count: int, extent: Tensor) -> Tensor:
    """Centres of ``count`` equal cells between ``extent[:, 0]`` and ``extent[:, 1]``: ``(N, 2)`` to ``(N, count)``."""
    steps = (torch.arange(count, device=extent.device, dtype=extent.dtype) + 0.5) / count
    return extent[:, 0:1] + steps * (extent[:, 1:2] - extent[:, 0:1])


class CoordinateEmbedding(nn.Module):
    """Embeds coordinates of the whole working volume, each axis running from -1 to 1.

    The three axes are embedded separately and summed. After a softmax, a dot product with the sum becomes a product
    over the axes. Attention can therefore express "left and frontal", while the embedding of a volume stays cheap.

    Voxels and slices share the weights of an axis: a voxel and the sagittal slice through it get similar embeddings.

    Args:
        dim: number of channels.
        frequencies: number of sine and cosine pairs per axis; the longest wavelength is two volumes, each next is half.
    """

    def __init__(self, dim: int, frequencies: int = 5):
        super().__init__()
        self.frequencies = frequencies
        self.weight = nn.Parameter(torch.randn(3, 2 * frequencies + 1, dim) / math.sqrt(6 * frequencies + 3))

    def along_axis(self, coordinates: Tensor, axis: int) -> Tensor:
        """Embed coordinates ``(N, L)`` along one axis: ``(N, L, dim)``."""
        octaves = torch.arange(self.frequencies, device=coordinates.device, dtype=torch.float32)
        angles = coordinates.float().unsqueeze(-1) * (math.pi / 2 * 2.0**octaves)
        waves = torch.cat([coordinates.float().unsqueeze(-1), angles.sin(), angles.cos()], dim=-1)
        return waves @ self.weight[axis]

    def forward(self, size: List[int], extent: Tensor) -> Tensor:
        """Embed the voxels of a volume.

        Args:
            size: ``[D, H, W]``.
            extent: ``(N, 3, 2)``, lowest and highest coordinate of this volume in the whole one, per axis.

        Returns:
            ``(N, D * H * W, dim)``.
        """
        axes: List[Tensor] = []
        for axis in range(3):
            axes.append(self.along_axis(voxel_centres(size[axis], extent[:, axis]), axis))
        volume = axes[0][:, :, None, None] + axes[1][:, None, :, None] + axes[2][:, None, None, :]
        return volume.flatten(1, 3)

    def slices(self, slice_positions: Tensor) -> Tensor:
        """Embed slices ``(N, S, 2)``, given as plane index (0, 1, 2 = across the first, second, third axis) and
        coordinate: ``(N, S, dim)``."""
        embedded = self.along_axis(slice_positions[..., 1], 0)
        for axis in range(1, 3):
            across = (slice_positions[..., 0] == axis).unsqueeze(-1)
            embedded = torch.where(across, self.along_axis(slice_positions[..., 1], axis), embedded)
        return embedded
