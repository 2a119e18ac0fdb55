"""Appearance: paint anatomy, lesion and confounders onto the four sequences."""

from __future__ import annotations

import torch

from . import confounders
from .acquisition import acquire, draw_acquisition, field_of_view
from .anatomy import GM, SULCAL, VENTRICLE, WM, Anatomy
from .contrast import SEQUENCES, draw_healthy
from .fields import Randomness, fractal_noise, smooth_noise
from .lesion import Healthy, paint_lesion
from .traits import Traits
from .tumour import Tumour


def paint(random: Randomness, anatomy: Anatomy, tumour: Tumour, traits: Traits) -> tuple[torch.Tensor, Healthy]:
    """Return tissue intensities ``(4, X, Y, Z)`` on the four sequences before the scan, and those of healthy brain."""
    image, means = _paint_healthy(random, anatomy)
    inside = image[:, anatomy.brain]
    healthy = Healthy(inside.mean(dim=1), inside.std(dim=1), means[:, VENTRICLE])
    paint_lesion(random, image[(slice(None), *tumour.box)], anatomy.crop(tumour.box), tumour, healthy, traits)
    if traits.bright_base:
        confounders.brighten_base(random, image, anatomy, healthy.sd)
    return image, healthy


def scan(random: Randomness, image: torch.Tensor, anatomy: Anatomy, healthy: Healthy, traits: Traits) -> torch.Tensor:
    """Simulate the scan of ``image`` (from ``paint``): four sequences, skull-stripped and aligned.

    Returns ``(4, X, Y, Z)``, zero outside the brain and outside the field of view.
    """
    image, brain = image.clone(), anatomy.brain
    if random.chance(0.5):
        left, texture = confounders.residual_tissue(random, anatomy)
        for i in range(len(SEQUENCES)):
            remains = healthy.mean[i] + healthy.sd[i] * (random.normal(0.5, 1.8) + texture[left])
            image[i][left] = remains.clamp(min=0.02)
        brain = brain | left
    for i, sequence in enumerate(SEQUENCES):
        poor = sequence == traits.poor_sequence
        how = draw_acquisition(random, sequence, traits.shading, poor, traits.short_view if poor else 0.0)
        taken = acquire(random, image[i], anatomy.depth, how).clamp(min=1e-3)
        image[i] = taken * (brain & field_of_view(random, brain, how))
    return image


def _paint_healthy(random: Randomness, anatomy: Anatomy) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the four sequences of a healthy brain ``(4, X, Y, Z)`` and its tissues' intensities ``(4, 4)``."""
    shape = tuple(anatomy.brain.shape)
    means = torch.from_numpy(draw_healthy(random))
    image = torch.einsum("st,txyz->sxyz", means, anatomy.tissue)
    tissue = anatomy.tissue[WM] + anatomy.tissue[GM]
    # Tissue is not uniform: add texture at several scales and the template's own within-tissue detail.
    texture = fractal_noise(random, shape, (18, 7, 3))[0] * tissue
    deep = confounders.basal_ganglia_tint(anatomy)
    for i, s in enumerate(SEQUENCES):
        sign = 1.0 if s in ("t1", "t1ce") else -1.0
        image[i] += random.uniform(0.0, 0.035) * texture * random.choice([-1, 1])
        image[i] += sign * random.uniform(0.005, 0.03) * anatomy.detail * tissue
        image[i] += random.normal(0.03 * sign, 0.05) * deep
    vessel = confounders.vessels(random, anatomy)
    dura = confounders.dura(random, anatomy)
    plexus = confounders.choroid_plexus(random, anatomy)
    v, d, p = random.uniform(0.2, 1.6), random.uniform(0.1, 1.2), random.uniform(0.1, 0.9)
    image[1] += (v * vessel + d * dura + p * plexus) * image[1].mean()
    image[0] += random.uniform(-0.1, 0.25) * vessel
    image[2] *= 1 - random.uniform(0, 0.7) * vessel  # flow void
    image[3] *= 1 - random.uniform(0, 0.3) * vessel
    if random.chance(0.65):
        spots = confounders.white_matter_lesions(random, anatomy)
        strength = random.uniform(0.1, 0.65)
        image[3] += strength * spots
        image[2] += random.uniform(0.3, 0.8) * strength * spots
        image[0] -= 0.2 * strength * spots
        image[1] -= 0.2 * strength * spots
    if random.chance(0.3):  # fluid that FLAIR does not suppress
        image[3] += random.uniform(0, 0.5) * anatomy.tissue[SULCAL] * (smooth_noise(random, shape, 40)[0] > 0.5)
    return image.clamp(min=0.02), means
