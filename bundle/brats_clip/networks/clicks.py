"""Click refinement: a user's clicks correct the segmentation near them, and nowhere else."""
# ruff: noqa: UP006, UP035 - torch.jit.script reads the annotations

from typing import List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pixel_shuffle import shuffle

REACH_MM = 40.0  # largest effect of a click, measured on the 2 mm grid: a voxel at 41.4 mm may still change
NEAR_MM, AROUND_MM, ALIKE_MM = 3.0, 12.0, 18.0
OBEYED_MM = 1.5  # radius that gets the target of a click, so that a click never leaves an isolated voxel
OBEYED_LOGIT = 4.0


def _span(centre: float, reach: int, size: int) -> Tuple[int, int]:
    """Return the half-open index range within ``reach`` of ``centre`` on an axis of ``size`` voxels."""
    low, high = int(centre) - reach, int(centre) + reach + 1
    return min(max(low, 0), size), max(min(high, size), 0)


class ClickMaps(nn.Module):
    """Encodes clicks as maps. Each click is drawn in a box around it only, so the cost depends on the covered volume.

    Each region has six channels: three for clicks "inside" the region and three for clicks "outside". The three are a
    narrow Gaussian, a wide Gaussian, and the similarity of a voxel's features to those of the clicked voxel. The
    similarity lets a click generalise to tissue that the network has never seen.

    Args:
        channels: channels of the features.
        regions: number of regions.
        dim: dimension of the embedding in which voxels are compared.
    """

    def __init__(self, channels: int, regions: int, dim: int = 16):
        super().__init__()
        self.regions = regions
        self.channels = 6 * regions
        self.reach = REACH_MM
        self.near, self.around, self.alike = 2 * NEAR_MM**2, 2 * AROUND_MM**2, 2 * ALIKE_MM**2
        self.compare = nn.Conv3d(channels, dim, kernel_size=1)

    def forward(self, x: Tensor, clicks: Tensor, targets: Tensor) -> Tuple[Tensor, Tensor]:
        """Compute the click maps.

        Args:
            x: features at 2 mm, ``(N, C, D, H, W)``.
            clicks: ``(N, K, 3)``, centres of the clicked voxels in 1 mm voxel coordinates (the first voxel is 0).
            targets: ``(N, K, regions)``: 1 inside the region, -1 outside, 0 unspecified.

        Returns:
            Maps ``(N, 6 * regions, D, H, W)`` in -1 to 1, and the proximity of each voxel to the nearest click,
            ``(N, 1, D, H, W)``, which falls from 1 at the click to 0 at ``REACH_MM``.
        """
        n, _, depth, height, width = x.shape
        k = 2 * self.regions
        compared = F.normalize(self.compare(x).float(), dim=1, eps=1e-4)
        near_maps = torch.zeros([n, k, depth, height, width], device=x.device)
        around_maps = torch.zeros([n, k, depth, height, width], device=x.device)
        alike_maps = torch.zeros([n, k, depth, height, width], device=x.device)
        reached = torch.zeros([n, 1, depth, height, width], device=x.device)
        said = torch.cat([targets.clamp(min=0), (-targets).clamp(min=0)], dim=2) > 0
        where = clicks.detach().float().cpu()
        reach = int(self.reach / 2)
        for i in range(n):
            for j in range(clicks.shape[1]):
                if not bool(said[i, j].any()):
                    continue
                # A 2 mm voxel covers two 1 mm voxels per axis: voxel a has its centre at 1 mm coordinate 2 a + 0.5.
                a = (float(where[i, j, 0]) - 0.5) / 2
                b = (float(where[i, j, 1]) - 0.5) / 2
                c = (float(where[i, j, 2]) - 0.5) / 2
                a0, a1 = _span(a, reach, depth)
                b0, b1 = _span(b, reach, height)
                c0, c1 = _span(c, reach, width)
                if a0 >= a1 or b0 >= b1 or c0 >= c1:
                    continue
                da = (torch.arange(a0, a1, device=x.device) - a).float()[:, None, None]
                db = (torch.arange(b0, b1, device=x.device) - b).float()[None, :, None]
                dc = (torch.arange(c0, c1, device=x.device) - c).float()[None, None, :]
                square = 4 * (da * da + db * db + dc * dc)  # mm
                within = (1 - square / self.reach**2).clamp(min=0)
                box = reached[i, 0, a0:a1, b0:b1, c0:c1]
                reached[i, 0, a0:a1, b0:b1, c0:c1] = torch.maximum(box, within)
                near = torch.exp(-square / self.near)
                around = torch.exp(-square / self.around) * (within > 0)
                ia, ib, ic = int(a + 0.5), int(b + 0.5), int(c + 0.5)
                inside = 0 <= ia < depth and 0 <= ib < height and 0 <= ic < width
                alike = torch.zeros_like(near)
                if inside:
                    own = compared[i, :, ia, ib, ic][:, None, None, None]
                    alike = (compared[i, :, a0:a1, b0:b1, c0:c1] * own).sum(dim=0)
                    alike = alike * torch.exp(-square / self.alike) * (within > 0)
                for channel in range(k):
                    if bool(said[i, j, channel]):
                        # Cloned, because autograd saves the box that is overwritten below.
                        box = near_maps[i, channel, a0:a1, b0:b1, c0:c1].clone()
                        near_maps[i, channel, a0:a1, b0:b1, c0:c1] = torch.maximum(box, near)
                        box = around_maps[i, channel, a0:a1, b0:b1, c0:c1].clone()
                        around_maps[i, channel, a0:a1, b0:b1, c0:c1] = torch.maximum(box, around)
                        box = alike_maps[i, channel, a0:a1, b0:b1, c0:c1].clone()
                        alike_maps[i, channel, a0:a1, b0:b1, c0:c1] = torch.maximum(box, alike)
        return torch.cat([near_maps, around_maps, alike_maps], dim=1), reached


