"""Derive findings from a label map: where the tumour lies, how large its parts are, and how it enhances."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

from ..errors import LabelError
from ..geometry import bounding_box
from ..labels import ED, ET, NCR, few
from .findings import Findings
from .lobes import BrainFrame, lobe_shares

# A smaller enhancing volume is annotation noise, not a finding.
MIN_ET_ML = 0.03
# Smallest connected component that counts as a separate lesion.
MIN_FOCUS_ML = 0.5
# Smallest share of the lesion for which a lobe is named.
MIN_LOBE_SHARE = 0.1
# Largest share across the midline of a one-sided lesion: a shifted or imprecise midline cuts off that much.
MAX_CROSSING = 0.2
# Tissue this close to the midline is ignored for the side, so that small errors of the midline do not change it.
MIDLINE_MM = 5.0
# VASARI calls a margin thin below 3 mm.
THICK_RIM_MM = 3.0
_ANY_NEIGHBOUR = np.ones((3, 3, 3), bool)


def describe_mask(
    label: np.ndarray,
    affine: np.ndarray,
    mass_effect: str | None = None,
    brain: np.ndarray | None = None,
    cyst: bool | None = None,
) -> Findings:
    """Derive the findings of a report from a label map.

    The map is oriented by its affine, so any storage order works (BraTS is LPS). The affine's origin is ignored, since
    that of BraTS files is arbitrary. Lobes come from a rough lookup (see ``lobes.lobe_of``) in the bounding box of the
    brain, and sides from its midline: pass ``brain`` if there is an image. Enhancement patterns come from morphology:
    a rim is ET that covers at least half of the surface of NCR; NCR that ET does not enclose counts as non-enhancing
    tumour, not as necrosis. Oedema is graded by volume (mild under 20 ml, moderate under 60 ml).

    Args:
        label: ``(X, Y, Z)`` with values 0, 1 (NCR), 2 (ED), 4 (ET).
        affine: ``(4, 4)``, voxel to RAS world, mm.
        mass_effect: the mass effect ("none", "mild", "marked") if known; a label map does not show it.
        brain: boolean ``(X, Y, Z)``, True inside the brain, for example where any sequence is not 0.
        cyst: whether there is a cyst, if known; a label map does not show it.

    Returns:
        Findings; ``side`` is ``None`` if there is no lesion.

    Raises:
        LabelError: if the map is not 3D, holds other values, or ``brain`` has another shape.
        InputError: if ``mass_effect`` is not one of these words.
    """
    label = np.asarray(label)
    if label.ndim != 3:
        raise LabelError("label", f"shape {label.shape}", "(X, Y, Z)")
    if brain is not None and np.shape(brain) != label.shape:
        raise LabelError("brain", f"shape {np.shape(brain)}", f"the label's shape {label.shape}")
    orientation = nib.orientations.io_orientation(affine)
    spacing = nib.affines.voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    label = nib.orientations.apply_orientation(label, orientation)
    if brain is not None:
        brain = nib.orientations.apply_orientation(np.asarray(brain, bool), orientation)

    box = bounding_box(label)
    if box is None:
        return Findings(mass_effect=mass_effect, cyst=cyst)
    crop = label[box]
    values = {float(value) for value in np.unique(crop)}
    if not values <= {0, NCR, ED, ET}:
        raise LabelError("label", f"values {few(sorted(values))}", f"0, {NCR}, {ED} and {ET} (see labels.to_internal)")

    voxel_ml = float(np.prod(spacing)) / 1000
    whole, core, et, ncr = crop > 0, (crop == NCR) | (crop == ET), crop == ET, crop == NCR
    wt_ml, tc_ml, et_ml, ncr_ml = (int(np.count_nonzero(part)) * voxel_ml for part in (whole, core, et, ncr))
    ed_ml = wt_ml - tc_ml
    enhancement, necrosis = enhancement_and_necrosis(crop, spacing, voxel_ml)

    frame = BrainFrame(label.shape, spacing, brain)
    corner = np.array([part.start for part in box])
    mni = frame.to_mni(np.argwhere(whole) + corner)
    lobes = _named_lobes(mni)
    right = float(np.mean(mni[:, 0] > 0))
    largest, foci = _largest(whole, voxel_ml)
    largest_core = _largest(core, voxel_ml)[0]
    return Findings(
        side=_side(mni[:, 0]),
        right_fraction=round(right, 3),
        lobes=lobes,
        core_lobes=_named_lobes(frame.to_mni(np.argwhere(core) + corner)) if tc_ml else lobes,
        wt_ml=round(wt_ml, 3),
        tc_ml=round(tc_ml, 3),
        et_ml=round(et_ml, 3),
        ncr_ml=round(ncr_ml, 3),
        ed_ml=round(ed_ml, 3),
        enhancement=enhancement,
        necrosis=necrosis,
        necrosis_fraction=round(ncr_ml / tc_ml, 3) if necrosis else 0.0,
        oedema="none" if ed_ml < 0.5 else "mild" if ed_ml < 20 else "moderate" if ed_ml < 60 else "marked",
        oedema_ratio=round(ed_ml / tc_ml, 3) if tc_ml else None,
        mass_effect=mass_effect,
        foci=foci,
        diameter_mm=round(_diameter(largest, spacing), 1),
        core_diameter_mm=round(_diameter(largest_core, spacing), 1),
        core_axes_mm=axes_mm(largest_core, spacing),
        # ET may consist of separate strands and specks: all of those in the largest core count.
        enhancement_axes_mm=axes_mm(et & largest_core, spacing) if et_ml >= MIN_ET_ML else (),
        whole_axes_mm=axes_mm(largest, spacing),
        cyst=cyst,
    )


def _named_lobes(mni: np.ndarray) -> tuple[str, ...]:
    shares = lobe_shares(mni)
    return tuple(name for name, share in shares.items() if share >= MIN_LOBE_SHARE) or tuple(shares)[:1]


def _side(x_mm: np.ndarray) -> str:
    off = x_mm[np.abs(x_mm) > MIDLINE_MM]
    if not off.size:
        return "midline"
    right = np.mean(off > 0)
    if right >= 1 - MAX_CROSSING:
        return "right"
    if right <= MAX_CROSSING:
        return "left"
    return "midline" if np.percentile(np.abs(x_mm), 95) < 25 else "bilateral"


def _largest(mask: np.ndarray, voxel_ml: float) -> tuple[np.ndarray, int]:
    """Return the largest component, and how many components count as lesions (at least one, if there is any)."""
    if not mask.any():
        return mask, 0
    components, _ = ndimage.label(mask, _ANY_NEIGHBOUR)
    sizes = np.bincount(components.ravel())[1:]
    return components == sizes.argmax() + 1, max(1, int(np.count_nonzero(sizes * voxel_ml >= MIN_FOCUS_ML)))


def _diameter(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Return the largest diameter in mm, between the outer faces of the end voxels; 0 for an empty mask."""
    if not mask.any():
        return 0.0
    points = _surface(mask) * spacing
    return float(pdist(_extreme(points)).max(initial=0) + spacing.mean())


