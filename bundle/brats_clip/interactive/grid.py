"""From the working grid to the grid of the case."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

_TOLERANCE = 1e-3


class Placement(NamedTuple):
    """Where a working grid lies in a native one that has the same voxels, turned and cropped.

    Attributes:
        axes: the native axis of each working axis.
        flips: whether a working axis runs against it.
        working: the part of the working grid inside the native one.
        native: where that part goes.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    working: tuple[slice, slice, slice]
    native: tuple[slice, slice, slice]


def find_placement(
    working_affine: np.ndarray, working_shape: tuple, native_affine: np.ndarray, native_shape: tuple
) -> Placement | None:
    """Find how two grids that share their voxels lie to each other; None if they do not share them."""
    across = np.linalg.solve(native_affine, working_affine)
    turn, offset = across[:3, :3], across[:3, 3]
    whole = np.rint(turn)
    same = np.abs(turn - whole).max() < _TOLERANCE and np.abs(offset - np.rint(offset)).max() < 10 * _TOLERANCE
    if not same or not np.array_equal(np.abs(whole).sum(axis=0), [1, 1, 1]) or abs(np.linalg.det(whole)) != 1:
        return None
    axes, flips, working, native = [], [], [], [slice(None)] * 3
    for axis in range(3):
        target = int(np.argmax(np.abs(whole[:, axis])))
        start, sign = int(np.rint(offset[target])), int(whole[target, axis])
        size, limit = working_shape[axis], native_shape[target]
        # Native position of working voxel w is start + sign * w.
        low, high = (-start, limit - start) if sign > 0 else (start - limit + 1, start + 1)
        low, high = max(low, 0), min(high, size)
        first, last = start + sign * low, start + sign * (high - 1)
        axes.append(target)
        flips.append(sign < 0)
        working.append(slice(low, high))
        native[target] = slice(min(first, last), max(first, last) + 1)
    return Placement(tuple(axes), tuple(flips), tuple(working), tuple(native))


def place(volume: torch.Tensor, placement: Placement, native_shape: tuple) -> torch.Tensor:
    """Copy ``volume`` ``(C, D, H, W)`` to the native grid ``(C, X, Y, Z)``, zero around it."""
    part = volume[(slice(None), *placement.working)]
    part = part.flip([axis + 1 for axis in range(3) if placement.flips[axis]])
    part = part.permute(0, *(placement.axes.index(target) + 1 for target in range(3)))
    out = torch.zeros((volume.shape[0], *native_shape), dtype=volume.dtype, device=volume.device)
    out[(slice(None), *placement.native)] = part
    return out