class ClickRefinement(nn.Module):
    """Corrects logits within about ``REACH_MM`` of a click. Before training, the learned correction is zero.

    The module has no normalisation over the volume, which would let a click change distant voxels. It runs on the
    decoder's features, so a new click costs a fraction of the time of decoding.

    Args:
        widths: channels of the decoder at 2 mm and 4 mm.
        regions: number of regions.
        hidden: width of the hidden layers.
    """

    def __init__(self, widths: List[int], regions: int, hidden: int = 32):
        super().__init__()
        self.maps = ClickMaps(widths[0], regions)
        given = self.maps.channels + 1 + 2 * regions + widths[0]
        self.fine = nn.Conv3d(given, hidden, kernel_size=1)
        self.down = nn.Conv3d(hidden, hidden, kernel_size=2, stride=2)
        self.middle = nn.Conv3d(hidden + widths[1], hidden, kernel_size=3, padding=1)
        self.down_again = nn.Conv3d(hidden, 2 * hidden, kernel_size=2, stride=2)
        self.coarse = nn.ModuleList([nn.Conv3d(2 * hidden, 2 * hidden, kernel_size=3, padding=1) for _ in range(2)])
        self.up = nn.ConvTranspose3d(2 * hidden, hidden, kernel_size=2, stride=2)
        self.merge = nn.Conv3d(hidden, hidden, kernel_size=3, padding=1)
        self.up_again = nn.ConvTranspose3d(hidden, hidden, kernel_size=2, stride=2)
        self.last = nn.Conv3d(hidden, hidden, kernel_size=3, padding=1)
        self.change = nn.Conv3d(hidden, 8 * regions, kernel_size=1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, logits: Tensor, decoded: List[Tensor], clicks: Tensor, targets: Tensor) -> Tensor:
        """Correct ``logits``.

        Args:
            logits: ``(N, regions, D, H, W)`` at 1 mm, before clicks.
            decoded: the decoder's features at 2 mm and 4 mm.
            clicks: ``(N, K, 3)``, in voxel coordinates of ``logits``.
            targets: ``(N, K, regions)``, see ``ClickMaps``; all 0 for padding.

        Returns:
            Logits; the sign at a clicked voxel is that of its target. The last of contradictory clicks counts.
        """
        size = [decoded[0].shape[2], decoded[0].shape[3], decoded[0].shape[4]]
        low, high = self._box(clicks, targets, size)
        if high[0] <= low[0] or high[1] <= low[1] or high[2] <= low[2]:
            return logits
        a, b, c = low[0], low[1], low[2]
        d, e, f = high[0], high[1], high[2]
        fine = decoded[0][:, :, a:d, b:e, c:f]
        middle = decoded[1][:, :, a // 2 : d // 2, b // 2 : e // 2, c // 2 : f // 2]
        box = logits[:, :, 2 * a : 2 * d, 2 * b : 2 * e, 2 * c : 2 * f]
        corner = torch.tensor([2 * a, 2 * b, 2 * c], device=clicks.device, dtype=clicks.dtype)
        change = self._change(box, fine, middle, clicks - corner, targets)
        refined = logits.clone()
        refined[:, :, 2 * a : 2 * d, 2 * b : 2 * e, 2 * c : 2 * f] = box + change
        return obey(refined, clicks, targets)

    def _box(self, clicks: Tensor, targets: Tensor, size: List[int]) -> Tuple[List[int], List[int]]:
        """Return the half-open box that the clicks reach, in 2 mm voxels, aligned to 8 mm."""
        where = clicks[(targets != 0).any(dim=2)].detach().float().cpu() / 2
        low: List[int] = []
        high: List[int] = []
        for axis in range(3):
            if where.shape[0] == 0:
                low.append(0)
                high.append(0)
            else:
                first = int(float(where[:, axis].min()) - self.maps.reach / 2)
                last = int(float(where[:, axis].max()) + self.maps.reach / 2) + 1
                low.append(max(first, 0) // 4 * 4)
                high.append(max(min((last + 4) // 4 * 4, size[axis]), 0))
        return low, high

    def _change(self, logits: Tensor, fine: Tensor, middle: Tensor, clicks: Tensor, targets: Tensor) -> Tensor:
        maps, reached = self.maps(fine, clicks, targets)
        coarse = F.avg_pool3d(logits, 2)
        x = torch.cat([maps, reached, torch.sigmoid(coarse), coarse.clamp(-8, 8) / 8], dim=1).to(fine.dtype)
        x = self.fine(torch.cat([x, fine], dim=1))
        y = F.leaky_relu(self.down(F.leaky_relu(x)))
        y = F.leaky_relu(self.middle(torch.cat([y, middle], dim=1)))
        z = F.leaky_relu(self.down_again(y))
        for layer in self.coarse:
            z = z + F.leaky_relu(layer(z))
        y = F.leaky_relu(y + self.merge(F.leaky_relu(y + self.up(z))))
        x = F.leaky_relu(x + self.up_again(y))
        x = F.leaky_relu(x + self.last(x))
        return shuffle(self.change(x)).float() * F.interpolate((3 * reached).clamp(max=1), scale_factor=2.0)


def obey(
    logits: Tensor, clicks: Tensor, targets: Tensor, spot_mm: float = OBEYED_MM, least: float = OBEYED_LOGIT
) -> Tensor:
    """Force the logits at each clicked voxel, and around it, to the sign of the click's target.

    Args:
        logits: ``(N, regions, D, H, W)`` at 1 mm.
        clicks, targets: as in ``ClickRefinement``.
        spot_mm: radius around the clicked voxel.
        least: minimum magnitude of the logits there.
    """
    logits = logits.clone()
    size = torch.tensor([logits.shape[2], logits.shape[3], logits.shape[4]])
    where = clicks.detach().float().round().long().cpu()
    said = targets.detach().cpu()
    steps = torch.arange(-int(spot_mm), int(spot_mm) + 1)
    ball = torch.cartesian_prod(steps, steps, steps)
    ball = ball[(ball**2).sum(dim=1) <= spot_mm**2]
    # First all balls, then all clicked voxels: the ball of one click must not override the voxel of another.
    for offsets in [ball, torch.zeros([1, 3], dtype=torch.long)]:
        for i in range(clicks.shape[0]):
            for j in range(clicks.shape[1]):
                spot = where[i, j] + offsets
                spot = spot[((spot >= 0) & (spot < size)).all(dim=1)].to(logits.device)
                if spot.shape[0] == 0:
                    continue
                x, y, z = spot[:, 0], spot[:, 1], spot[:, 2]
                for r in range(logits.shape[1]):
                    sign = float(said[i, j, r])
                    if sign > 0:
                        logits[i, r, x, y, z] = logits[i, r, x, y, z].clamp(min=least)
                    elif sign < 0:
                        logits[i, r, x, y, z] = logits[i, r, x, y, z].clamp(max=-least)
    return logits
