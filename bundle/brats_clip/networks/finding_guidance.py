"""Guidance by findings: what a report states as numbers is compared with what the image shows."""
# ruff: noqa: UP006, UP035 - torch.jit.script reads the annotations

from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .positions import voxel_centres

SEEN = 8  # numbers per region that describe what the image shows


class FindingGuidance(nn.Module):
    """Shifts the logits by what the findings of a report state, compared with what was decoded without them.

    A report knows sizes, absence and side, which a voxel's features do not. A summary of the findings, and of volume,
    extent and position of each region as decoded so far, makes the weights of a layer that is applied to every voxel's
    features (a dynamic filter). So a core stated larger than the one segmented can grow where it is likely, and only
    there. Findings are weighed by training with wrong ones, and the shift is bounded: the image stays the judge.

    Without any known finding, and before training, the logits stay exactly as they are.

    Args:
        findings: numbers per case: K findings of F features each, with a flag for each that it is known.
        channels: channels of the decoder's features at 2 mm.
        regions: number of regions.
        hidden: width of the summary.
        rank: voxel features that the filter reads.
        bound: largest shift of a logit.
    """

    def __init__(
        self, findings: int, channels: int, regions: int, hidden: int = 96, rank: int = 24, bound: float = 6.0
    ):
        super().__init__()
        self.rank, self.regions, self.bound = rank, regions, bound
        self.summary = nn.Sequential(
            nn.Linear(findings + SEEN * regions, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
        )
        self.voxel = nn.Conv3d(channels + 2 * regions + 3, rank, kernel_size=1)
        self.filter = nn.Linear(hidden, (rank + 1) * regions)
        nn.init.zeros_(self.filter.weight)
        nn.init.zeros_(self.filter.bias)

    def forward(self, logits: Tensor, features: Tensor, findings: Tensor, extent: Tensor) -> Tensor:
        """Shift ``logits``.

        Args:
            logits: ``(N, regions, D, H, W)`` at 1 mm, of a whole volume.
            features: ``(N, channels, D/2, H/2, W/2)``, the decoder's.
            findings: ``(N, K, 1 + F)``; the first of each row says whether the finding is known, and what the others of
                an unknown one hold does not matter.
            extent: ``(N, 3, 2)``, where the volume lies in the whole one.
        """
        known = findings[:, :, :1].float()
        stated = torch.cat([known, findings[:, :, 1:].float() * known], dim=2).flatten(1)
        coarse = F.avg_pool3d(logits, 2)
        share = torch.sigmoid(coarse)
        size = [coarse.shape[2], coarse.shape[3], coarse.shape[4]]
        axes: List[Tensor] = []
        for axis in range(3):
            axes.append(voxel_centres(size[axis], extent[:, axis]))
        seen = self._seen(share, axes)
        summary = self.summary(torch.cat([stated, seen], dim=1))

        dtype = features.dtype
        place = torch.stack(
            [
                axes[0][:, :, None, None].expand(-1, -1, size[1], size[2]),
                axes[1][:, None, :, None].expand(-1, size[0], -1, size[2]),
                axes[2][:, None, None, :].expand(-1, size[0], size[1], -1),
            ],
            dim=1,
        )
        # Beyond +-8 a voxel is as sure as it gets.
        voxels = torch.cat([features, (coarse.clamp(-8.0, 8.0) / 4).to(dtype), share.to(dtype), place.to(dtype)], dim=1)
        voxels = F.leaky_relu(self.voxel(voxels))
        filters = self.filter(summary).unflatten(1, [self.regions, self.rank + 1])
        shifts: List[Tensor] = []
        for n in range(logits.shape[0]):
            weight = filters[n, :, 1:, None, None, None].to(voxels.dtype)
            shifts.append(F.conv3d(voxels[n : n + 1], weight, filters[n, :, 0].to(voxels.dtype)))
        shift = torch.cat(shifts).float() * known.amax(dim=1)[:, :, None, None, None]
        shift = self.bound * torch.tanh(shift / self.bound)
        return logits + F.interpolate(shift, scale_factor=2.0, mode="nearest")

    def _seen(self, share: Tensor, axes: List[Tensor]) -> Tensor:
        """Volume, highest probability, middle and spread of each region: ``(N, regions * SEEN)``."""
        share = share.float()
        volume = share.sum(dim=[2, 3, 4])
        seen: List[Tensor] = [((volume * 0.008 + 0.01) / 20).log() / 1.5, share.amax(dim=[2, 3, 4])]
        for axis in range(3):
            others = [2, 3, 4]
            others.pop(axis)
            mass = share.sum(dim=others) / volume.clamp(min=1e-3).unsqueeze(2)
            middle = (mass * axes[axis].unsqueeze(1)).sum(dim=2)
            millimetres = torch.arange(mass.shape[2], device=mass.device) * 2.0
            centre = (mass * millimetres).sum(dim=2, keepdim=True)
            spread = ((mass * (millimetres - centre) ** 2).sum(dim=2) + 0.1).sqrt()
            # An ellipsoid of diameter d has a spread of d / sqrt(20) along its axis.
            seen.append(middle)
            seen.append((spread * 4.47 / 30).log() / 0.8)
        return torch.stack(seen, dim=2).flatten(1)
