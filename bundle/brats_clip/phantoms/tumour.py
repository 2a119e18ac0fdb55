"""Tumours: their location, composition and mass effect.

Sizes follow BraTS (whole tumour 5 to 250 ml, median about 90). ``traits.TUMOUR_KINDS`` names the kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ..labels import ED, ET, NCR
from .anatomy import GM, SULCAL, VENTRICLE, WM, Anatomy, sample_template
from .fields import Randomness, fractal_noise, length, smooth_noise
from .traits import NEVER_ENHANCING

Box = tuple[slice, slice, slice]


@dataclass
class Focus:
    """One lesion: an ellipsoid with an irregular border, its centre in voxels and its radii in mm."""

    centre: np.ndarray
    radii: np.ndarray
    axes: np.ndarray


@dataclass
class TumourPlan:
    """Parameters of a tumour: kind, foci, oedema reach (mm), rim thickness (mm), displacement of tissue (mm).

    ``cortex_ease`` is the reach of oedema into cortex, as a share of its reach in white matter; ``fingers`` is how
    strictly it follows white matter.
    """

    kind: str
    foci: list[Focus]
    oedema_mm: float
    rim_mm: float
    push_mm: float
    broken_rim: bool = False
    roughness: float = 0.3
    cortex_ease: float = 0.15
    fingers: float = 1.0
    without_core: bool = False


@dataclass
class Tumour:
    """A drawn tumour, on the part of the anatomy's grid that it can reach.

    Attributes:
        box: that part of the grid; the following maps have its size.
        label: uint8, values 0, 1 (NCR), 2 (ED), 4 (ET).
        inside_mm: distance below the core's surface, negative outside, in mm.
        oedema_grade: 1 next to the core, falling to 0 where oedema ends.
        plan: the parameters that it was drawn from.
    """

    box: Box
    label: torch.Tensor
    inside_mm: torch.Tensor
    oedema_grade: torch.Tensor
    plan: TumourPlan = field(repr=False)


def plan_tumour(random: Randomness, mni: torch.Tensor, kind: str) -> TumourPlan:
    """Draw location and size of a tumour of ``kind`` in a brain whose voxels lie at ``mni`` (``(3, X, Y, Z)``, mm)."""
    where = _placement(random, mni, kind)
    core_ml = float(np.clip(np.exp(random.varied(*_CORE_LOG_ML[kind])), 0.4, 160))
    small_core = kind in ("ring", "solid", "patchy") and random.chance(0.15)  # much oedema around a small core
    if small_core:
        core_ml = random.uniform(0.8, 8.0)
    if kind == "diffuse":
        core_ml = random.uniform(0.0, 2.0) if random.chance(0.5) else 0.0
    several = kind not in ("faint", "infiltrating") and random.chance(0.2)
    count = random.choice([2, 3], [0.65, 0.35]) if several else 1
    shares = np.array([1.0, *(random.uniform(0.05, 0.5) for _ in range(count - 1))])
    first = _place(random, where)
    foci = []
    for i, share in enumerate(shares / shares.sum()):
        centre = first if i == 0 else _place(random, where, near=first)
        radius = (max(core_ml, 0.3) * share * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
        stretch = np.exp(random.scalar.normal(0, 0.22, 3))
        stretch /= np.prod(stretch) ** (1 / 3)
        basis, _ = np.linalg.qr(random.scalar.normal(size=(3, 3)))
        foci.append(Focus(centre, radius * stretch, basis))
    size = float(np.mean(foci[0].radii))
    rim = float(np.clip(np.exp(random.normal(1.6, 0.5)), 1.3, 14))
    rims = {"cystic": random.uniform(0.8, 3.5), "small_ring": random.uniform(1.5, 3.0)}
    return TumourPlan(
        kind=kind,
        foci=foci,
        oedema_mm=_oedema_reach(random, kind, small_core),
        rim_mm=rims.get(kind, rim),
        push_mm=random.ranged(0.0, 0.15 if kind in ("faint", "diffuse") else 0.45) * size,
        broken_rim=random.chance(0.4) and kind != "small_ring",
        roughness=random.uniform(0.12, 0.5) + (0.15 if kind == "infiltrating" else 0.0),
        cortex_ease=random.uniform(0.05, 0.35),
        fingers=random.uniform(0.8, 2.0),
        without_core=kind == "faint" and random.chance(0.5),
    )


_CORE_LOG_ML = {  # mean and sd of log(core volume in ml)
    "ring": (3.35, 0.85),
    "solid": (3.0, 0.9),
    "patchy": (3.4, 0.9),
    "cystic": (3.2, 0.8),
    "small_ring": (0.9, 0.4),
    "large_enhancing": (4.0, 0.4),
    "infiltrating": (3.7, 0.7),
    "non_enhancing": (3.6, 0.9),
    "faint": (2.6, 0.8),
    "diffuse": (0.0, 0.5),
}


def _oedema_reach(random: Randomness, kind: str, small_core: bool) -> float:
    """Draw how far oedema reaches beyond the core, in mm."""
    if kind == "diffuse":
        return random.uniform(14, 26)
    if kind == "small_ring" or small_core:
        return float(np.exp(random.normal(3.0, 0.35, 2.3, 3.6)))
    if kind == "faint":  # half of them without a core: the whole lesion is labelled oedema
        return random.uniform(0, 4)
    if random.chance(0.06):
        return 0.0
    if kind in ("non_enhancing", "patchy", "infiltrating") and random.chance(0.5):
        return random.uniform(2, 7)
    return float(np.exp(random.varied(2.6, 0.5)).clip(1.2, 30))


def _placement(random: Randomness, mni: torch.Tensor, kind: str) -> np.ndarray:
    """Weights of every fourth voxel as the centre of a focus: high in white matter, low in brainstem and cerebellum.

    Faint tumours are mostly mesial temporal or insular, infiltrating tumours reach the cortex.
    """
    coarse = mni[:, ::4, ::4, ::4]
    maps = sample_template(coarse).numpy()
    x, y, z = coarse.numpy()
    weight = (maps[WM] + 0.6 * maps[GM]).astype(np.float64)
    weight[(z < -18) & (y < -25) | (np.abs(x) < 12) & (z < 0)] *= 0.08
    weight[maps[5] < (random.uniform(3, 8) if kind == "infiltrating" else random.uniform(4, 14))] *= 0.05
    if kind == "faint" and random.chance(0.75):
        place = random.choice([(27.0, -12.0, -20.0), (37.0, 4.0, 2.0)])
        away = [((np.abs(x) - place[0]) / 6), ((y - place[1]) / 12), ((z - place[2]) / 7)]
        weight = (weight + 1e-3) * np.exp(-0.5 * sum(a**2 for a in away))
    return weight


def _place(random: Randomness, weight: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
    """Draw a centre, in voxels, by ``weight``; with ``near``, a second focus within reach of the first."""
    if near is not None:
        grid = np.stack(np.meshgrid(*[np.arange(n) * 4 for n in weight.shape], indexing="ij"))
        distance = np.linalg.norm(grid - near[:, None, None, None], axis=0)
        weight = weight * np.exp(-((distance / 45) ** 2)) * (distance > 15)
    index = random.scalar.choice(weight.size, p=weight.ravel() / weight.sum())
    return np.array(np.unravel_index(index, weight.shape)) * 4.0 + random.scalar.uniform(0, 4, 3)


def push(plan: TumourPlan, mni: torch.Tensor) -> torch.Tensor:
    """Displace anatomy away from the foci (mass effect); return ``mni`` after the displacement."""
    if plan.push_mm < 0.3:
        return mni
    shape = mni.shape[1:]
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    shift = torch.zeros_like(grid)
    for focus in plan.foci:
        away = grid - torch.as_tensor(focus.centre, dtype=torch.float32)[:, None, None, None]
        distance = length(away).clamp_min(1e-3)
        size = float(focus.radii.mean()) / float(plan.foci[0].radii.mean())
        radius = float(focus.radii.mean())
        reach = (distance / radius) * torch.exp(-0.5 * ((distance - radius).clamp_min(0) / (0.9 * radius + 9)) ** 2)
        shift += plan.push_mm * size * (away / distance) * reach.clamp(max=1)
    # The skull is rigid: the displacement fades towards the surface, so tissue there is compressed, not moved out.
    depth = F.interpolate(sample_template(mni[:, ::4, ::4, ::4])[None, 5:], size=shape, mode="trilinear")[0]
    return mni - shift * (depth / 12).clamp(0, 1)


def draw_tumour(random: Randomness, anatomy: Anatomy, plan: TumourPlan) -> Tumour:
    """Draw ``plan`` into ``anatomy``: core, its composition, then oedema that follows white matter."""
    box = _reach(plan, tuple(anatomy.brain.shape))
    anatomy = anatomy.crop(box)
    shape = tuple(anatomy.brain.shape)
    parenchyma = anatomy.tissue[WM] + anatomy.tissue[GM]
    noise = fractal_noise(random, shape, (22, 10, 4.5))[0]
    level = torch.full(shape, 1e3)
    axes = [torch.arange(s.start, s.stop, dtype=torch.float32) for s in box]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    for focus in plan.foci:
        offset = grid - torch.as_tensor(focus.centre, dtype=torch.float32)[:, None, None, None]
        matrix = torch.as_tensor(focus.axes / focus.radii[:, None], dtype=torch.float32)
        radial = length(torch.einsum("ij,jxyz->ixyz", matrix, offset))
        level = torch.minimum(level, radial)
    # Falx: the other hemisphere counts as farther, except where the corpus callosum bridges it.
    across = _across_midline(anatomy, plan.foci[0].centre - [s.start for s in box])
    level = level + across * 0.05 + plan.roughness * noise * 0.6
    fluid = blur_mask(anatomy.tissue[VENTRICLE] + 0.7 * anatomy.tissue[SULCAL] * (anatomy.depth < 4))
    core = (level < 1) & anatomy.brain & (fluid < 0.6) & (anatomy.depth > 1)
    whole = core
    if plan.without_core:  # all of it is labelled oedema
        core = core & False
    if plan.kind == "diffuse" and sum(f.radii.prod() for f in plan.foci) < 80:
        core &= False
    inside = _signed_distance(core)

    label = torch.zeros(shape, dtype=torch.uint8)
    label[core] = NCR
    label[_enhancing(random, plan, core, inside) & core] = ET

    # Oedema spreads far along white matter in fingers, hardly into cortex, and not into fluid.
    centre_out = -inside if core.any() else (level - 1) * float(np.mean(plan.foci[0].radii))
    white = blur_mask(anatomy.tissue[WM])
    ease = plan.cortex_ease + 1.1 * white**plan.fingers - 0.9 * fluid
    ragged = 1 + 0.5 * fractal_noise(random, shape, (16, 7, 3))[0]
    reach = plan.oedema_mm * ease.clamp(min=0.02) * ragged.clamp(min=0.1)
    oedema = (centre_out + 0.8 * across < reach) & (parenchyma > 0.5) & (fluid < 0.5) & anatomy.brain
    oedema = (oedema & (plan.oedema_mm > 0)) | (whole & (parenchyma > 0.45))
    oedema &= ~core & (anatomy.depth > 1)
    oedema = _tidy(oedema | core, min_ml=0.5) & ~core
    label[oedema] = ED
    grade = torch.where(oedema, 1 - (centre_out.clamp(min=0) / reach.clamp_min(0.5)), torch.zeros(()))
    return Tumour(box, label, inside, grade.clamp(0, 1), plan)


def _enhancing(random: Randomness, plan: TumourPlan, core: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return the mask of enhancement in the core, by kind."""
    shape = tuple(core.shape)
    nothing = torch.zeros(shape, dtype=torch.bool)
    hardly = plan.kind == "infiltrating" and random.chance(0.4)
    if plan.kind in NEVER_ENHANCING or hardly or not core.any():
        return nothing
    wave = smooth_noise(random, shape, random.uniform(6, 14))[0]
    fine = smooth_noise(random, shape, 3.5)[0]
    if plan.kind in ("ring", "cystic", "small_ring"):
        thickness = plan.rim_mm * (1 + 0.45 * wave + 0.2 * fine).clamp(min=0.15)
        rim = inside < thickness
        if plan.broken_rim:
            rim &= smooth_noise(random, shape, random.uniform(12, 25))[0] > random.uniform(-1.4, 0.2)
        if random.chance(0.3):  # septa and nodules growing inwards
            rim |= (wave.abs() < 0.12) & (inside < 3 * plan.rim_mm)
        return rim
    if plan.kind == "solid":
        return wave + 0.5 * fine > random.uniform(-2.2, -0.7)
    if plan.kind == "large_enhancing":  # thick and uneven, with necroses inside
        return (wave + 0.4 * fine > random.uniform(-0.9, 0.1)) | (inside < random.uniform(2, 5) * (1 + 0.4 * fine))
    threshold = random.uniform(1.4, 2.4) if plan.kind == "infiltrating" else random.uniform(0.2, 1.7)
    patches = wave + 0.4 * fine > threshold
    if random.chance(0.4):
        patches &= inside < random.uniform(3, 12)
    return patches


