"""The head around a brain, before skull stripping: dura, skull, scalp, eyes, face and neck."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from .anatomy import Anatomy
from .contrast import SEQUENCES
from .fields import Randomness, smooth_noise

MARGIN = ((34, 34), (38, 44), (64, 26))  # mm around ``CANVAS``: left and right, back and front, bottom and top

# Mean intensity (white matter on T1 = 1) and its SD between patients: T1, T1ce, T2, FLAIR.
TISSUES = {
    "air": ((0.01, 0.00), (0.01, 0.00), (0.01, 0.00), (0.01, 0.00)),
    "bone": ((0.10, 0.04), (0.11, 0.04), (0.08, 0.03), (0.10, 0.04)),
    "marrow": ((1.10, 0.25), (1.15, 0.25), (0.60, 0.15), (0.60, 0.15)),
    "fat": ((1.70, 0.30), (1.75, 0.30), (1.20, 0.30), (1.10, 0.30)),
    "muscle": ((0.70, 0.08), (0.80, 0.08), (0.35, 0.06), (0.50, 0.08)),
    "skin": ((0.85, 0.12), (1.00, 0.15), (0.45, 0.10), (0.60, 0.12)),
    "mucosa": ((0.75, 0.10), (1.50, 0.25), (1.40, 0.30), (1.10, 0.25)),
    "dura": ((0.65, 0.10), (1.10, 0.30), (0.35, 0.10), (0.65, 0.15)),
    "vitreous": ((0.35, 0.06), (0.36, 0.06), (1.90, 0.30), (0.40, 0.10)),
    "lens": ((0.70, 0.10), (0.75, 0.10), (0.40, 0.10), (0.55, 0.10)),
    "cord": ((0.95, 0.04), (0.97, 0.04), (0.60, 0.06), (0.80, 0.06)),
    "vessel": ((0.40, 0.20), (2.00, 0.40), (0.15, 0.08), (0.20, 0.10)),
}


@dataclass(frozen=True)
class Head:
    """A head on the phantom's 1 mm grid, enlarged by ``MARGIN``.

    Attributes:
        image: ``(4, X, Y, Z)`` intensities of the tissue, before the scan.
        depth: ``(X, Y, Z)`` mm below the head's surface, negative outside.
        within_dura: ``(X, Y, Z)`` bool, the brain and the fluid around it.
        origin: index of the enlarged grid's first voxel on the phantom's grid, ``(3,)``.
    """

    image: torch.Tensor
    depth: torch.Tensor
    within_dura: torch.Tensor
    origin: tuple[int, int, int]


def draw_head(random: Randomness, image: torch.Tensor, anatomy: Anatomy, fluid: torch.Tensor) -> Head:
    """Put the brain ``image`` ``(4, X, Y, Z)`` of ``anatomy`` into a head; ``fluid`` ``(4,)`` surrounds the brain."""
    padding = [n for pair in reversed(MARGIN) for n in pair]
    brain = F.pad(anatomy.brain, padding)
    mni = _extrapolate(anatomy.mni)
    shape = tuple(brain.shape)
    inner = _from_brain(brain)  # mm outside the inner table of the skull, negative inside
    bumps = smooth_noise(random, shape, 40)[0], smooth_noise(random, shape, 9)[0]
    values = {k: [max(0.005, random.varied(m, s)) for m, s in v] for k, v in TISSUES.items()}
    if random.chance(0.25):  # fat saturation
        saturated = random.choice([1, 3])
        for tissue in ("fat", "marrow"):
            values[tissue][saturated] *= 0.25
    x, y, z = mni
    skull = random.uniform(5.0, 8.0) * (1 + 0.15 * bumps[0])
    scalp = random.uniform(3.5, 8.0) * (1 + 0.25 * bumps[0])
    gap = random.uniform(0.2, 1.4)  # fluid between brain and skull
    surface = torch.maximum(-(inner - gap - skull - scalp), _face_and_neck(random, x, y, z) + 1.5 * bumps[1])

    out = torch.empty((len(SEQUENCES), *shape))
    parts: list[tuple[str, torch.Tensor]] = [("muscle", surface > 0)]
    outside_bone = inner - gap - skull
    vault = z > -32 + 0.35 * (y - 20).clamp(min=0)
    parts.append(("fat", (outside_bone > 0) & vault & (surface > 0)))
    temporal = (x.abs() > 48) & (z < 18) & (y > -30) & (y < 45) & (outside_bone > 0) & (outside_bone < 8)
    parts.append(("muscle", temporal & (surface > 2.5)))
    parts.append(("fat", ~vault & (surface > 0) & ((bumps[1] + 0.6 * bumps[0] > 0.5) | (surface < 6))))
    shell = (inner > gap) & (outside_bone <= 0)
    base = ~vault & (inner > gap) & (inner < gap + 11) & (bumps[1] > -0.7)
    parts.append(("bone", (shell | base) & (surface > 0)))
    middle = (inner - gap - skull / 2).abs() < 0.22 * skull
    parts.append(("marrow", middle & vault & (bumps[0] + 0.4 * bumps[1] > -0.9)))
    parts.append(("marrow", base & ~shell & (bumps[1] > 0.8)))
    parts.extend(_cavities(x, y, z, bumps[1]))
    parts.extend(_eyes(random, x, y, z, inner > 3))
    parts.extend(_neck(x, y, z, inner > gap))
    parts.append(("dura", (inner > gap - 0.8) & (inner <= gap + 0.5) & (z > -70)))
    parts.append(("skin", (surface > 0) & (surface < 2.0)))
    index = torch.zeros(shape, dtype=torch.uint8)
    names = list(TISSUES)
    for name, where in parts:
        index[where & (surface > 0)] = names.index(name)
    texture = 1 + 0.07 * bumps[1] + 0.08 * smooth_noise(random, shape, 3.5)[0]
    inside = (inner <= gap - 0.8) & (surface > 0)
    place = tuple(slice(low, low + n) for (low, _), n in zip(MARGIN, anatomy.brain.shape, strict=True))
    for i in range(len(SEQUENCES)):
        table = torch.tensor([values[name][i] for name in names])
        out[i] = table[index.int()] * texture
        out[i][inside] = float(fluid[i])
        part = out[i][place]
        part[anatomy.brain] = image[i][anatomy.brain]
    return Head(out.clamp_(min=0.005), surface, inside | brain, tuple(-low for low, _ in MARGIN))


def _extrapolate(mni: torch.Tensor) -> torch.Tensor:
    """Return MNI coordinates of the enlarged grid, by the affine map that fits those of the brain's grid best."""
    step = 12
    sample = mni[:, ::step, ::step, ::step].reshape(3, -1).T.double()
    axes = [torch.arange(0, n, step, dtype=torch.float64) for n in mni.shape[1:]]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1).T
    fit = torch.linalg.lstsq(torch.cat([voxels, torch.ones(len(voxels), 1)], dim=1), sample).solution.float()
    axes = [
        torch.arange(-low, n + high, dtype=torch.float32) for (low, high), n in zip(MARGIN, mni.shape[1:], strict=True)
    ]
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([sum(grid[a] * fit[a, c] for a in range(3)) + fit[3, c] for c in range(3)])


