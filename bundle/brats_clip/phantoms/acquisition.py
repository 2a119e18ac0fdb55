"""The scanner: coil bias, resolution, slice thickness and noise of one sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .fields import Randomness, blur, smooth_noise


@dataclass(frozen=True)
class Acquisition:
    """How one sequence was taken.

    Attributes:
        thickness_mm: slice thickness, 1 for an isotropic 3D sequence.
        axis: the array axis slices are stacked along (2 = axial).
        blur_mm: in-plane Gaussian sigma.
        noise: standard deviation of the noise as a share of white matter's intensity on T1.
        bias: standard deviation of the log of the coil bias.
    """

    thickness_mm: int
    axis: int
    blur_mm: float
    noise: float
    bias: float


def draw_acquisition(random: Randomness, sequence: str) -> Acquisition:
    """Draw how ``sequence`` was taken: 3D or thick slices (mostly axial), sharp or soft, clean or noisy."""
    thick = random.chance(0.35 if sequence == "t1ce" else 0.65)
    return Acquisition(
        thickness_mm=int(random.choice([2, 3, 4, 5, 6])) if thick else 1,
        axis=int(random.choice([2, 1, 0], [0.8, 0.1, 0.1])),
        blur_mm=random.uniform(0.0, 0.9),
        noise=float(0.055 * random.scalar.beta(1.3, 2.6) + 0.004),
        bias=random.uniform(0.0, 0.09),
    )


def acquire(random: Randomness, image: torch.Tensor, how: Acquisition) -> torch.Tensor:
    """Take a picture of ``image`` ``(X, Y, Z)`` at 1 mm; returns the same grid, as after resampling to 1 mm."""
    shape = tuple(image.shape)
    image = image * torch.exp(how.bias * smooth_noise(random, shape, random.uniform(60, 110))[0])
    sigma = [how.blur_mm] * 3
    if how.thickness_mm > 1:
        sigma[how.axis] = 0.0
    image = blur(image, sigma)
    if how.thickness_mm > 1:
        stride = [how.thickness_mm if a == how.axis else 1 for a in range(3)]
        image = F.avg_pool3d(image[None, None], stride, stride, ceil_mode=True, count_include_pad=False)[0, 0]
    # Rician: the magnitude of a complex signal with Gaussian noise in both parts.
    noise = torch.randn((2, *image.shape), generator=random.field) * how.noise
    image = ((image + noise[0]) ** 2 + noise[1] ** 2).sqrt()
    if how.thickness_mm > 1:
        image = F.interpolate(image[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0]
    return image
