"""Find the few places in a segmentation where a correction is likely worth most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..labels import ED, ET, NCR, REGIONS
from ..reports.findings import LOBES
from ..reports.lobes import BrainFrame, lobe_of
from .voxels import BLOCK, LIKELY, Coarse, mean_of_cube

FALSE, MISSED, CORE = "false piece", "missed piece", "core against oedema"
MOST = 3
# Side of the cube whose errors one click is expected to correct, in an odd number of blocks, and the distance between
# places. Chosen on shifted phantoms: clicks at places of 10 mm gained 60 % of what clicks at the true errors gain, and
# of 26 mm 84 %.
REACH_MM = 26.0
_APART_MM = 20.0
# Places where a correction would gain less Dice than this are left out.
_LEAST_DICE = 0.002
_MIDLINE_MM = 5.0
_NAMES = {0: "background", ED: "oedema", NCR: "non-enhancing core", ET: "enhancing tumour"}
_CLICKS = {0: "background", ED: "ED", NCR: "NCR", ET: "ET"}
_ADJECTIVES = {"insular": "insular", "deep": "deep brain", "cerebellum": "cerebellar", "brainstem": "brainstem"}


@dataclass(frozen=True)
class Geometry:
    """The working grid of a case, and its native grid, on which positions are given.

    Attributes:
        affine: ``(4, 4)`` of the working grid, RAS.
        native_affine, native_shape: of the native grid.
    """

    affine: np.ndarray
    native_affine: np.ndarray
    native_shape: tuple[int, int, int]

    def native_voxel(self, voxel: Sequence[float]) -> tuple[int, int, int]:
        """Convert a voxel of the working grid to the nearest voxel of the native grid."""
        mm = self.affine @ [*voxel, 1.0]
        found = np.rint(np.linalg.solve(self.native_affine, mm)[:3]).astype(int)
        return tuple(int(v) for v in np.clip(found, 0, np.array(self.native_shape) - 1))


def find_places(
    probabilities: Tensor,
    label: Tensor,
    coarse: Coarse,
    corner: Sequence[int],
    total_ml: Sequence[float],
    geometry: Geometry,
    brain: Tensor,
    clicks: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return up to ``MOST`` places with the largest expected loss of Dice, worst first.

    Args:
        probabilities: calibrated, nested, of WT, TC and ET in a box, ``(3, D, H, W)``.
        label: the segmentation in the box, ``(D, H, W)`` with 0, 1, 2, 4.
        coarse: block means of both.
        corner: first voxel of the box in the working grid.
        total_ml: sum of segmented and expected volume per region.
        geometry: of the grids.
        brain: brain mask, bool, at every second voxel of the whole working grid.
        clicks: voxels of the working grid that are clicked already, ``(K, 3)``: no place is returned near them.
    """
    spacing = np.linalg.norm(geometry.affine[:3, :3], axis=0)
    voxel_ml = float(np.prod(spacing)) / 1000
    step = spacing * BLOCK
    side = 2 * int(REACH_MM / 2 / step.max()) + 1
    wrong = coarse.wrong
    blocked = np.zeros(wrong.shape[2:], bool)
    if clicks is not None:
        for click in clicks:
            _block(blocked, (np.asarray(click) - corner) / BLOCK, REACH_MM / 2 / step)
    frame = BrainFrame(tuple(brain.shape), 2 * spacing, brain.cpu().numpy())
    per_block = side**3 * BLOCK**3 * voxel_ml / torch.tensor(total_ml).clamp(min=0.05).view(3, 1, 1, 1, 1)
    found: list[dict[str, Any]] = []
    while len(found) < MOST:
        wrong = torch.where(torch.from_numpy(blocked), 0, wrong)  # errors at an earlier place count only there
        likely = torch.where(wrong >= LIKELY, wrong, 0)
        gain = mean_of_cube(likely.flatten(0, 1), side).view_as(likely) * per_block
        open_gain = torch.where(torch.from_numpy(blocked), 0, gain)
        best = np.unravel_index(int(open_gain.argmax()), gain.shape)
        if open_gain[best] < _LEAST_DICE:
            break
        region, missed, centre = best[0], best[1] == 0, best[2:]
        errors = wrong[region, best[1]].numpy()
        piece = _piece(errors, centre, side)
        _block(blocked, np.array(centre, float), _APART_MM / step)
        if not len(piece):
            continue
        chance = errors[tuple(piece.T)]
        # The centre of the component, weighted by the probability of error.
        middle = (piece * chance[:, None]).sum(axis=0) / chance.sum()
        block = piece[(((piece - middle) * step) ** 2).sum(axis=1).argmin()]
        voxel = _voxel(probabilities[region], label, region, missed, block)
        ml = round(float(chance.sum()) * BLOCK**3 * voxel_ml, 2)
        radius = float(np.sqrt((((piece - block) * step) ** 2).sum(axis=1)).max() + step.max() / 2)
        at = tuple(int(v + c) for v, c in zip(voxel, corner, strict=True))
        facts = _facts(probabilities[(slice(None), *voxel)].numpy(), int(label[voxel]), int(region), missed)
        place = _describe(at, geometry, frame)
        text = _sentence(place, facts, ml)
        numbers = {"ml": ml, "radius_mm": round(radius, 1), "dice_at_stake": round(float(gain[best]), 3)}
        numbers["probability"] = round(float(chance.mean()), 2)
        found.append({**facts, **place, **numbers, "text": text})
    return found