def _across_midline(anatomy: Anatomy, centre: np.ndarray) -> torch.Tensor:
    """Return the weighted distance in mm across the midline, seen from voxel ``centre``; less across the callosum."""
    x = anatomy.mni[0]
    i, j, k = (int(np.clip(round(c), 0, n - 1)) for c, n in zip(centre, x.shape, strict=True))
    side = 1.0 if float(x[i, j, k]) >= 0 else -1.0
    beyond = (-side * x).clamp(min=0)
    y, z = anatomy.mni[1], anatomy.mni[2]
    callosum = (z > -2) & (z < 32) & (y > -45) & (y < 35) & (x.abs() < 25)
    return torch.where(callosum, 0.3 * beyond, beyond * 3).clamp(max=40)


def _reach(plan: TumourPlan, shape: tuple[int, ...]) -> Box:
    """Return the part of the grid that core and oedema can reach."""
    margin = 1.8 * plan.oedema_mm + 6
    low = np.min([f.centre - 1.6 * f.radii.max() for f in plan.foci], axis=0) - margin
    high = np.max([f.centre + 1.6 * f.radii.max() for f in plan.foci], axis=0) + margin
    return tuple(slice(max(0, int(a)), min(n, int(b) + 1)) for a, b, n in zip(low, high, shape, strict=True))


