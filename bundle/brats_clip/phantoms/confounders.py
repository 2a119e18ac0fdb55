"""Bright structures other than tumour: vessels, dura, choroid plexus, white-matter lesions, unstripped tissue.

Most functions return a soft map ``(X, Y, Z)`` in 0 to 1; ``appearance`` decides which sequences it brightens.
"""

from __future__ import annotations

import numpy as np
import torch

from .anatomy import GM, SULCAL, VENTRICLE, WM, Anatomy
from .fields import Randomness, smooth_noise
from .tumour import Box, blur_mask


def vessels(random: Randomness, anatomy: Anatomy) -> torch.Tensor:
    """Draw tubes where two random surfaces cross, denser along sulci: arteries and cortical veins."""
    shape = tuple(anatomy.brain.shape)
    a, b = smooth_noise(random, shape, random.uniform(11, 18), 2)
    width = random.uniform(0.05, 0.11)
    tube = (1 - (a**2 + b**2).sqrt() / width).clamp(0, 1) * 1.6
    outer = torch.exp(-((anatomy.depth - 3).clamp(min=0) / 9))
    return (tube * (0.25 + outer)).clamp(0, 1) * anatomy.brain


def dura(random: Randomness, anatomy: Anatomy) -> torch.Tensor:
    """Draw enhancing structures at the surface: patches of dura, and the sagittal sinus and falx at the midline."""
    shape = tuple(anatomy.brain.shape)
    patches = smooth_noise(random, shape, 28)[0]
    surface = ((random.uniform(1.5, 3.5) - anatomy.depth) / 1.5).clamp(0, 1)
    surface = surface * ((patches - random.uniform(0.2, 1.4)) * 2).clamp(0, 1)
    x, y, z = anatomy.mni
    fluid = anatomy.tissue[SULCAL]
    midline = (1 - x.abs() / random.uniform(1.5, 3.5)).clamp(0, 1) * fluid * ((z > 20) | (y < -60))
    sinus = (1 - ((x / 5) ** 2 + ((anatomy.depth - 2) / 4) ** 2).sqrt()).clamp(0, 1) * ((z > 25) | (y < -70)) * 2
    return torch.maximum(surface, torch.maximum(midline * random.uniform(0, 1), sinus)).clamp(0, 1) * anatomy.brain


def choroid_plexus(random: Randomness, anatomy: Anatomy) -> torch.Tensor:
    """Draw enhancing clumps inside the ventricles."""
    x, y, z = anatomy.mni
    atrium = torch.exp(-(((x.abs() - 22) / 8) ** 2 + ((y + 40) / 12) ** 2 + ((z - 8) / 12) ** 2))
    clumps = (smooth_noise(random, tuple(x.shape), 4)[0] - 0.3).clamp(0, 1)
    return anatomy.tissue[VENTRICLE] * (atrium * 2).clamp(0, 1) * clumps


def white_matter_lesions(random: Randomness, anatomy: Anatomy) -> torch.Tensor:
    """Draw age-related FLAIR brightness: caps and bands along the ventricles, and small spots in white matter."""
    shape = tuple(anatomy.brain.shape)
    near = anatomy.tissue[VENTRICLE]
    for _ in range(3):
        near = blur_mask(blur_mask(near))
    band = ((near - random.uniform(0.02, 0.12)) * 8).clamp(0, 1) * (1 - anatomy.tissue[VENTRICLE])
    spots = ((smooth_noise(random, shape, random.uniform(5, 8))[0] - random.uniform(2.4, 3.4)) * 2).clamp(0, 1)
    deep = ((anatomy.depth - 8) / 6).clamp(0, 1)
    amount = random.uniform(0.0, 1.0)
    return torch.maximum(band * amount, spots * deep * random.uniform(0, 1)) * anatomy.tissue[WM].sqrt()


# Where air and fat next to the brain brighten it, in MNI mm on the right: gyrus rectus, orbital surface, temporal pole,
# inferior temporal gyrus above the ear.
BASE = ((7.0, 32.0, -24.0), (26.0, 38.0, -18.0), (36.0, 14.0, -36.0), (50.0, -22.0, -28.0))


def brighten_base(random: Randomness, image: torch.Tensor, anatomy: Anatomy, sd: torch.Tensor) -> None:
    """Brighten ``image`` ``(4, X, Y, Z)`` in place at the frontal base, orbits and temporal poles, most on FLAIR.

    ``sd`` is the healthy brain's standard deviation by sequence, ``(4,)``. Signal pile-up beside air is next to a void.
    """
    chosen = [place for place in BASE if random.chance(0.5)] or [random.choice(BASE)]
    gains = [random.uniform(*r) for r in ((-0.3, 1.2), (-0.3, 1.4), (-0.5, 2.0), (0.8, 3.5))]
    for place in chosen:
        size = [random.uniform(5, 12), random.uniform(6, 14), random.uniform(4, 9)]
        for side in (1, -1) if random.chance(0.6) else (random.choice([1, -1]),):
            at = [side * place[0] + random.normal(0, 3), place[1] + random.normal(0, 4), place[2] + random.normal(0, 3)]
            box = _around(anatomy.mni, at, size)
            x, y, z = anatomy.mni[(slice(None), *box)]
            distance = ((x - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2 + ((z - at[2]) / size[2]) ** 2
            blotch = smooth_noise(random, tuple(x.shape), 7)[0]
            spot = (torch.exp(-distance) * (1 + 0.5 * blotch) * 1.3).clamp(0, 1)
            void = ((torch.exp(-1.5 * distance) - 0.75) * 4).clamp(0, 1) * random.uniform(0, 1)
            for i, gain in enumerate(gains):
                part = image[i][box]
                part += sd[i] * gain * spot
                part *= 1 - 0.7 * void * (random.uniform(0, 1) if i != 3 else 0.3)
                part.clamp_(min=0.02)


def _around(mni: torch.Tensor, at: list[float], size: list[float]) -> Box:
    """Return the box within twice ``size`` mm of the MNI coordinate ``at``; at least 8 voxels each way."""
    step = 4
    coarse = mni[:, ::step, ::step, ::step]
    scaled = (coarse - torch.tensor(at)[:, None, None, None]) / torch.tensor(size)[:, None, None, None]
    nearest = np.unravel_index(int(scaled.square().sum(dim=0).argmin()), coarse.shape[1:])
    reach = [max(8, int(2 * s) + step) for s in size]
    return tuple(
        slice(max(0, int(c) * step - r), min(n, int(c) * step + r + 1))
        for c, r, n in zip(nearest, reach, mni.shape[1:], strict=True)
    )


def residual_tissue(random: Randomness, anatomy: Anatomy) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw tissue that skull stripping missed at the base (orbits, muscle); return its mask and texture."""
    shape = tuple(anatomy.brain.shape)
    blobs = smooth_noise(random, shape, 14)[0]
    base = (anatomy.mni[2] < -random.uniform(16, 24)) & (anatomy.depth > -random.uniform(2, 9)) & (anatomy.depth <= 0)
    front = base & (blobs > random.uniform(0.3, 1.6))
    return front, smooth_noise(random, shape, 4)[0]


def basal_ganglia_tint(anatomy: Anatomy) -> torch.Tensor:
    """Return a map of deep grey matter, which differs from cortex on every sequence."""
    return anatomy.tissue[GM] * ((anatomy.depth - 20) / 12).clamp(0, 1)