def _surface(mask: np.ndarray) -> np.ndarray:
    """Return the indices ``(N, D)`` of the first and the last voxel of every line along the last axis."""
    columns = np.argwhere(mask.any(axis=-1))
    lines = mask[tuple(columns.T)]
    ends = lines.argmax(axis=1), mask.shape[-1] - 1 - lines[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([columns, end]) for end in ends])


def _extreme(points: np.ndarray) -> np.ndarray:
    """Return the points that may be ends of a diameter: the vertices of the convex hull."""
    if len(points) <= 500:
        return points
    try:
        return points[ConvexHull(points).vertices]
    except QhullError:  # a flat lesion has no 3D hull: use its extremes along many directions
        angles = np.linspace(0, np.pi, 64, endpoint=False)
        directions = [f(angles) for f in (np.cos, np.sin)]
        flat = points @ np.linalg.svd(points - points.mean(0), full_matrices=False)[2][:2].T
        along = flat @ np.array(directions)
        return points[np.unique([along.argmin(axis=0), along.argmax(axis=0)])]


def axes_mm(mask: np.ndarray, spacing: np.ndarray) -> tuple[float, ...]:
    """Measure three diameters in mm, as a radiologist does; empty for an empty mask.

    Args:
        mask: boolean ``(X, Y, Z)``, RAS-oriented.
        spacing: voxel size in mm, ``(3,)``.

    Returns:
        The largest diameter in an axial plane, the largest one perpendicular to it in the same plane, and the
        craniocaudal extent.
    """
    planes = np.flatnonzero(mask.any(axis=(0, 1)))
    if not planes.size:
        return ()
    pixel, best = spacing[:2], (0.0, 0.0)
    for z in planes:
        plane = _surface(mask[:, :, z])
        # The diagonal of a plane's bounding box is an upper bound of its diameter: most planes can be skipped.
        if np.linalg.norm((plane.max(axis=0) - plane.min(axis=0)) * pixel) <= best[0]:
            continue
        points = plane * pixel
        pairs = pdist(points)
        longest = float(pairs.max(initial=0))
        if longest > best[0] or best[1] == 0:
            a, b = np.unravel_index(np.argmax(squareform(pairs)), (len(points), len(points)))
            across = (
                points @ (np.array([[0, -1], [1, 0]]) @ (points[b] - points[a])) / longest if longest else np.zeros(1)
            )
            best = longest, float(np.ptp(across))
    height = (planes[-1] - planes[0] + 1) * spacing[2]
    return tuple(round(float(length), 1) for length in (best[0] + pixel.mean(), best[1] + pixel.mean(), height))


