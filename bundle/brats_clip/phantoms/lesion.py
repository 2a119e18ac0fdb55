"""Lesion appearance: paint oedema, core, fluid, blood and enhancement over healthy tissue."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..labels import ED, ET, NCR
from .anatomy import SULCAL, Anatomy
from .contrast import SEQUENCES, draw_lesion, draw_mimic
from .fields import Randomness, fractal_noise, smooth_noise
from .traits import NEVER_ENHANCING, Traits
from .tumour import Tumour, blur_mask


@dataclass(frozen=True)
class Healthy:
    """Intensity statistics of healthy brain and ventricles by sequence ``(4,)``, to turn z-scores into intensities."""

    mean: torch.Tensor
    sd: torch.Tensor
    fluid: torch.Tensor


def paint_lesion(
    random: Randomness, image: torch.Tensor, anatomy: Anatomy, tumour: Tumour, healthy: Healthy, traits: Traits
) -> None:
    """Paint the lesion's tissues in place over ``image`` ``(4, X, Y, Z)``, which is cropped to the tumour's box."""
    shape = tuple(anatomy.brain.shape)
    z = draw_lesion(random, traits.kind)
    label, inside = tumour.label, tumour.inside_mm
    if not (label > 0).any():
        return
    oedema, enhancing, solid = label == ED, label == ET, (label == NCR) | (label == ET)
    coarse, fine = fractal_noise(random, shape, (14, 6), 2), smooth_noise(random, shape, 2.5)[0]
    plain = 0.3 if traits.kind == "faint" else 1.0  # how uneven the tissues are
    oedema_share = _oedema_share(random, tumour, oedema)
    bright_oedema = random.uniform(-0.3, 1.0) * plain  # brightening towards the core
    patchy_oedema = random.uniform(0.15, 0.95) * plain
    et_share = _enhancing_share(random, traits.kind, enhancing, inside, coarse[1], fine)
    fluid = _cyst(random, traits.cyst, solid, enhancing, inside, coarse[0])
    blood = _patches(random, traits.blood, solid, inside)
    red = random.chance(0.5)  # methaemoglobin, bright on T1; else calcium or old blood
    mimic = _mimic(random, traits.kind, label, inside)
    gradient = random.normal(0, 0.35) * plain * (inside / 15).clamp(0, 1)
    protein = random.uniform(0.0, 0.45)  # makes a cyst's fluid differ from that in the ventricles
    for i, sequence in enumerate(SEQUENCES):
        mean, sd, channel = healthy.mean[i], healthy.sd[i], image[i]

        def level(tissue: str, i: int = i, mean=mean, sd=sd) -> torch.Tensor:
            return mean + sd * float(z[tissue][i])

        texture = sd * plain * (random.uniform(0.1, 0.6) * coarse[0] + random.uniform(0.0, 0.2) * fine)
        keep = random.uniform(0.1, 0.7)  # anatomy still shows through oedema
        uneven = sd * (patchy_oedema * coarse[1] + bright_oedema * (tumour.oedema_grade - 0.5))
        target = level("oedema") + keep * (channel - mean) + uneven * (1.0 if i >= 2 else -0.45)
        channel = channel + (target - channel) * oedema_share * (1 - anatomy.tissue[SULCAL]).clamp(0, 1)
        core = level("core") + texture + sd * gradient * (1 if i >= 2 else -1)
        if traits.kind in ("infiltrating", "faint"):  # infiltrated brain keeps some of its pattern
            core = core + random.uniform(0.0, 0.4) * (image[i] - mean)
        channel = torch.where(solid, core, channel)
        tissue = level("enhancing") + 0.6 * texture
        # Part of the tissue that is labelled as enhancing looks like the adjacent core.
        channel = torch.where(enhancing, channel + (tissue - channel) * et_share, channel)
        protein_level = healthy.fluid[i] + protein * (level("core") - healthy.fluid[i])
        channel = channel + (protein_level + 0.15 * texture - channel) * fluid
        if traits.blood:
            z_blood = random.uniform(0.6, 2.8) if red and i < 2 else random.uniform(-0.6, 0.5) if i < 2 else None
            z_blood = random.uniform(-2.8, -0.3) if z_blood is None else z_blood
            channel = channel + (mean + sd * z_blood + 0.5 * texture - channel) * blood
        if sequence == "t1ce":
            channel = channel + sd * mimic
        image[i] = channel.clamp(min=0.02)


def _oedema_share(random: Randomness, tumour: Tumour, oedema: torch.Tensor) -> torch.Tensor:
    """Return the share of oedema per voxel: it fades towards the label's border and reaches a little beyond."""
    fade = random.uniform(0.05, 0.45)
    share = torch.where(oedema, (1 - fade) + fade * tumour.oedema_grade, torch.zeros(()))
    beyond = blur_mask(blur_mask(blur_mask((tumour.label > 0).float())))
    return torch.where(tumour.label > 0, share, beyond * random.uniform(0.0, 0.6))


