"""A raw exam of a synthetic head: each sequence has its own grid and a rigid motion relative to T1ce."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from brats_clip.geometry import Grid, resample
from brats_clip.images import Volume

SHAPE = (80, 96, 76)  # voxels of 2.5 mm
AFFINE = np.array([[-2.5, 0, 0, 100], [0, -2.5, 0, 120], [0, 0, 2.5, -80], [0, 0, 0, 1.0]])
CONTRAST = {"t1": (0.5, 0.9, 0.2), "t1ce": (0.55, 0.9, 0.25), "t2": (0.7, 0.4, 1.0), "flair": (0.6, 0.5, 0.1)}


def ellipsoid(*radii_mm: float) -> np.ndarray:
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 2.5 for n in SHAPE), indexing="ij")
    return sum((axis / radius) ** 2 for axis, radius in zip(axes, radii_mm, strict=True)) < 1


BRAIN, HEAD = ellipsoid(66, 80, 62), ellipsoid(80, 94, 78)
SKULL = ellipsoid(73, 87, 69) & ~BRAIN
FOLDS = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=SHAPE), 2.2)
FOLDS = (FOLDS - FOLDS.mean()) / FOLDS.std()


def head(sequence: str, stripped: bool = False) -> np.ndarray:
    grey, white, fluid = CONTRAST[sequence]
    tissue = np.where(FOLDS > 0.4, white, np.where(FOLDS < -0.9, fluid, grey))
    image = np.where(HEAD, 1.0, 0.0) * (not stripped)
    image = np.where(SKULL, 0.05, image) if not stripped else image
    image = np.where(BRAIN, tissue, image)
    noise = 0 if stripped else np.abs(np.random.default_rng(len(sequence)).normal(0, 0.01, SHAPE))
    return (1000 * (image + noise)).astype(np.float32)


def rigid(degrees: float, axis: int, shift: tuple[float, float, float]) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.roll(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), (axis, axis), (0, 1))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, shift
    return matrix


GRID = Grid(SHAPE, AFFINE)
# MOTIONS maps RAS mm of T1ce to RAS mm of the sequence; GRIDS holds the voxel sizes in mm.
MOTIONS = {
    "t1": rigid(4, 0, (3, -2, 4)),
    "t1ce": np.eye(4),
    "t2": rigid(-5, 2, (-4, 6, 2)),
    "flair": rigid(10, 0, (2, 5, -45)),
}
GRIDS = {"t1": (1.8, 1.8, 4.0), "t1ce": (1.8, 1.8, 3.0), "t2": (2.0, 2.0, 4.0), "flair": (2.2, 2.2, 4.0)}


def series(sequence: str) -> Volume:
    """Return a raw series on its own grid, with the motion of its sequence applied."""
    moved = MOTIONS[sequence] @ GRID.affine
    spacing = np.array(GRIDS[sequence])
    # The field of view is aligned with the scanner's axes and centred on the moved head.
    low, high = (GRID.corners()[:3].min(axis=1), GRID.corners()[:3].max(axis=1))
    shift = (MOTIONS[sequence] @ GRID.centre)[:3] - GRID.centre[:3]
    affine = np.diag([-1, -1, 1, 1]) @ np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array([high[0], high[1], low[2]]) + shift
    grid = Grid(np.ceil((high - low) / spacing).astype(int) + 1, affine)
    return Volume(resample(head(sequence), Grid(SHAPE, moved), grid), grid.affine, f"{sequence}.nii.gz")


def brain_of(sequence: str, grid: Grid) -> np.ndarray:
    """Return the boolean brain mask of a series, resampled to ``grid``."""
    return resample(BRAIN.astype(np.uint8), Grid(SHAPE, MOTIONS[sequence] @ AFFINE), grid, linear=False) > 0