def enhancement_and_necrosis(crop: np.ndarray, spacing: np.ndarray, voxel_ml: float) -> tuple[str, bool]:
    """Return the pattern of enhancement, one of ``findings.ENHANCEMENTS``, and whether NCR is necrosis."""
    box = bounding_box((crop == NCR) | (crop == ET))
    if box is None:
        return "none", False
    core = np.pad(crop[box], 1)
    et, ncr = core == ET, core == NCR
    et_ml, ncr_ml = np.count_nonzero(et) * voxel_ml, np.count_nonzero(ncr) * voxel_ml
    if et_ml < MIN_ET_ML:
        return "none", False
    ncr_share = ncr_ml / (ncr_ml + et_ml)
    shell = ndimage.binary_dilation(ncr) & ~ncr
    covered = np.count_nonzero(shell & et) / max(np.count_nonzero(shell), 1)
    necrosis = bool(ncr_share >= 0.05 and covered >= 0.35)
    if ncr_share >= 0.1 and covered >= 0.5:
        return ("thick rim" if _thickness(et, spacing) >= THICK_RIM_MM else "thin rim"), necrosis
    components, _ = ndimage.label(et, _ANY_NEIGHBOUR)
    sizes = np.bincount(components.ravel())[1:]
    if sizes.max() / sizes.sum() < 0.7:
        return "patchy", necrosis
    largest = components == sizes.argmax() + 1
    radius = (3 * sizes.max() * voxel_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    inscribed = ndimage.distance_transform_edt(np.pad(largest[bounding_box(largest)], 1), spacing).max()
    if inscribed < 0.45 * radius:  # too thin for a nodule
        return "patchy", necrosis
    return ("solid" if ncr_share < 0.3 and 2 * radius >= 15 else "nodular"), necrosis


def _thickness(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Return the thickness in mm of a sheet-like mask: the mean depth of its voxels is a quarter of the thickness."""
    depth = ndimage.distance_transform_edt(mask, spacing)[mask].mean()
    return float(max(4 * depth - 2 * spacing.mean(), spacing.mean()))
