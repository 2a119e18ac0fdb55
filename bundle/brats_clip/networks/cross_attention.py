"""Cross-attention from voxels to a few tokens, shared by slice bridging and report guidance."""
# ruff: noqa: UP006, UP035, UP045 - torch.jit.script reads the annotations

import math
from typing import List, Optional

from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Residual update of voxel features by attention to tokens.

    The output projection is initialised to zero: an untrained network computes exactly the same as without tokens, and
    learns to use them only as far as they help.

    Args:
        channels: channels of the voxel features.
        token_dim: channels of the tokens.
        heads: number of attention heads; divides ``channels``.
    """

    def __init__(self, channels: int, token_dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(token_dim, channels)
        self.value = nn.Linear(token_dim, channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, x.shape[2] // self.heads)).transpose(1, 2)

    def forward(self, voxels: Tensor, tokens: Tensor, token_mask: Optional[Tensor] = None) -> Tensor:
        """Compute the update.

        Args:
            voxels: ``(N, V, channels)``.
            tokens: ``(N, T, token_dim)``.
            token_mask: ``(N, T)``, True for valid tokens, at least one per sample. ``None``: all are valid.

        Returns:
            ``(N, V, channels)``.
        """
        query, key, value = (
            self._split(self.query(voxels)),
            self._split(self.key(tokens)),
            self._split(self.value(tokens)),
        )
        # With a dozen tokens, this is 2-4 times faster on a CPU than scaled_dot_product_attention.
        scores = query @ (key * (1.0 / math.sqrt(key.shape[3]))).transpose(2, 3)
        if token_mask is not None:
            scores = scores.masked_fill(~token_mask[:, None, None, :], float("-inf"))
        return self.out((scores.softmax(dim=-1).to(value.dtype) @ value).transpose(1, 2).flatten(2))


def to_tokens(x: Tensor) -> Tensor:
    """View features ``(N, C, D, H, W)`` as ``(N, D * H * W, C)``; makes no copy in ``channels_last_3d``."""
    return x.permute(0, 2, 3, 4, 1).flatten(1, 3)


def to_volume(tokens: Tensor, size: List[int]) -> Tensor:
    """The inverse of ``to_tokens``; ``size`` is ``[D, H, W]``."""
    return tokens.unflatten(1, size).permute(0, 4, 1, 2, 3)
