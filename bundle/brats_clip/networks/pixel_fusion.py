"""Pixel-level fusion: weight the sequences, add difference images, and go to 2 mm without losing 1 mm detail."""
# ruff: noqa: UP045 - torch.jit.script reads the annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIFFERENCES = ((1, 0), (2, 3))  # T1ce-T1 shows enhancement, T2-FLAIR tells fluid from oedema


class PixelFusion(nn.Module):
    """Weights the four sequences by statistics of the image and appends the differences T1ce-T1 and T2-FLAIR.

    The weights start at 1. A sequence that is degraded or has little contrast in this patient can be weighted down. A
    missing sequence is zero everywhere; its difference images are set to zero, as they would only show the other one.

    Weighting and subtraction are linear, and so is the projection that follows. The module therefore returns one small
    matrix per sample, to be merged with the projection. Writing the fused volume itself (48 channels at 2 mm) to memory
    would take longer than computing the rest of the encoder.

    Args:
        hidden: width of the layer between statistics and weights.
    """

    def __init__(self, hidden: int = 16):
        super().__init__()
        self.hidden = nn.Linear(4 * 3, hidden)
        self.weights = nn.Linear(hidden, 4)
        self.differences = DIFFERENCES
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        append = torch.eye(4, 4 + len(DIFFERENCES))
        for column, (plus, minus) in enumerate(DIFFERENCES, start=4):
            append[plus, column], append[minus, column] = 1.0, -1.0
        self.register_buffer("append", torch.kron(append, torch.eye(8)), persistent=False)

    def sequence_weights(self, image: Tensor) -> Tensor:
        """Weights ``(N, 4)`` in (0, 2) for an image ``(N, 4, D, H, W)``, z-scored and zero outside the brain."""
        sparse = image[:, :, ::2, ::2, ::2].flatten(2).float()  # an eighth of the voxels is enough for a mean
        brain = (sparse != 0).any(dim=1, keepdim=True).float().mean(dim=2).clamp(min=1e-3)
        bright, dark, square = sparse.relu().mean(dim=2), (-sparse).relu().mean(dim=2), (sparse**2).mean(dim=2)
        statistics = torch.cat([bright / brain, dark / brain, (square / brain).sqrt()], dim=1)
        return 2 * torch.sigmoid(self.weights(F.leaky_relu(self.hidden(statistics))).float())

    def forward(self, image: Tensor) -> Tensor:
        """Return the matrix ``(N, 32, 48)`` that maps a voxel of the unshuffled image to eight weighted channels for
        each of T1, T1ce, T2, FLAIR, T1ce-T1 and T2-FLAIR."""
        weights = self.sequence_weights(image)
        there = (image[:, :, ::2, ::2, ::2] != 0).flatten(2).any(dim=2)
        both = [there[:, plus] & there[:, minus] for plus, minus in self.differences]
        columns = torch.cat([torch.ones_like(there), torch.stack(both, dim=1)], dim=1).to(weights.dtype)
        mix = weights.repeat_interleave(8, dim=1).unsqueeze(2) * self.append
        return mix * columns.repeat_interleave(8, dim=1).unsqueeze(1)


class PixelProjection(nn.Module):
    """A 1x1x1 convolution of the fused image.

    Args:
        fused: channels of the fused image.
        channels: channels of the output.
    """

    def __init__(self, fused: int, channels: int):
        super().__init__()
        self.linear = nn.Linear(fused, channels, bias=False)

    def forward(self, tokens: Tensor, mix: Optional[Tensor] = None) -> Tensor:
        """Project ``(N, V, C)`` to ``(N, V, channels)``, mixed by ``(N, C, fused)`` of ``PixelFusion`` first."""
        if mix is None:
            return self.linear(tokens)
        return tokens @ self.linear(mix).to(tokens.dtype)
