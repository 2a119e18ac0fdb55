"""How a working grid lies in that of the case, for every way an image can be turned."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from brats_clip.interactive.grid import find_placement, place

NATIVE_SHAPE = (7, 9, 11)
NATIVE = np.array([[-0.9, 0.1, 0, 30], [0.1, -0.9, 0.2, 41], [0, 0.2, 1.3, -5], [0, 0, 0, 1]])
ORIENTATIONS = [
    (axes, flips) for axes in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)
]


def working_grid(axes, flips, start) -> np.ndarray:
    """The affine of a grid whose axis ``i`` runs along native axis ``axes[i]`` from voxel ``start`` on."""
    across = np.zeros((4, 4))
    for axis, (target, flip) in enumerate(zip(axes, flips, strict=True)):
        across[target, axis] = flip
    across[:3, 3], across[3, 3] = start, 1
    return NATIVE @ across


def by_hand(volume: torch.Tensor, working: np.ndarray) -> torch.Tensor:
    """Voxel after voxel, through the world."""
    out = torch.zeros((volume.shape[0], *NATIVE_SHAPE), dtype=volume.dtype)
    for voxel in itertools.product(*map(range, volume.shape[1:])):
        there = np.rint((np.linalg.inv(NATIVE) @ working @ [*voxel, 1])[:3]).astype(int)
        if (there >= 0).all() and (there < NATIVE_SHAPE).all():
            out[(slice(None), *there)] = volume[(slice(None), *voxel)]
    return out


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS, ids=str)
def test_every_orientation_is_found_and_every_voxel_goes_where_it_lies(axes, flips):
    # A crop on one side, padding beyond the native volume on the other.
    shape = tuple(NATIVE_SHAPE[axis] + 1 for axis in axes)
    start = [1 if flips[axes.index(target)] > 0 else NATIVE_SHAPE[target] - 3 for target in range(3)]
    working = working_grid(axes, flips, start)
    placement = find_placement(working, shape, NATIVE, NATIVE_SHAPE)
    assert placement is not None
    assert placement.axes == axes and placement.flips == tuple(flip < 0 for flip in flips)
    volume = 1 + torch.arange(2 * np.prod(shape)).reshape(2, *shape)
    placed = place(volume, placement, NATIVE_SHAPE)
    assert placed.dtype == volume.dtype and torch.equal(placed, by_hand(volume, working))


@pytest.mark.parametrize(
    ("shape", "start"),
    [
        ((2, 2, 2), (0, 0, 0)),
        ((2, 3, 4), (5, 6, 7)),
        ((7, 9, 11), (3, 2, 1)),
        ((9, 9, 9), (-4, -6, -8)),
        ((7, 9, 11), (0, 0, 0)),
        ((14, 15, 16), (-4, 2, -3)),
        ((5, 4, 3), (-1, 7, -1)),
    ],
)
def test_crops_and_padding_on_any_side(shape, start):
    working = working_grid((0, 1, 2), (1, 1, 1), start)
    placement = find_placement(working, shape, NATIVE, NATIVE_SHAPE)
    volume = torch.rand(1, *shape) + 1
    assert torch.equal(place(volume, placement, NATIVE_SHAPE), by_hand(volume, working))


def test_rounding_errors_of_a_header_do_not_hide_that_voxels_are_shared():
    working = working_grid((2, 0, 1), (1, -1, 1), (1, 2, 3)).astype(np.float32) + 1e-6
    assert find_placement(working, (4, 4, 4), NATIVE, NATIVE_SHAPE) is not None


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "across",
    [
        np.diag([2.0, 1, 1, 1]),
        np.diag([1, 1, 0.5, 1]),
        np.diag([1.01, 1.01, 1.01, 1]),
        np.array([[1.0, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        np.array([[1.0, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        np.array([[1.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        turned(45),
        turned(1),
    ],
    ids=["twice", "half", "a percent", "half a voxel off", "a tenth off", "sheared", "45 degrees", "a degree"],
)
def test_grids_that_share_no_voxels_have_no_placement(across):
    assert find_placement(NATIVE @ across, (4, 4, 4), NATIVE, NATIVE_SHAPE) is None