def blur_mask(mask: torch.Tensor) -> torch.Tensor:
    """Smooth a fraction map over about 3 mm."""
    return F.avg_pool3d(mask[None, None], 3, stride=1, padding=1)[0, 0]


def _signed_distance(mask: torch.Tensor) -> torch.Tensor:
    """Return the signed distance in mm to a mask's border (positive inside): 1 mm resolution inside, 2 mm outside."""
    if not mask.any():
        return torch.full(mask.shape, -1e3)
    coarse = F.avg_pool3d(mask.float()[None, None], 2)[0, 0] >= 0.5
    outside = ndimage.distance_transform_edt(~coarse.numpy()).astype(np.float32) * 2
    far = F.interpolate(torch.from_numpy(outside)[None, None], size=mask.shape, mode="trilinear", align_corners=False)
    bounds = ndimage.find_objects(mask.numpy().astype(np.uint8))[0]
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in bounds)
    near = torch.from_numpy(ndimage.distance_transform_edt(mask[box].numpy()).astype(np.float32))
    signed = -far[0, 0].clamp(min=0.5)
    signed[box] = torch.where(mask[box], near - 0.5, signed[box])
    return signed


def _tidy(mask: torch.Tensor, min_ml: float) -> torch.Tensor:
    """Drop connected components below ``min_ml``: annotators do not draw them."""
    parts, count = ndimage.label(mask.numpy())
    if count <= 1:
        return mask
    sizes = np.bincount(parts.ravel())
    keep = sizes >= min_ml * 1000
    keep[0] = False
    return torch.from_numpy(keep[parts])