def _from_brain(brain: torch.Tensor) -> torch.Tensor:
    """Return the distance in mm outside a smooth hull of ``brain``, negative inside, computed at 2 mm."""
    coarse = F.avg_pool3d(brain.float()[None, None], 2, ceil_mode=True)[0, 0].numpy() > 0.5
    parts, count = ndimage.label(coarse)
    if count > 1:
        coarse = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    grown = ndimage.distance_transform_edt(~coarse) < 6  # closed over sulci and fissures: 12 mm
    hull = ndimage.distance_transform_edt(grown) >= 5.5
    signed = ndimage.distance_transform_edt(~hull) - ndimage.distance_transform_edt(hull)
    signed = ndimage.gaussian_filter(signed.astype(np.float32), 1.0) * 2
    return F.interpolate(torch.from_numpy(signed)[None, None], size=brain.shape, mode="trilinear")[0, 0]


def _ellipsoid(x, y, z, centre, radii) -> torch.Tensor:
    """Return the approximate depth in mm below an ellipsoid's surface; negative outside."""
    r = torch.sqrt(sum(((c - m) / s) ** 2 for c, m, s in zip((x, y, z), centre, radii, strict=True)))
    return (1 - r) * float(min(radii))


def _face_and_neck(random: Randomness, x, y, z) -> torch.Tensor:
    """Return the depth in mm below the surface of face, nose, ears and neck."""
    long = random.uniform(-4, 4)
    face = _ellipsoid(x, y, z, (0, 28, -52), (64 + long, 66 + long, 68))
    nose = _ellipsoid(x, y, z, (0, 92 + long, -56), (13, 17, 22))
    back = _ellipsoid(x, y, z, (0, -46, -60), (62, 52, 60))
    radius = random.uniform(52, 64)
    neck = torch.where(z < -40, radius - torch.sqrt(x**2 + (y + 24) ** 2), torch.full((), -99.0))
    ears = [_ellipsoid(x, y, z, (side * (84 + long / 2), -22, -32), (7, 15, 26)) for side in (-1, 1)]
    out = torch.maximum(torch.maximum(face, nose), torch.maximum(back, neck))
    return torch.maximum(out, torch.maximum(*ears))


