"""Images of one patient on one coarse grid, to compare what they show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK

GRID_MM = 2.0


def on_small_grid(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Read 3D NIfTI files onto the first one's field of view, at about 2 mm.

    Args:
        files: by any name.
    """
    grid, volumes = None, {}
    for name, path in files.items():
        image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
        steps = [max(1, round(GRID_MM / spacing)) for spacing in image.GetSpacing()]
        small = SimpleITK.BinShrink(image, [min(s, n) for s, n in zip(steps, image.GetSize(), strict=True)])
        if grid is None:
            grid = _isotropic(small)
        volumes[name] = SimpleITK.GetArrayFromImage(SimpleITK.Resample(small, grid))
    return volumes


def _isotropic(image: SimpleITK.Image) -> SimpleITK.Image:
    """An empty image of the same extent with voxels of about 2 mm, and no finer than they are where they are coarse."""
    spacing = np.asarray(image.GetSpacing())
    wanted = np.full(3, max(GRID_MM, float(spacing.min())))
    size = np.maximum(1, np.rint(np.asarray(image.GetSize()) * spacing / wanted)).astype(int)
    grid = SimpleITK.Image(size.tolist(), SimpleITK.sitkFloat32)
    grid.SetSpacing(wanted.tolist())
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    return grid