def _enhancing_share(
    random: Randomness,
    kind: str,
    enhancing: torch.Tensor,
    inside: torch.Tensor,
    coarse: torch.Tensor,
    fine: torch.Tensor,
) -> torch.Tensor:
    """Return the contrast uptake per voxel of ET: bright ridges, and the dim margins that annotators include."""
    ridge = blur_mask(blur_mask(enhancing.float()))
    fall = random.uniform(0.2, 0.85)
    share = 1 - fall + fall * (1.4 * ridge).clamp(0, 1)
    share = share * (1 + random.uniform(0.1, 0.5) * coarse + random.uniform(0, 0.25) * fine)
    if kind == "large_enhancing":
        weak, reach = random.uniform(0.1, 0.5), random.uniform(3, 8)
        share = share * (weak + (1 - weak) * (inside / reach).clamp(0, 1))
    return share.clamp(0.12, 1.7) * enhancing


def _patches(random: Randomness, share: float, where: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return soft-edged patches ``(X, Y, Z)`` in 0 to 1 that fill about ``share`` of ``where``."""
    if not share or not where.any():
        return torch.zeros(where.shape)
    field = smooth_noise(random, tuple(where.shape), random.uniform(5, 13))[0] + 0.1 * inside.clamp(0, 10)
    return _fill(field, share, where)


def _cyst(
    random: Randomness,
    share: float,
    solid: torch.Tensor,
    enhancing: torch.Tensor,
    inside: torch.Tensor,
    coarse: torch.Tensor,
) -> torch.Tensor:
    """Return the fluid share of the core, 0 to 1: smooth pockets below the surface that spare enhancing walls."""
    where = solid & ~enhancing & (inside > random.uniform(0.5, 3))
    if not share or not where.any():
        return torch.zeros(solid.shape)
    field = 0.25 * inside.clamp(0, 12) + random.uniform(0.2, 1.2) * blur_mask(coarse)
    return _fill(field, share, where)


def _fill(field: torch.Tensor, share: float, where: torch.Tensor) -> torch.Tensor:
    """Return a soft mask of the ``share`` of ``where`` with the highest ``field``."""
    values = field[where]
    threshold = values.kthvalue(max(1, round((1 - share) * len(values))))[0]
    return blur_mask((where & (field >= threshold)).float()) * where


def _mimic(random: Randomness, kind: str, label: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return the increase of T1ce, in z-scores, in a lesion that does not enhance; see ``draw_mimic``."""
    if kind not in NEVER_ENHANCING and (kind != "infiltrating" or (label == ET).any()):
        return torch.zeros(label.shape)
    rise = draw_mimic(random)
    patches = (smooth_noise(random, tuple(label.shape), random.uniform(3, 8))[0] - random.uniform(0.4, 1.4)).clamp(0, 1)
    if random.chance(0.5):  # along the border, as a rim would be
        patches = patches * torch.exp(-(inside.clamp(min=0) / 3))
    return rise * blur_mask(patches * (label > 0))
