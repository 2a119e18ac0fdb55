"""Healthy anatomy: the ICBM-152 template from nilearn's package, warped to an individual.

Source of the template: ICBM 2009a nonlinear symmetric (Fonov et al. 2011), as redistributed by nilearn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from scipy import ndimage

from .fields import Randomness, Shape, smooth_noise

# Individuals are drawn on this grid: RAS, 1 mm, the size of a skull-stripped brain with room for its variation.
CANVAS: Shape = (148, 184, 152)
TEMPLATE_CENTRE_MM = (0.0, -18.0, 6.0)  # middle of the template's brain, in MNI millimetres

WM, GM, SULCAL, VENTRICLE = range(4)
TISSUES = ("wm", "gm", "sulcal_csf", "ventricle")


@dataclass(frozen=True)
class Template:
    """Maps of the template on its own grid, stacked ``(C, X, Y, Z)``: four tissues, then T1 detail and surface depth.

    Attributes:
        maps: tissue fractions in the order of ``TISSUES``, T1 detail (what tissue fractions do not explain, in
            standard deviations) and depth below the brain's surface in mm (negative outside).
        affine: voxel to MNI millimetres.
    """

    maps: torch.Tensor
    affine: np.ndarray


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read nilearn's ICBM-152 maps and derive ventricles, sulci and depth from them (once per process)."""
    gm_image, wm_image = load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1)
    gm, wm = (np.asarray(i.dataobj, np.float32) for i in (gm_image, wm_image))
    gm, wm = gm / gm.max(), wm / wm.max()
    t1 = np.asarray(load_mni152_template(resolution=1).dataobj, np.float32)
    tissue = gm + wm
    padded = np.pad(tissue > 0.3, 12)
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(padded, ndimage.generate_binary_structure(3, 1), 8))
    brain = closed[12:-12, 12:-12, 12:-12]
    depth = ndimage.distance_transform_edt(brain) - ndimage.distance_transform_edt(~brain)
    csf = np.clip(1 - tissue, 0, 1) * brain
    # Ventricles are fluid components deeper than 12 mm that contain fluid deeper than 24 mm.
    seeds = (csf > 0.6) & (depth > 24)
    parts, _ = ndimage.label((csf > 0.3) & (depth > 12))
    inner = np.isin(parts, np.unique(parts[seeds]))
    ventricle = csf * ndimage.binary_dilation(inner, iterations=2)
    maps = np.stack([wm * brain, gm * brain, csf - ventricle, ventricle])
    expected = np.tensordot([1.0, 0.75, 0.4, 0.35], maps, axes=1)
    scaled = t1 / np.percentile(t1[wm > 0.9], 50)
    detail = np.where(tissue > 0.5, scaled - expected, 0)
    detail = np.clip((detail - detail[tissue > 0.5].mean()) / detail[tissue > 0.5].std(), -3, 3) * (tissue > 0.5)
    stacked = np.concatenate([maps, detail[None], depth[None]]).astype(np.float32)
    return Template(torch.from_numpy(stacked), gm_image.affine)


@dataclass
class Anatomy:
    """One individual's healthy brain on ``CANVAS``.

    Attributes:
        tissue: ``(4, X, Y, Z)`` fractions in the order of ``TISSUES``; they sum to ``brain``.
        brain: ``(X, Y, Z)`` bool.
        detail: ``(X, Y, Z)`` within-tissue detail of the template's T1, in standard deviations.
        depth: ``(X, Y, Z)`` mm below the surface.
        mni: ``(3, X, Y, Z)`` the MNI coordinate each voxel came from, in mm.
    """

    tissue: torch.Tensor
    brain: torch.Tensor
    detail: torch.Tensor
    depth: torch.Tensor
    mni: torch.Tensor

    def crop(self, box: tuple[slice, slice, slice]) -> Anatomy:
        """Return a view of the part in ``box``."""
        part = (slice(None), *box)
        return Anatomy(self.tissue[part], self.brain[box], self.detail[box], self.depth[box], self.mni[part])


def draw_warp(random: Randomness) -> torch.Tensor:
    """Draw an individual's map from ``CANVAS`` to MNI mm, ``(3, X, Y, Z)``: head size, pose and local shape."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in CANVAS]
    xyz = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    size = random.normal(1.10, 0.03, 1.0, 1.2)
    scale = np.diag([size * random.normal(1, 0.03, 0.93, 1.07) for _ in range(3)])
    angles = [random.normal(0, 0.06, -0.15, 0.15) for _ in range(3)]
    matrix = torch.as_tensor(_rotation(angles) @ scale, dtype=torch.float32)
    mni = torch.einsum("ij,jxyz->ixyz", matrix, xyz)
    mni += torch.tensor(TEMPLATE_CENTRE_MM)[:, None, None, None]
    mni += smooth_noise(random, CANVAS, 45, 3) * random.uniform(1.5, 4.0)
    mni += smooth_noise(random, CANVAS, 20, 3) * random.uniform(0.8, 2.2)
    mni += smooth_noise(random, CANVAS, 9, 3) * random.uniform(0.3, 1.0)
    return mni


def sample_template(mni: torch.Tensor) -> torch.Tensor:
    """Sample the template's maps ``(6, X, Y, Z)`` at MNI coordinates ``(3, X, Y, Z)`` in mm."""
    template = load_template()
    inverse = torch.as_tensor(np.linalg.inv(template.affine), dtype=torch.float32)
    voxel = torch.einsum("ij,jxyz->xyzi", inverse[:3, :3], mni) + inverse[:3, 3]
    size = torch.tensor(template.maps.shape[1:], dtype=torch.float32)
    grid = (2 * voxel / (size - 1) - 1).flip(-1).unsqueeze(0)
    return F.grid_sample(template.maps[None], grid, align_corners=True, padding_mode="border")[0]


def sample_anatomy(random: Randomness, mni: torch.Tensor) -> Anatomy:
    """Sample the template at ``mni`` and turn the average brain into an individual one: random gyri and atrophy."""
    maps = sample_template(mni)
    tissue, detail, depth = maps[:4].clamp(min=0), maps[4], maps[5]

    # The template averages 152 people, so its cortex is blurred: noise on the log-odds creates random sulci.
    shape = tissue.shape[1:]
    odds = torch.log(tissue + 0.02)
    gyri = smooth_noise(random, shape, random.uniform(4, 7)) + 0.6 * smooth_noise(random, shape, 3)
    folded = random.uniform(0.3, 0.9)
    odds[WM] += 0.5 * folded * gyri[0]
    odds[GM] += 0.35 * folded * smooth_noise(random, shape, 4)[0]
    cortex = torch.exp(-((depth - 6).clamp(min=0) / 12))
    odds[SULCAL] += (random.normal(0.1, 0.6, -1.0, 1.5) - folded * 1.3 * gyri[0]) * cortex
    odds[VENTRICLE] += random.normal(0.2, 0.7, -1.0, 2.0)
    sharpened = torch.softmax(odds * random.uniform(1.6, 2.6), dim=0)

    edge = depth + smooth_noise(random, shape, 25)[0] * random.uniform(0.3, 1.5) + random.normal(0.3, 1.0, -1.5, 2.0)
    brain = edge > 0
    rim = ((1.6 - edge) / 1.6).clamp(0, 1)  # the surface of a skull-stripped brain is fluid and membranes
    sharpened = sharpened * (1 - rim)
    sharpened[SULCAL] += rim
    return Anatomy(sharpened * brain, brain, detail * brain, edge, mni)


def _rotation(angles: list[float]) -> np.ndarray:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx
