"""Select and draw representative slices of a volume from its intensities, without a label."""

import torch
import torch.nn.functional as F
from torch import nn


class SliceSelector(nn.Module):
    """Selects slices through abnormal signal in three planes and draws them for a CLIP.

    Planes are 0 sagittal (across x), 1 coronal (across y), 2 axial (across z). Every slice has the channels FLAIR,
    T1ce, T2. Superior is up (anterior in axial slices). x runs as in the array, so the patient's left is on the image's
    left; sagittal slices have anterior on the left. All slices are padded around their centre to the same square, so
    that a lesion has the same position and proportions in all of them.

    Args:
        slices_per_plane: number of slices per plane.
        image_size: side of a drawn slice, in pixels.
        window: z-scores drawn as black and as white.
        floor: weight of a uniform distribution over the brain, relative to 1 for abnormal signal.
    """

    def __init__(
        self,
        slices_per_plane: int = 4,
        image_size: int = 96,
        window: tuple[float, float] = (-2.0, 4.0),
        floor: float = 0.05,
    ):
        super().__init__()
        self.slices_per_plane = slices_per_plane
        self.image_size = image_size
        self.low, self.high = window
        self.floor = floor
        # Every second voxel is read, then averaged in blocks of two: the suspicion map is on a 4 mm grid.
        self.stride, self.block = 2, 2

    def suspicion(self, image: torch.Tensor) -> torch.Tensor:
        """Score how abnormal the signal is, on a grid of 4 voxels.

        Args:
            image: ``(N, 4, D, H, W)``, T1, T1ce, T2, FLAIR, z-scored over the brain, zero outside, axes RAS.

        Returns:
            ``(N, D', H', W')``, each side divided by 4 and rounded up, not negative, each case with sum 1.
        """
        coarse = image[:, :, :: self.stride, :: self.stride, :: self.stride].float()
        coarse = F.avg_pool3d(coarse, self.block, ceil_mode=True)
        t1, t1ce, t2, flair = coarse[:, 0:1], coarse[:, 1:2], coarse[:, 2:3], coarse[:, 3:4]
        brain = (coarse != 0).any(dim=1, keepdim=True).float()
        # A missing sequence is zero everywhere; the score then relies on the others.
        there = (coarse != 0).flatten(2).any(dim=2)[:, :, None, None, None]
        bright = torch.where(there[:, 3:4], flair, t2)
        oedema = (bright - 0.8).clamp(0.0, 2.5) * ((t2 > 0) | ~there[:, 2:3]).float()
        enhancing = (t1ce - t1 - 0.8).clamp(0.0, 2.5) * there[:, 1:2].float()
        score = oedema + enhancing
        # Averaging over 12 mm and squaring favour one lesion over scattered specks. Signal that the other hemisphere
        # shows too (ventricular caps, sinuses, choroid plexus) is likely anatomy and counts less. The volume is cropped
        # to the brain, so mirroring the array mirrors about the midline, within a cell or two.
        score = F.avg_pool3d(score, 3, stride=1, padding=1)
        mirrored = F.max_pool3d(score.flip([2]), 3, stride=1, padding=1)
        score = (score * 0.25 + (score - mirrored).clamp(min=0.0)).square() * brain
        score = score / score.sum([1, 2, 3, 4], keepdim=True).clamp(min=1e-6)
        even = brain / brain.sum([1, 2, 3, 4], keepdim=True).clamp(min=1.0)
        score = score + self.floor * even + 1e-9
        return (score / score.sum([1, 2, 3, 4], keepdim=True)).squeeze(1)

    def pick(self, suspicion: torch.Tensor, plane: int, length: int) -> torch.Tensor:
        """Pick slice indices ``(N, k)`` along ``plane`` (``length`` slices), at even quantiles of suspicion."""
        mass = suspicion.movedim(plane + 1, 1).flatten(2).sum(2)
        total = mass.cumsum(1)
        wanted = (torch.arange(self.slices_per_plane, device=mass.device) + 0.5) / self.slices_per_plane
        wanted = (wanted.unsqueeze(0) * total[:, -1:]).contiguous()
        cell = (total.unsqueeze(1) < wanted.unsqueeze(2)).sum(2).clamp(max=mass.shape[1] - 1)
        inside = mass.gather(1, cell)
        share = 1.0 - (total.gather(1, cell) - wanted) / inside.clamp(min=1e-12)
        voxel = (cell + share.clamp(0.0, 1.0)) * (self.stride * self.block)
        return voxel.long().clamp(min=0, max=length - 1)

    def draw(self, image: torch.Tensor, index: torch.Tensor, plane: int) -> torch.Tensor:
        """Draw the slices ``index (N, k)`` of ``plane`` as ``(N, k, 3, image_size, image_size)`` in [0, 1]."""
        rows, columns = _in_plane(image.shape[2], image.shape[3], image.shape[4], plane)
        side = max(image.shape[2], image.shape[3], image.shape[4])
        top, left = (side - rows) // 2, (side - columns) // 2
        drawn = []
        for n in range(image.shape[0]):
            # Only the wanted slices are copied: (k, 4, first axis, second axis).
            chosen = image[n].index_select(plane + 1, index[n]).movedim(plane + 1, 0).float()
            brain = (chosen != 0).any(dim=1, keepdim=True)
            chosen = torch.stack([chosen[:, 3], chosen[:, 1], chosen[:, 2]], dim=1)  # FLAIR, T1ce, T2
            chosen = ((chosen - self.low) / (self.high - self.low)).clamp(0.0, 1.0) * brain
            chosen = chosen.transpose(2, 3).flip([2])
            if plane == 0:
                chosen = chosen.flip([3])
            chosen = F.pad(chosen, [left, side - columns - left, top, side - rows - top])
            size = [self.image_size, self.image_size]
            drawn.append(F.interpolate(chosen, size=size, mode="bilinear", align_corners=False, antialias=True))
        return torch.stack(drawn)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Select and draw the slices of each case.

        Args:
            image: ``(N, 4, D, H, W)``, T1, T1ce, T2, FLAIR, z-scored over the brain, zero outside, axes RAS.

        Returns:
            Slices ``(N, S, 3, image_size, image_size)`` in [0, 1] with ``S = 3 * slices_per_plane``, and positions
            ``(N, S, 2)``: the plane, and the slice's centre in [-1, 1] of the volume.
        """
        suspicion = self.suspicion(image)
        slices: list[torch.Tensor] = []
        positions: list[torch.Tensor] = []
        for plane in range(3):
            length = image.shape[plane + 2]
            index = self.pick(suspicion, plane, length)
            slices.append(self.draw(image, index, plane))
            centre = (index.float() + 0.5) / length * 2.0 - 1.0
            positions.append(torch.stack([torch.full_like(centre, float(plane)), centre], dim=-1))
        return torch.cat(slices, dim=1), torch.cat(positions, dim=1)


def _in_plane(depth: int, height: int, width: int, plane: int) -> tuple[int, int]:
    """Return the rows and columns of a drawn slice before padding."""
    if plane == 0:
        return width, height
    if plane == 1:
        return width, depth
    return height, depth
