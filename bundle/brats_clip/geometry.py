"""Voxel grids: their geometry, comparison of two grids, and transfer of volumes from one grid to another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from nibabel.affines import voxel_sizes

# The tolerance for "the same position": a twentieth of the usual 1 mm voxel, above the rounding error of float32
# headers and inverted transforms. Twice as much would accept a shift by a tenth of a voxel.
TOLERANCE_MM = 0.05


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of voxels.

    Args:
        shape: ``(X, Y, Z)``; further axes are dropped.
        affine: ``(4, 4)``, voxel index (0 is the centre of the first voxel) to RAS mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape[:3]))
        object.__setattr__(self, "affine", np.array(self.affine, np.float64))

    @property
    def valid(self) -> bool:
        """Whether the affine is finite and invertible, and each axis has at least two voxels."""
        affine = self.affine
        regular = affine.shape == (4, 4) and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9
        return bool(regular) and len(self.shape) == 3 and min(self.shape) >= 2

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size, ``(3,)`` mm."""
        return voxel_sizes(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def centre(self) -> np.ndarray:
        """Centre of the volume, ``(4,)``: RAS mm and 1."""
        return self.affine @ [*((np.array(self.shape) - 1) / 2), 1]

    @property
    def sheared(self) -> bool:
        """Whether the axes are not orthogonal, which SimpleITK images cannot express."""
        direction = self.affine[:3, :3] / self.spacing
        return bool(np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3)

    def corners(self) -> np.ndarray:
        """Centres of the eight outermost voxels, ``(4, 8)``: RAS mm and 1."""
        ends = itertools.product(*((0, size - 1) for size in self.shape))
        return self.affine @ np.array([(*corner, 1) for corner in ends], float).T

    def distance_mm(self, other: Grid) -> float:
        """Return the largest distance between corresponding corners in mm; infinite if the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.linalg.norm((self.corners() - other.corners())[:3], axis=0).max())

    def same_as(self, other: Grid) -> bool:
        """Whether both grids have the same shape, and corners within ``TOLERANCE_MM`` of each other."""
        return self.distance_mm(other) <= TOLERANCE_MM

    def overlaps(self, other: Grid, across: np.ndarray | None = None) -> bool:
        """Whether a voxel of one grid lies in the other; ``across`` ``(4, 4)`` maps RAS mm from here to ``other``."""
        there = np.linalg.inv(other.affine) @ (np.eye(4) if across is None else across) @ self.affine
        return _some_inside(self.shape, there, other.shape) or _some_inside(
            other.shape, np.linalg.inv(there), self.shape
        )

    def box(self, low: np.ndarray, high: np.ndarray, spacing: np.ndarray | float) -> Grid:
        """Return a grid along the same axes, from voxel ``low`` to voxel ``high`` (may be fractional), at ``spacing``.

        Args:
            low, high: ``(3,)``, centres of its first and (at least) its last voxel, in voxel coordinates of this grid.
            spacing: voxel size in mm, one for all axes or ``(3,)``.
        """
        step = np.broadcast_to(np.asarray(spacing, float), 3) / self.spacing
        shape = np.ceil((np.asarray(high) - low) / step - 1e-6).astype(int) + 1
        affine = self.affine @ np.diag([*step, 1.0])
        affine[:3, 3] = (self.affine @ [*low, 1])[:3]
        return Grid(tuple(shape), affine)

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{mm:.4g}" for mm in self.spacing)
        first = ", ".join(f"{mm:.4g}" for mm in self.affine[:3, 3])
        axes = "".join(code or "?" for code in nib.aff2axcodes(self.affine))
        return f"{size} voxels of {spacing} mm, first voxel at ({first}) mm RAS, axes {axes}"


class Placement(NamedTuple):
    """Where a source grid lies in a target grid with the same voxels, up to axis order, flips, cropping and padding.

    Attributes:
        axes: the target axis of each source axis.
        flips: whether each source axis runs against its target axis.
        source: the part of the source that lies inside the target.
        target: the same part in the target.
        complete: whether the whole source lies inside the target.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    source: tuple[slice, slice, slice]
    target: tuple[slice, slice, slice]
    complete: bool


def find_placement(source: Grid, target: Grid) -> Placement | None:
    """Find where ``source`` lies in ``target``; None if they do not share their voxels within ``TOLERANCE_MM``."""
    if not (source.valid and target.valid):
        return None
    across = np.linalg.solve(target.affine, source.affine)
    whole = np.rint(across)
    turn = whole[:3, :3]
    if not np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1]) or abs(np.linalg.det(turn)) != 1:
        return None
    if not source.same_as(Grid(source.shape, target.affine @ whole)):
        return None
    axes, flips, inside, place_at, complete = [], [], [], [slice(None)] * 3, True
    for axis in range(3):
        to = int(np.argmax(np.abs(turn[:, axis])))
        start, sign = int(whole[to, 3]), int(turn[to, axis])
        size, limit = source.shape[axis], target.shape[to]
        # Source voxel v lies at target voxel start + sign * v.
        low, high = (-start, limit - start) if sign > 0 else (start - limit + 1, start + 1)
        low, high = min(max(low, 0), size), max(min(high, size), 0)
        high = max(low, high)
        complete = complete and (low, high) == (0, size)
        first, last = start + sign * low, start + sign * (high - 1)
        axes.append(to)
        flips.append(sign < 0)
        inside.append(slice(low, high))
        place_at[to] = slice(min(first, last), max(first, last) + 1) if high > low else slice(0, 0)
    return Placement(tuple(axes), tuple(flips), tuple(inside), tuple(place_at), complete)


