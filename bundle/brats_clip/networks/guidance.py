"""Semantic-level fusion, second part: cross-modal guidance by the report."""
# ruff: noqa: UP006, UP035, UP045 - torch.jit.script reads the annotations

from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn

from .cross_attention import CrossAttention, to_tokens, to_volume
from .positions import CoordinateEmbedding


class ReportMemory(nn.Module):
    """Prepends a learned "no report" token to any number of report tokens, including zero.

    Args:
        semantic_dim: length E of a token.
    """

    def __init__(self, semantic_dim: int):
        super().__init__()
        self.no_report = nn.Parameter(torch.randn(semantic_dim) * semantic_dim**-0.5)
        self.norm = nn.LayerNorm(semantic_dim)

    def forward(
        self,
        batch: int,
        report_tokens: Optional[Tensor] = None,
        report_mask: Optional[Tensor] = None,
    ) -> Tuple[Tensor, Tensor]:
        """Build the token sequence.

        Args:
            batch: N.
            report_tokens: ``(N, R, E)``; R may be 0. ``None``: no report.
            report_mask: ``(N, R)``, True for valid tokens; the others are ignored. ``None``: all are valid.

        Returns:
            Tokens ``(N, 1 + R, E)`` and their mask ``(N, 1 + R)``.
        """
        tokens = self.no_report.expand(batch, 1, -1)
        mask = torch.ones(batch, 1, dtype=torch.bool, device=tokens.device)
        if report_tokens is not None:
            if report_mask is None:
                real = torch.ones(report_tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            else:
                real = report_mask.to(torch.bool)
            report = report_tokens.to(tokens.dtype).masked_fill(~real.unsqueeze(-1), 0.0)
            tokens, mask = torch.cat([tokens, report], dim=1), torch.cat([mask, real], dim=1)
        return self.norm(tokens), mask


class ReportGuidance(nn.Module):
    """Cross-attention from decoder features to the sentences of the report, weighted by a gate per voxel.

    Args:
        channels: channels of the decoder features.
        semantic_dim: length E of a report token.
        heads: number of attention heads.
    """

    def __init__(self, channels: int, semantic_dim: int, heads: int):
        super().__init__()
        self.positions = CoordinateEmbedding(channels)
        self.norm = nn.LayerNorm(channels)
        self.attend = CrossAttention(channels, semantic_dim, heads)
        self.gate = nn.Linear(channels, 1)

    def forward(self, x: Tensor, memory: Tensor, memory_mask: Tensor, extent: Tensor) -> Tensor:
        """Add the attended report information to the features.

        Args:
            x: ``(N, C, D, H, W)``.
            memory, memory_mask: from ``ReportMemory``.
            extent: ``(N, 3, 2)``, lowest and highest coordinate of ``x`` in the whole volume, per axis.
        """
        size = [x.shape[2], x.shape[3], x.shape[4]]
        voxels = self.norm(to_tokens(x)) + self.positions(size, extent)
        said = self.attend(voxels, memory, memory_mask) * torch.sigmoid(self.gate(voxels))
        return x + to_volume(said, size).to(x.dtype)


class ReportModulation(nn.Module):
    """Scales and shifts channels by a summary of the report, for levels where attention per voxel would be too slow.

    Args:
        channels: channels of the features.
        semantic_dim: length E of a report token.
    """

    def __init__(self, channels: int, semantic_dim: int):
        super().__init__()
        self.relevance = nn.Linear(semantic_dim, 1)
        self.modulate = nn.Linear(semantic_dim, 2 * channels)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        self.register_buffer("zero", torch.zeros(channels), persistent=False)
        self.register_buffer("one", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Scale and shift features ``(N, C, D, H, W)`` by ``memory`` and its mask from ``ReportMemory``."""
        scores = self.relevance(memory).squeeze(-1).float().masked_fill(~memory_mask, float("-inf"))
        summary = (scores.softmax(dim=1).unsqueeze(-1) * memory).sum(dim=1)
        scale, shift = self.modulate(summary).float().chunk(2, dim=1)
        samples: List[Tensor] = []
        for n in range(x.shape[0]):  # batch_norm with mean 0 and variance 1 is the fastest scale and shift
            samples.append(
                torch.batch_norm(x[n : n + 1], 1 + scale[n], shift[n], self.zero, self.one, False, 0.0, 0.0, True)
            )
        return torch.cat(samples) if x.shape[0] > 1 else samples[0]
