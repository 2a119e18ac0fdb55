"""Guidance by findings: shift the logits towards the volumes that a report states."""
# ruff: noqa: UP006, UP035 - torch.jit.script reads the annotations

import math
from typing import List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZES = ("whole size", "core size", "enhancement size")  # the findings that state the sizes of WT, TC and ET
TIMES = (0.7, 1.0, 1.4)  # multiples of the stated volume to match: reports round, and tumours are not ellipsoids
IMPLAUSIBLE = 4.0  # a stated volume further from the predicted one than this factor has no effect


class FindingGuidance(nn.Module):
    """Shifts the logits of each region towards the volume that a report states.

    For each region, the logit shift is computed at which the predicted volume equals the stated one; where the report
    denies enhancement, the stated volume of ET is zero. A learned gate scales the shift. Its inputs are the log ratio
    of stated to predicted volume and the sensitivity of the volume to the shift. Training with wrong reports teaches
    how far to trust a report. The shift is bounded, so that the image can overrule the report, and a stated volume that
    differs from the predicted one by more than a factor of ``IMPLAUSIBLE`` has no effect. The shift is one number per
    region from few inputs: with tens of training cases, a filter over voxel features overfitted.

    Without a known finding, and before training, the logits are unchanged.

    Args:
        slots: names of the findings, ``reports.FINDING_SLOTS``.
        regions: number of regions.
        hidden: width of the hidden layers.
        bound: largest shift of a logit.
    """

    def __init__(self, slots: Sequence[str], regions: int, hidden: int = 16, bound: float = 6.0):
        super().__init__()
        self.regions, self.bound = regions, bound
        self.furthest = math.log(IMPLAUSIBLE) / 1.5  # in the encoding of volumes
        self.times: List[float] = list(TIMES)
        self.sizes: List[int] = [list(slots).index(name) for name in SIZES[:regions]]
        self.enhancement = list(slots).index("enhancement")
        self.gate = nn.Sequential(
            nn.Linear((5 + len(TIMES)) * regions, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, len(TIMES) * regions),
        )
        nn.init.zeros_(self.gate[-1].weight)
        nn.init.zeros_(self.gate[-1].bias)

    def forward(self, logits: Tensor, findings: Tensor) -> Tensor:
        """Shift ``logits``.

        Args:
            logits: ``(N, regions, D, H, W)`` at 1 mm, of a whole volume.
            findings: ``(N, K, 1 + F)``; the first value of each row says whether the finding is known. The other values
                of an unknown finding are ignored.
        """
        return logits + self.shift(self.volumes(F.avg_pool3d(logits, 2)), findings)

    def volumes(self, coarse: Tensor) -> Tensor:
        """Return log volumes ``(N, regions, 25)`` at 25 shifts of the 2 mm logits, from ``-bound`` to ``bound``."""
        # A histogram is as accurate as the voxels themselves, and much faster.
        limit, bins, tries = 12.0, 128, 25
        centres = torch.linspace(-limit, limit, bins, device=coarse.device)
        tried = torch.linspace(-self.bound, self.bound, tries, device=coarse.device)
        counts: List[Tensor] = []
        for n in range(coarse.shape[0]):
            for r in range(self.regions):
                counts.append(torch.histc(coarse[n, r].float().clamp(-limit, limit), bins, -limit, limit))
        histogram = torch.stack(counts).unflatten(0, [coarse.shape[0], self.regions]).unsqueeze(3)
        # A steep sigmoid, so that the sum is nearly the number of voxels above 0.
        voxels = (histogram * torch.sigmoid(4 * (centres[:, None] + tried))).sum(dim=2)
        # The same encoding of volumes as in reports.finding_features; a voxel has 8 mm3.
        return ((voxels * 0.008 + 0.01) / 20).log() / 1.5

    def shift(self, volumes: Tensor, findings: Tensor) -> Tensor:
        """Return the logit shift ``(N, regions, 1, 1, 1)``; ``volumes`` has N rows, or one row for all findings."""
        known = findings[:, :, :1].float()
        stated = torch.cat([known, findings[:, :, 1:].float() * known], dim=2)
        matching, compared = self._match(volumes.expand(findings.shape[0], -1, -1), stated)
        gate = self.gate(torch.cat([compared.flatten(1), matching.flatten(1)], dim=1)).float()
        shift = (gate.unflatten(1, [self.regions, len(self.times)]) * matching).sum(dim=2) * known.amax(dim=1)
        return (self.bound * torch.tanh(shift))[:, :, None, None, None]

    def _match(self, volumes: Tensor, stated: Tensor) -> Tuple[Tensor, Tensor]:
        """Compute the logit shifts at which the regions have the stated volumes.

        Args:
            volumes: from ``volumes``.
            stated: ``(N, K, 1 + F)``, 0 where a finding is not known.

        Returns:
            The shifts for ``TIMES`` the stated volume, ``(N, regions, T)``, as a share of the bound in -1 to 1; and
            ``(N, regions, 5)``: whether a volume is stated, the log ratio of stated to predicted volume (both 0 if
            not), and the change of the log volume at three fixed shifts.
        """
        known, target = stated[:, self.sizes, 0], stated[:, self.sizes, 1]
        absent = (stated[:, self.enhancement, 0] * stated[:, self.enhancement, 1]).unsqueeze(1)
        absent = F.pad(absent, [self.regions - 1, 0])  # of the last region, ET
        tries = volumes.shape[2]
        middle = volumes[:, :, tries // 2]
        plausible = ((target - middle).abs() <= self.furthest).to(known.dtype)
        known = torch.maximum(known * plausible, absent)
        target = (1 - absent) * target - 5 * absent
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
        # The lower bound is wide, since for denied enhancement the ratio tells how much of it is predicted.
        apart = ((target - middle) * known).clamp(-5.0, 2.0)
        return matching, torch.cat([known.unsqueeze(2), apart.unsqueeze(2), changes], dim=2)