def place(
    volume: torch.Tensor | np.ndarray, placement: Placement, shape: tuple[int, int, int]
) -> torch.Tensor | np.ndarray:
    """Copy a volume ``(..., X, Y, Z)`` from the source grid to the target grid of ``shape``; 0 outside the source.

    Values are not changed. A tensor gives a tensor, an array gives an array, with the same dtype.
    """
    part = volume[(Ellipsis, *placement.source)]
    flipped = [axis - 3 for axis in range(3) if placement.flips[axis]]
    leading = part.ndim - 3
    order = (*range(leading), *(leading + placement.axes.index(to) for to in range(3)))
    if isinstance(volume, torch.Tensor):
        part = part.flip(flipped).permute(order)
        out = torch.zeros((*volume.shape[:-3], *shape), dtype=volume.dtype, device=volume.device)
    else:
        part = np.flip(part, flipped).transpose(order)
        out = np.zeros((*volume.shape[:-3], *shape), volume.dtype)
    out[(Ellipsis, *placement.target)] = part
    return out


def bounding_box(mask: np.ndarray | torch.Tensor) -> tuple[slice, slice, slice] | None:
    """Return the bounding box of the nonzero voxels of a volume ``(X, Y, Z)``; None if all are zero."""
    box = []
    for first, second in ((1, 2), (0, 2), (0, 1)):
        planes = np.flatnonzero(torch.as_tensor(mask.any(second).any(first)).cpu())
        if not planes.size:
            return None
        box.append(slice(int(planes[0]), int(planes[-1]) + 1))
    return tuple(box)


def fill_slices(slices: torch.Tensor, thickness: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Interpolate thick slices ``(N, C, d, h, w)`` to ``(N, C, *shape)``.

    A last slice that reaches beyond ``shape`` is cropped: stretching to that size would displace the image.

    Args:
        thickness: slice thickness along each axis, in voxels of the result.
        shape: of the volume from which the slices were averaged.
    """
    whole = F.interpolate(slices, scale_factor=list(thickness), mode="trilinear", align_corners=False)
    return whole[(Ellipsis, *(slice(size) for size in shape))]


def resample(
    array: np.ndarray, source: Grid, target: Grid, across: np.ndarray | None = None, linear: bool = True
) -> np.ndarray:
    """Resample a volume on another grid: any axis order, flips, oblique or sheared axes; 0 outside ``source``.

    Args:
        array: ``(X, Y, Z)`` on ``source``.
        across: ``(4, 4)`` from RAS mm of ``target`` to RAS mm of ``source``, as found by registration; None for the
            identity.
        linear: interpolate linearly; False takes the nearest voxel, for labels.

    Returns:
        ``(X, Y, Z)`` on ``target``: float32 if ``linear``, else the dtype of ``array``.
    """
    import SimpleITK as sitk  # only needed for raw images and for labels on other grids

    # Transform voxel indices, because SimpleITK images cannot have sheared axes.
    between = np.linalg.inv(source.affine) @ (np.eye(4) if across is None else across) @ target.affine
    transform = sitk.AffineTransform(between[:3, :3].ravel().tolist(), between[:3, 3].tolist())
    kind = np.float32 if linear else array.dtype
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T.astype(kind, copy=False)))
    how = sitk.ResampleImageFilter()
    how.SetReferenceImage(sitk.Image([2, 2, 2], sitk.sitkUInt8))
    how.SetSize(target.shape)
    how.SetTransform(transform)
    how.SetInterpolator(sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
    how.SetOutputPixelType(image.GetPixelID())
    return np.ascontiguousarray(sitk.GetArrayFromImage(how.Execute(image)).T)


def _some_inside(shape: tuple[int, ...], there: np.ndarray, other: tuple[int, ...]) -> bool:
    axes = [np.unique(np.linspace(0, n - 1, 24).round()) for n in shape]
    points = np.array(np.meshgrid(*axes)).reshape(3, -1)
    index = there[:3, :3] @ points + there[:3, 3:]
    inside = (index >= -0.5) & (index <= np.array(other)[:, None] - 0.5)
    return bool(inside.all(axis=0).any())
