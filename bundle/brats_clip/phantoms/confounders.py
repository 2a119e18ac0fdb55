"""What is bright and is no tumour: vessels, dura, choroid plexus, white-matter lesions, skull-strip remains.

Each returns a soft map ``(X, Y, Z)`` in 0 to 1; the appearance step decides which sequences it brightens.
"""

from __future__ import annotations

import torch

from .anatomy import GM, SULCAL, VENTRICLE, WM, Anatomy
from .fields import Randomness, smooth_noise
from .tumour import blur_mask


def vessels(random: Randomness, anatomy: Anatomy) -> torch.Tensor:
    """Draw tubes where two random surfaces cross, denser along sulci: arteries and cortical veins."""
    shape = tuple(anatomy.brain.shape)
    a, b = smooth_noise(random, shape, random.uniform(11, 18), 2)
    width = random.uniform(0.05, 0.11)
    tube = (1 - (a**2 + b**2).sqrt() / width).clamp(0, 1) * 1.6
    outer = torch.exp(-((anatomy.depth - 3).clamp(min=0) / 9))
    return (tube * (0.25 + outer)).clamp(0, 1) * anatomy.brain


def dura(random: Randomness, anatomy: Anatomy) -> torch.Tensor:
    """Draw what enhances at the surface: dura in places, and the sagittal sinus and falx along the midline."""
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


def remains(random: Randomness, anatomy: Anatomy) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw tissue that skull stripping left at the base (orbits, muscle); returns its mask and its texture."""
    shape = tuple(anatomy.brain.shape)
    blobs = smooth_noise(random, shape, 14)[0]
    base = (anatomy.mni[2] < -22) & (anatomy.depth > -random.uniform(2, 9)) & (anatomy.depth <= 0)
    front = base & (blobs > random.uniform(0.3, 1.6))
    return front, smooth_noise(random, shape, 4)[0]


def basal_ganglia_tint(anatomy: Anatomy) -> torch.Tensor:
    """Deep grey matter, which differs from cortex on every sequence."""
    return anatomy.tissue[GM] * ((anatomy.depth - 20) / 12).clamp(0, 1)
