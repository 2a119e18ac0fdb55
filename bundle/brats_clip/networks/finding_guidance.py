"""Guidance by findings: what a report states as numbers is compared with what the image shows."""
# ruff: noqa: UP006, UP035 - torch.jit.script reads the annotations

import math
from typing import List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .positions import voxel_centres

SEEN = 8  # numbers per region that describe what the image shows
SIZES = ("whole size", "core size", "enhancement size")  # the findings that state how large WT, TC and ET are
TIMES = (0.7, 1.0, 1.4)  # multiples of a stated volume that are matched: a report rounds, and an ellipsoid is no tumour


class FindingGuidance(nn.Module):
    """Shifts the logits by what the findings of a report state, compared with what was decoded without them.

    A report knows sizes, absence and side, which a voxel's features do not. A summary of the findings, and of volume,
    extent and position of each region as decoded so far, makes the weights of a layer that is applied to every voxel's
    features (a dynamic filter). So a core stated larger than the one segmented can grow where it is likely, and only
    there. Beside that, each region has the shifts with which its volume would be the stated one, and as much of them as
    the summary allows is added. Findings are weighed by training with wrong ones, and the shift is bounded: the image
    stays the judge.

    Without any known finding, and before training, the logits stay exactly as they are.

    Args:
        slots: names of the findings, ``reports.FINDING_SLOTS``.
        row: numbers per finding, the flag that it is known included.
        channels: channels of the decoder's features at 2 mm.
        regions: number of regions.
        hidden: width of the summary.
        rank: voxel features that the filter reads.
        bound: largest shift of a logit.
    """

    def __init__(
        self,
        slots: Sequence[str],
        row: int,
        channels: int,
        regions: int,
        hidden: int = 96,
        rank: int = 24,
        bound: float = 6.0,
    ):
        super().__init__()
        self.rank, self.regions, self.bound = rank, regions, bound
        self.times: List[float] = list(TIMES)
        self.sizes: List[int] = [list(slots).index(name) for name in SIZES[:regions]]
        self.enhancement = list(slots).index("enhancement")
        self.summary = nn.Sequential(
            nn.Linear(len(slots) * row + (SEEN + 5 + len(TIMES)) * regions, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
        )
        self.voxel = nn.Conv3d(channels + 2 * regions + 3, rank, kernel_size=1)
        self.filter = nn.Linear(hidden, (rank + 1) * regions)
        self.gate = nn.Linear(hidden, len(TIMES) * regions)
        for layer in (self.filter, self.gate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, logits: Tensor, features: Tensor, findings: Tensor, extent: Tensor) -> Tensor:
        """Shift ``logits``.

        Args:
            logits: ``(N, regions, D, H, W)`` at 1 mm, of a whole volume.
            features: ``(N, channels, D/2, H/2, W/2)``, the decoder's.
            findings: ``(N, K, 1 + F)``; the first of each row says whether the finding is known, and what the others of
                an unknown one hold does not matter.
            extent: ``(N, 3, 2)``, where the volume lies in the whole one.
        """
        voxels, seen, volumes = self.describe(F.avg_pool3d(logits, 2), features, extent)
        shift = self.shift(voxels, seen, volumes, findings)
        return logits + F.interpolate(shift, scale_factor=2.0, mode="nearest")

    def describe(self, coarse: Tensor, features: Tensor, extent: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """All that does not depend on the findings.

        Args:
            coarse: logits at 2 mm; the others as in ``forward``.

        Returns:
            What ``shift`` reads: of each voxel ``(N, C, D/2, H/2, W/2)``; of each region ``(N, regions * SEEN)``; and
            log volumes ``(N, regions, 25)`` for shifts of the logits from minus to plus ``bound``.
        """
        share = torch.sigmoid(coarse)
        size = [coarse.shape[2], coarse.shape[3], coarse.shape[4]]
        axes: List[Tensor] = []
        for axis in range(3):
            axes.append(voxel_centres(size[axis], extent[:, axis]))
        place = torch.stack(
            [
                axes[0][:, :, None, None].expand(-1, -1, size[1], size[2]),
                axes[1][:, None, :, None].expand(-1, size[0], -1, size[2]),
                axes[2][:, None, None, :].expand(-1, size[0], size[1], -1),
            ],
            dim=1,
        )
        dtype = features.dtype
        # Beyond +-8 a voxel is as sure as it gets.
        voxels = torch.cat([features, (coarse.clamp(-8.0, 8.0) / 4).to(dtype), share.to(dtype), place.to(dtype)], dim=1)

        # The volume for each of many shifts, from a histogram: as good as from the voxels, and in no time.
        limit, bins, tries = 12.0, 128, 25
        centres = torch.linspace(-limit, limit, bins, device=coarse.device)
        tried = torch.linspace(-self.bound, self.bound, tries, device=coarse.device)
        counts: List[Tensor] = []
        for n in range(coarse.shape[0]):
            for r in range(self.regions):
                counts.append(torch.histc(coarse[n, r].float().clamp(-limit, limit), bins, -limit, limit))
        histogram = torch.stack(counts).unflatten(0, [coarse.shape[0], self.regions]).unsqueeze(3)
        # Steep, so that it is nearly the number of voxels above 0.
        volumes = (histogram * torch.sigmoid(4 * (centres[:, None] + tried))).sum(dim=2)
        return voxels, self._seen(share, axes), _log_ml(volumes)

    def shift(self, voxels: Tensor, seen: Tensor, volumes: Tensor, findings: Tensor) -> Tensor:
        """What to add to the logits at 2 mm, from what ``describe`` returned and ``findings`` ``(N, K, 1 + F)``.

        One description serves several rows of findings. Each voxel counts for itself, so that some of them do.
        """
        known = findings[:, :, :1].float()
        stated = torch.cat([known, findings[:, :, 1:].float() * known], dim=2)
        seen = seen.expand(findings.shape[0], -1)
        matching, matched = self._match(volumes.expand(findings.shape[0], -1, -1), stated)
        parts = [stated.flatten(1), seen, matched.flatten(1), matching.flatten(1)]
        summary = self.summary(torch.cat(parts, dim=1))
        gate = self.gate(summary).unflatten(1, [self.regions, len(self.times)])
        common = (gate * matching * self.bound).sum(dim=2)

        size = [voxels.shape[2], voxels.shape[3], voxels.shape[4]]
        voxels = F.leaky_relu(self.voxel(voxels)).flatten(2)
        filters = self.filter(summary).unflatten(1, [self.regions, self.rank + 1])
        weight = filters[:, :, 1:].to(voxels.dtype)
        if voxels.shape[0] == 1:  # one product, where several rows would else need as many copies
            shift = (weight.flatten(0, 1) @ voxels[0]).unflatten(0, [weight.shape[0], weight.shape[1]])
        else:
            shift = torch.bmm(weight, voxels)
        shift = shift.float() + (filters[:, :, 0].float() + common).unsqueeze(2)
        shift = (shift * known.amax(dim=1).unsqueeze(2)).unflatten(2, size)
        return self.bound * torch.tanh(shift / self.bound)

    def _match(self, volumes: Tensor, stated: Tensor) -> Tuple[Tensor, Tensor]:
        """Shifts of the logits with which the regions have the stated volumes.

        Args:
            volumes: from ``describe``.
            stated: ``(N, K, 1 + F)``, 0 where a finding is not known.

        Returns:
            The shifts for ``TIMES`` the stated volume, ``(N, regions, T)`` in -1 to 1 of the bound; and ``(N, regions,
            5)``: whether a volume is stated, the logarithm of stated over seen, both 0 where none is, and how the
            volume would change with three fixed shifts.
        """
        known, target = stated[:, self.sizes, 0], stated[:, self.sizes, 1]
        absent = (stated[:, self.enhancement, 0] * stated[:, self.enhancement, 1]).unsqueeze(1)
        absent = F.pad(absent, [self.regions - 1, 0])  # of the last region, ET
        target = (1 - absent) * target - 5 * absent
        known = torch.maximum(known, absent)
        tries = volumes.shape[2]
        middle = volumes[:, :, tries // 2]
        step = 2 * self.bound / (tries - 1)
        shifts: List[Tensor] = []
        for times in self.times:
            wanted = (target + math.log(times) / 1.5).unsqueeze(2)
            above = (volumes < wanted).sum(dim=2).clamp(1, tries - 1).unsqueeze(2)
            low, high = volumes.gather(2, above - 1), volumes.gather(2, above)
            part = ((wanted - low) / (high - low).clamp(min=1e-4)).clamp(0.0, 1.0)
            shifts.append(((above - 1 + part) * step - self.bound).squeeze(2) / self.bound)
        matching = torch.stack(shifts, dim=2) * known.unsqueeze(2)
        changes = volumes[:, :, [tries // 6, tries // 3, tries - 1 - tries // 3]] - middle.unsqueeze(2)
        apart = ((target - middle) * known).clamp(-2.0, 2.0)
        return matching, torch.cat([known.unsqueeze(2), apart.unsqueeze(2), changes], dim=2)

    def _seen(self, share: Tensor, axes: List[Tensor]) -> Tensor:
        """Volume, highest probability, middle and spread of each region: ``(N, regions * SEEN)``."""
        share = share.float()
        volume = share.sum(dim=[2, 3, 4])
        seen: List[Tensor] = [_log_ml(volume), share.amax(dim=[2, 3, 4])]
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


def _log_ml(voxels: Tensor) -> Tensor:
    """Voxels of 8 mm3 as ``reports.finding_features`` writes a volume."""
    return ((voxels * 0.008 + 0.01) / 20).log() / 1.5