def _cavities(x, y, z, bumps) -> list[tuple[str, torch.Tensor]]:
    """Air in nose, sinuses, mouth, throat and mastoids, lined with mucosa."""
    parts = []
    spaces = [
        ((0, 58, -52), (13, 30, 20)),  # nasal cavity
        ((0, 8, -88), (11, 9, 40)),  # pharynx
        ((0, 24, -32), (12, 13, 9)),  # sphenoid sinus
        ((0, 76, -8), (15, 6, 11)),  # frontal sinus
        *[((side * 34, 52, -62), (14, 17, 17)) for side in (-1, 1)],  # maxillary sinuses
    ]
    for centre, radii in spaces:
        depth = _ellipsoid(x, y, z, centre, radii) + 2.0 * bumps
        parts.append(("mucosa", depth > 0))
        parts.append(("air", depth > 2.2))
    for side in (-1, 1):
        mastoid = _ellipsoid(x, y, z, (side * 54, -32, -42), (15, 15, 18))
        parts.append(("bone", mastoid > 0))
        parts.append(("air", (mastoid > 2) & (bumps > 0)))
    return parts


def _eyes(random: Randomness, x, y, z, outside_brain) -> list[tuple[str, torch.Tensor]]:
    """Two eyeballs in orbital fat, with lens and optic nerve."""
    parts = []
    radius = random.uniform(11, 13)
    for side in (-1, 1):
        eye = (side * 33.0, 62.0, -36.0)
        parts.append(("fat", (_ellipsoid(x, y, z, (side * 30.0, 48.0, -36.0), (19, 27, 17)) > 0) & outside_brain))
        nerve = torch.sqrt((x - side * (33 - 0.5 * (62 - y).clamp(0, 40))) ** 2 + (z + 34) ** 2) < 2.5
        parts.append(("muscle", nerve & (y > 25) & (y < 52) & outside_brain))
        ball = torch.sqrt(sum((c - m) ** 2 for c, m in zip((x, y, z), eye, strict=True)))
        parts.append(("muscle", (ball < radius + 1.2) & outside_brain))
        parts.append(("vitreous", ball < radius))
        parts.append(("lens", _ellipsoid(x, y, z, (eye[0], eye[1] + radius - 3, eye[2]), (5, 2.5, 5)) > 0))
    return parts


def _neck(x, y, z, outside_brain) -> list[tuple[str, torch.Tensor]]:
    """Vertebrae around the cord, carotid arteries and jugular veins."""
    behind = y + 42 + 0.12 * (z + 70)  # the spine leans forwards on its way down
    ring = torch.sqrt(x**2 + behind**2)
    low = (z < -66) & outside_brain
    body = torch.sqrt((x / 1.3) ** 2 + (behind - 20) ** 2)
    discs = ((z + 70) % 17) < 4
    parts = [("marrow", low & (body < 10) & ~discs), ("bone", low & (((body >= 10) & (body < 11.5)) | (ring < 14)))]
    parts += [("vitreous", low & (ring < 9.5)), ("cord", low & (torch.sqrt((x / 1.3) ** 2 + behind**2) < 5.5))]
    for side in (-1, 1):
        carotid = torch.sqrt((x - side * 27) ** 2 + (y + 8) ** 2)
        parts.append(("vessel", (z < -55) & (carotid < 3.5) & outside_brain))
        parts.append(("vessel", (z < -55) & (torch.sqrt((x - side * 34) ** 2 + (y + 16) ** 2) < 5) & outside_brain))
    return parts