def _block(blocked: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> None:
    """Set an ellipsoid of ``blocked`` to True, in place."""
    grid = np.ogrid[tuple(slice(0, n) for n in blocked.shape)]
    parts = zip(grid, centre, radii, strict=True)
    blocked |= sum(((g - c) / max(r, 0.5)) ** 2 for g, c, r in parts) <= 1


def _piece(wrong: np.ndarray, centre: tuple[int, ...], side: int) -> np.ndarray:
    """Return the blocks ``(N, 3)`` of the likely wrong component with the largest expected error near ``centre``."""
    low = [max(0, c - side // 2) for c in centre]
    cube = wrong[tuple(slice(a, c + side // 2 + 1) for a, c in zip(low, centre, strict=True))]
    pieces, number = ndimage.label(cube >= LIKELY, np.ones((3, 3, 3)))
    if not number:
        return np.zeros((0, 3), int)
    mass = np.bincount(pieces.ravel(), cube.ravel())
    mass[0] = 0
    return np.argwhere(pieces == mass.argmax()) + low


def _voxel(chance: Tensor, label: Tensor, region: int, missed: bool, block: np.ndarray) -> tuple[int, int, int]:
    """Return the voxel of a block that is most likely missed, or false; ``chance`` is the region's probability."""
    start = block * BLOCK
    part = tuple(slice(int(a), int(a) + BLOCK) for a in start)
    inside = sum((label[part] == value) for value in [*REGIONS.values()][region]).bool()
    error = torch.where(inside, -1, chance[part]) if missed else torch.where(inside, 1 - chance[part], -1)
    offset = np.unravel_index(int(error.argmax()), error.shape)
    return tuple(int(a + o) for a, o in zip(start, offset, strict=True))


def _facts(at: np.ndarray, value: int, region: int, missed: bool) -> dict[str, Any]:
    """Describe the likely error at a voxel with the region probabilities ``at`` and the label ``value``."""
    whole, core, enhancing = (float(p) for p in at)
    chances = {0: 1 - whole, ED: whole - core, NCR: core - enhancing, ET: enhancing}
    name, values = [*REGIONS.items()][region]
    fitting = {v: p for v, p in chances.items() if (v in values) == missed and v != value}
    instead = max(fitting, key=fitting.get)
    kind = MISSED if missed else FALSE
    if region == 1 and {value, instead} <= {ED, NCR, ET}:
        kind = CORE
    return {"region": name, "kind": kind, "answered": _CLICKS[value], "perhaps": _CLICKS[instead]}


def _describe(voxel: tuple[int, int, int], geometry: Geometry, frame: BrainFrame) -> dict[str, Any]:
    native = geometry.native_voxel(voxel)
    axes = nib.orientations.io_orientation(geometry.native_affine)[:, 0]
    planes = ("sagittal", "coronal", "axial")
    slices = {plane: native[int(np.flatnonzero(axes == i)[0])] + 1 for i, plane in enumerate(planes)}
    mm = geometry.native_affine @ [*native, 1.0]
    mni = frame.to_mni(np.array([voxel], float) / 2)
    lobe = LOBES[int(lobe_of(mni)[0])]
    side = "" if abs(mni[0, 0]) < _MIDLINE_MM else "right " if mni[0, 0] > 0 else "left "
    where = f"{side}{_ADJECTIVES.get(lobe, lobe)}"
    return {"voxel": list(native), "ras_mm": [round(float(x), 1) for x in mm[:3]], "slices": slices, "where": where}


def _sentence(place: dict, facts: dict, ml: float) -> str:
    answered, perhaps = (_NAMES[v] for key in ("answered", "perhaps") for v in _CLICKS if _CLICKS[v] == facts[key])
    start = f"{place['where']}, slice {place['slices']['axial']}: about {ml:.1f} ml "
    if facts["answered"] == "background":
        return f"{start}of {perhaps} may be missed"
    if facts["perhaps"] == "background":
        return f"{start}of {answered} may be no tumour"
    return f"{start}of {answered} may be {perhaps}"
