"""Appearance: paint anatomy, tumour and confounders onto the four sequences."""

from __future__ import annotations

import torch

from ..labels import ED, ET, NCR
from . import confounders
from .acquisition import acquire, draw_acquisition
from .anatomy import GM, SULCAL, WM, Anatomy
from .contrast import SEQUENCES, draw_healthy, draw_lesion, draw_mimic
from .fields import Randomness, fractal_noise, smooth_noise
from .tumour import Tumour, blur_mask


def paint(random: Randomness, anatomy: Anatomy, tumour: Tumour) -> torch.Tensor:
    """Return the four sequences ``(4, X, Y, Z)``, float, zero outside the brain."""
    image, brain = _paint_healthy(random, anatomy), anatomy.brain
    mean = image[:, brain].mean(dim=1)
    sd = image[:, brain].std(dim=1)
    _paint_tumour(random, image[(slice(None), *tumour.box)], anatomy.crop(tumour.box), tumour, mean, sd)
    left, texture = confounders.remains(random, anatomy)
    if random.chance(0.5):
        for i in range(len(SEQUENCES)):
            image[i][left] = (mean[i] + sd[i] * (random.normal(0, 1.5) + texture[left])).clamp(min=0.02)
        brain = brain | left
    out = torch.stack([acquire(random, image[i], draw_acquisition(random, s)) for i, s in enumerate(SEQUENCES)])
    return out.clamp(min=1e-3) * brain


def _paint_healthy(random: Randomness, anatomy: Anatomy) -> torch.Tensor:
    shape = tuple(anatomy.brain.shape)
    means = torch.from_numpy(draw_healthy(random))
    image = torch.einsum("st,txyz->sxyz", means, anatomy.tissue)
    tissue = anatomy.tissue[WM] + anatomy.tissue[GM]
    # Nothing in a brain is flat: shared texture at several scales, and the template's own within-tissue detail.
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
    if random.chance(0.6):
        spots = confounders.white_matter_lesions(random, anatomy)
        strength = random.uniform(0.1, 0.5)
        image[3] += strength * spots
        image[2] += 0.6 * strength * spots
        image[0] -= 0.2 * strength * spots
        image[1] -= 0.2 * strength * spots
    if random.chance(0.3):  # fluid that FLAIR fails to null
        image[3] += random.uniform(0, 0.5) * anatomy.tissue[SULCAL] * (smooth_noise(random, shape, 40)[0] > 0.5)
    return image.clamp(min=0.02)


def _paint_tumour(
    random: Randomness, image: torch.Tensor, anatomy: Anatomy, tumour: Tumour, mean: torch.Tensor, sd: torch.Tensor
) -> None:
    """Paint the lesion's tissues over ``image`` (the part in the tumour's box) in place.

    ``mean`` and ``sd`` of each sequence over the healthy brain turn the lesion's z-scores into intensities.
    """
    shape = tuple(anatomy.brain.shape)
    z = draw_lesion(random)
    if not (tumour.label > 0).any():
        return
    core, oedema, enhancing = tumour.label == NCR, tumour.label == ED, tumour.label == ET
    kind = tumour.plan.kind
    coarse, fine = fractal_noise(random, shape, (14, 6), 2), smooth_noise(random, shape, 2.5)[0]
    centre_tissue = "necrosis" if kind in ("ring", "solid") else "non_enhancing"
    cystic = (coarse[0] > random.uniform(0.3, 1.5)) if random.chance(0.25) else torch.zeros(shape, dtype=torch.bool)
    cystic &= tumour.inside_mm > 3
    # An annotator's border is sharper than the tissue's, and oedema fades before its label ends.
    fade = random.uniform(0.1, 0.45)
    oedema_share = torch.where(oedema, (1 - fade) + fade * tumour.oedema_grade, torch.zeros(()))
    # Infiltration without a label: a little brightness beyond the border, as real oedema has.
    beyond = blur_mask(blur_mask(blur_mask((tumour.label > 0).float())))
    oedema_share = torch.where(tumour.label > 0, oedema_share, beyond * random.uniform(0.0, 0.6))
    # Contrast fades inside its label: bright ridge, dimmer flanks.
    ridge = blur_mask(blur_mask(enhancing.float()))
    depth_of_enhancement = random.uniform(0.25, 0.85)
    et_share = (1 - depth_of_enhancement + depth_of_enhancement * (1.4 * ridge).clamp(0, 1)) * enhancing
    et_share = et_share * (1 + 0.25 * coarse[1]).clamp(0.3, 1.3)
    mimic = torch.zeros(shape)
    if kind in ("non_enhancing", "diffuse"):
        rise = draw_mimic(random)
        patches = (smooth_noise(random, shape, random.uniform(3, 8))[0] - random.uniform(0.4, 1.4)).clamp(0, 1)
        if random.chance(0.5):  # along the border, as a rim would be
            patches = patches * torch.exp(-(tumour.inside_mm.clamp(min=0) / 3))
        mimic = rise * blur_mask(patches * (core | oedema))
    gradient = random.normal(0, 0.35) * (tumour.inside_mm / 15).clamp(0, 1)
    for i in range(len(SEQUENCES)):

        def level(tissue: str, i: int = i) -> torch.Tensor:
            return mean[i] + sd[i] * float(z[tissue][i])

        texture = sd[i] * (random.uniform(0.1, 0.5) * coarse[0] + random.uniform(0.0, 0.2) * fine)
        channel = image[i]
        keep = random.uniform(0.0, 0.35)  # anatomy still shows through oedema
        target = level("oedema") + keep * (channel - mean[i]) + 0.7 * texture
        channel = channel + (target - channel) * oedema_share * (1 - anatomy.tissue[SULCAL]).clamp(0, 1)
        inner = level(centre_tissue) + texture + sd[i] * gradient * (1 if i >= 2 else -1)
        inner = torch.where(cystic, level("cyst") + 0.3 * texture, inner)
        solid = core | enhancing
        channel = torch.where(solid, inner, channel)
        base = torch.where(solid, level("non_enhancing") + texture, channel)
        lit = base + (level("enhancing") + 0.6 * texture - base) * et_share
        channel = torch.where(enhancing, lit, channel)
        if SEQUENCES[i] == "t1ce":
            channel = channel + sd[i] * mimic
        image[i] = channel.clamp(min=0.02)
