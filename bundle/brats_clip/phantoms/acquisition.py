"""Simulated scanner: coil shading, resolution, slice thickness, motion, field of view and noise of one sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..geometry import fill_slices
from .fields import Randomness, blur, smooth_noise


@dataclass(frozen=True)
class Acquisition:
    """Acquisition parameters of one sequence.

    Attributes:
        thickness_mm: slice thickness, 1 for an isotropic 3D sequence.
        axis: the array axis slices are stacked along (2 = axial).
        blur_mm: in-plane Gaussian sigma.
        noise: standard deviation of the noise as a share of white matter's intensity on T1.
        shading: largest log gain of the coil.
        rise: share of the shading that brightens the bottom slices; negative if it darkens them.
        motion: share of the signal that is displaced along the phase axis.
        short_view: share of the brain's extent, along ``cut_axis``, that the field of view leaves out.
        cut_axis: the axis along which the field of view is short.
    """

    thickness_mm: int
    axis: int
    blur_mm: float
    noise: float
    shading: float
    rise: float
    motion: float = 0.0
    short_view: float = 0.0
    cut_axis: int = 0


THICK = {"t1": 0.5, "t1ce": 0.3, "t2": 0.75, "flair": 0.8}  # share of sequences acquired in thick slices


def draw_acquisition(
    random: Randomness, sequence: str, shading: float, poor: bool = False, short_view: float = 0.0
) -> Acquisition:
    """Draw the acquisition of ``sequence``: 3D or thick slices (mostly axial), sharp or soft, clean or noisy.

    Args:
        random: the patient's random generators.
        sequence: a name of ``SEQUENCES``.
        shading: the patient's largest log gain; this sequence gets a part of it.
        poor: far worse quality than usual: slices of 5 to 7 mm in any direction, blur or motion, often with noise.
        short_view: share of the brain that the field of view leaves out.
    """
    thick = random.chance(THICK[sequence])
    thickness = int(random.choice([2, 3, 4, 5, 6])) if thick else 1
    axis = int(random.choice([2, 1, 0], [0.85, 0.08, 0.07]))
    soft, motion = random.ranged(0.0, 0.9), random.uniform(0, 0.06) if random.chance(0.2) else 0.0
    noise = 0.055 * random.scalar.beta(1.3, 2.6) * (1 + 0.6 * random.shift) + 0.004
    shading *= random.uniform(0.3, 1.0)
    rise = random.uniform(-0.5, 1.0)
    cut_axis = axis
    if poor:
        fault = random.choice(["slices", "blur", "motion"], [0.6, 0.2, 0.2])
        if fault == "slices" or short_view:
            thickness, axis = int(random.choice([5, 6, 7])), int(random.choice([0, 1, 2], [0.5, 0.2, 0.3]))
        soft = random.ranged(1.1, 2.0) if fault == "blur" else soft
        motion = random.ranged(0.12, 0.3) if fault == "motion" else motion
        noise += random.uniform(0.0, 0.04)
        cut_axis = axis if axis != 1 else 2
    return Acquisition(thickness, axis, soft, float(noise), shading, rise, motion, short_view, cut_axis)


def shade(random: Randomness, depth: torch.Tensor, how: Acquisition) -> torch.Tensor:
    """Return the coil's gain ``(X, Y, Z)``: slow waves, a ramp at the bottom slices, and brightening near the coil.

    The log gain lies between minus and plus ``how.shading``. ``depth`` is the distance in mm below the surface.
    """
    step = 4  # the gain is smooth, so a coarse grid is sufficient
    coarse = depth[::step, ::step, ::step]
    shape, inside = tuple(coarse.shape), coarse > 0
    if not how.shading or not inside.any():
        return torch.ones(depth.shape)
    bottom, top = _extent(inside, 2)
    height = ((torch.arange(shape[2], dtype=torch.float32) - bottom) / max(1, top - bottom)).clamp(0, 1)
    ramp = (1 - height / random.uniform(0.35, 1.0)).clamp(min=0) ** random.uniform(1.0, 2.0)
    waves = smooth_noise(random, shape, random.uniform(60, 110) / step)[0]
    glow = torch.exp(-coarse.clamp(min=0) / random.uniform(12, 35)) * random.uniform(0.0, 0.8)
    log_gain = (1 - abs(how.rise)) * 0.5 * waves + how.rise * 2 * ramp + glow
    low, high = torch.quantile(log_gain[inside], torch.tensor([0.01, 0.99]))
    log_gain = ((log_gain - (low + high) / 2) / ((high - low) / 2).clamp_min(1e-3)).clamp(-1, 1) * how.shading
    whole = F.interpolate(log_gain[None, None], size=depth.shape, mode="trilinear", align_corners=False)[0, 0]
    return whole.exp_()


def acquire(random: Randomness, image: torch.Tensor, depth: torch.Tensor, how: Acquisition) -> torch.Tensor:
    """Simulate the acquisition of ``image`` ``(X, Y, Z)`` at 1 mm; the result is resampled to the same grid."""
    shape = tuple(image.shape)
    image = image * shade(random, depth, how)
    if how.motion > 0:
        image = _move(random, image, how)
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
        image = fill_slices(image[None, None], stride, shape)[0, 0]
    return image


def field_of_view(random: Randomness, brain: torch.Tensor, how: Acquisition) -> torch.Tensor:
    """Return the field of view of the sequence ``(X, Y, Z)``: a slab that cuts ``brain`` at one end or both."""
    seen = torch.ones_like(brain)
    if how.short_view <= 0:
        return seen
    low, high = _extent(brain, how.cut_axis)
    missing = how.short_view * (high - low)
    share = random.choice([0.0, 0.5, 1.0], [0.3, 0.5, 0.2]) if how.cut_axis == 2 else 0.5
    start, stop = low + round(missing * share), high - round(missing * (1 - share))
    for beyond in (slice(0, start), slice(stop, None)):
        seen[tuple(beyond if a == how.cut_axis else slice(None) for a in range(3))] = False
    return seen


def _move(random: Randomness, image: torch.Tensor, how: Acquisition) -> torch.Tensor:
    """Add motion artefacts: displaced copies (ghosts) along a phase axis within the slices."""
    axis = int(random.choice([a for a in range(3) if a != how.axis]))
    out = (1 - how.motion) * image
    for shift in (random.uniform(2, 5), -random.uniform(2, 5), random.uniform(12, 40), -random.uniform(12, 40)):
        out = out + 0.25 * how.motion * torch.roll(image, round(shift), dims=axis)
    return out


def _extent(mask: torch.Tensor, axis: int) -> tuple[int, int]:
    """Return the half-open index range of ``mask`` along ``axis``."""
    present = np.flatnonzero(mask.movedim(axis, 0).flatten(1).any(dim=1).numpy())
    return (int(present[0]), int(present[-1]) + 1) if len(present) else (0, mask.shape[axis])
