"""Semantic-level fusion, first part: 3D-2D bridging."""

import torch
from torch import Tensor, nn

from .cross_attention import CrossAttention, to_tokens, to_volume
from .positions import CoordinateEmbedding


class SliceBridge(nn.Module):
    """Cross-attention from voxel features to CLIP embeddings of representative slices of the whole volume.

    Slice tokens carry an embedding of their plane and of their position along its normal. Voxels carry an embedding of
    their position in the whole volume. A crop therefore has access to the rest of the head.

    Args:
        channels: channels of the voxel features.
        semantic_dim: length E of a slice token.
        heads: number of attention heads.
    """

    def __init__(self, channels: int, semantic_dim: int, heads: int = 4):
        super().__init__()
        self.positions = CoordinateEmbedding(channels)
        self.planes = nn.Parameter(torch.randn(3, channels) * 0.1)
        self.project = nn.Sequential(nn.LayerNorm(semantic_dim), nn.Linear(semantic_dim, channels))
        self.norm = nn.LayerNorm(channels)
        self.attend = CrossAttention(channels, channels, heads)

    def forward(self, x: Tensor, slice_tokens: Tensor, slice_positions: Tensor, extent: Tensor) -> Tensor:
        """Add the attended slice information to the features.

        Args:
            x: ``(N, C, D, H, W)``.
            slice_tokens: ``(N, S, E)``.
            slice_positions: ``(N, S, 2)``: plane index (0 sagittal, 1 coronal, 2 axial) and coordinate in [-1, 1] of
                the whole volume.
            extent: ``(N, 3, 2)``, lowest and highest coordinate of ``x`` in the whole volume, per axis.
        """
        slices = self.project(slice_tokens)
        slices = slices + self.positions.slices(slice_positions) + self.planes[slice_positions[..., 0].long()]
        size = [x.shape[2], x.shape[3], x.shape[4]]
        voxels = self.norm(to_tokens(x)) + self.positions(size, extent)
        return x + to_volume(self.attend(voxels, slices), size).to(x.dtype)


def in_whole_volume(slice_positions: Tensor, extent: Tensor) -> Tensor:
    """Convert slice positions from coordinates of a crop to coordinates of the whole volume.

    Args:
        slice_positions: ``(N, S, 2)``, coordinates in [-1, 1] of the crop.
        extent: ``(N, 3, 2)``, lowest and highest coordinate of the crop in the whole volume, per axis.
    """
    plane = slice_positions[..., 0].long()
    low, high = extent[..., 0].gather(1, plane), extent[..., 1].gather(1, plane)
    whole = low + (slice_positions[..., 1] + 1) / 2 * (high - low)
    return torch.stack([slice_positions[..., 0], whole], dim=-1)
