"""Grids: equality, placement of one grid in another for every orientation, and resampling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from brats_clip.geometry import TOLERANCE_MM, Grid, find_placement, place, resample

NATIVE_SHAPE = (7, 9, 11)
NATIVE = np.array([[-0.9, 0.1, 0, 30], [0.1, -0.9, 0.2, 41], [0, 0.2, 1.3, -5], [0, 0, 0, 1]])
ORIENTATIONS = [
    (axes, flips) for axes in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)
]


def working_grid(axes, flips, start) -> np.ndarray:
    """Return the affine of a grid whose axis ``i`` runs along native axis ``axes[i]``, starting at voxel ``start``."""
    across = np.zeros((4, 4))
    for axis, (target, flip) in enumerate(zip(axes, flips, strict=True)):
        across[target, axis] = flip
    across[:3, 3], across[3, 3] = start, 1
    return NATIVE @ across


def by_hand(volume: torch.Tensor, working: np.ndarray) -> torch.Tensor:
    """Place a volume voxel by voxel, through world coordinates."""
    out = torch.zeros((volume.shape[0], *NATIVE_SHAPE), dtype=volume.dtype)
    for voxel in itertools.product(*map(range, volume.shape[1:])):
        there = np.rint((np.linalg.inv(NATIVE) @ working @ [*voxel, 1])[:3]).astype(int)
        if (there >= 0).all() and (there < NATIVE_SHAPE).all():
            out[(slice(None), *there)] = volume[(slice(None), *voxel)]
    return out


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS, ids=str)
def test_every_orientation_is_found_and_every_voxel_is_placed(axes, flips):
    # A crop on one side, padding beyond the native volume on the other.
    shape = tuple(NATIVE_SHAPE[axis] + 1 for axis in axes)
    start = [1 if flips[axes.index(target)] > 0 else NATIVE_SHAPE[target] - 3 for target in range(3)]
    working = working_grid(axes, flips, start)
    placement = find_placement(Grid(shape, working), Grid(NATIVE_SHAPE, NATIVE))
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
def test_placement_handles_crops_and_padding_on_any_side(shape, start):
    working = working_grid((0, 1, 2), (1, 1, 1), start)
    placement = find_placement(Grid(shape, working), Grid(NATIVE_SHAPE, NATIVE))
    volume = torch.rand(1, *shape) + 1
    assert torch.equal(place(volume, placement, NATIVE_SHAPE), by_hand(volume, working))


def test_placement_tolerates_rounding_errors_of_the_header():
    working = working_grid((2, 0, 1), (1, -1, 1), (1, 2, 3)).astype(np.float32) + 1e-6
    assert find_placement(Grid((4, 4, 4), working), Grid(NATIVE_SHAPE, NATIVE)) is not None


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
def test_grids_without_shared_voxels_have_no_placement(across):
    assert find_placement(Grid((4, 4, 4), NATIVE @ across), Grid(NATIVE_SHAPE, NATIVE)) is None


def test_same_as_and_find_placement_use_one_tolerance():
    grid = Grid(NATIVE_SHAPE, NATIVE)
    for shift, same in ((0.9 * TOLERANCE_MM, True), (1.1 * TOLERANCE_MM, False)):
        moved = NATIVE.copy()
        moved[2, 3] += shift
        other = Grid(NATIVE_SHAPE, moved)
        assert grid.same_as(other) is same and (find_placement(other, grid) is not None) is same
    assert not grid.same_as(Grid((7, 9, 12), NATIVE))


def test_placement_is_complete_only_inside_the_target_grid():
    grid = Grid(NATIVE_SHAPE, NATIVE)
    inside = Grid((2, 3, 4), working_grid((2, 0, 1), (1, -1, 1), (4, 2, 3)))
    beyond = Grid((9, 9, 9), working_grid((0, 1, 2), (1, 1, 1), (-4, -6, -8)))
    assert find_placement(inside, grid).complete and not find_placement(beyond, grid).complete


def test_place_accepts_arrays_and_any_leading_axes():
    working = working_grid((2, 0, 1), (1, -1, 1), (1, 3, 2))
    placement = find_placement(Grid((4, 3, 5), working), Grid(NATIVE_SHAPE, NATIVE))
    volume = 1 + torch.arange(60, dtype=torch.int16).reshape(4, 3, 5)
    expected = by_hand(volume[None], working)[0].numpy()
    placed = place(volume.numpy(), placement, NATIVE_SHAPE)
    assert placed.dtype == np.int16 and np.array_equal(placed, expected)
    assert np.array_equal(place(volume[None, None].numpy(), placement, NATIVE_SHAPE)[0, 0], expected)


@pytest.mark.parametrize("linear", [True, False])
def test_resampling_onto_permuted_axes_preserves_values(linear):
    working = working_grid((2, 0, 1), (1, -1, 1), (1, 3, 2))
    source, target = Grid((4, 3, 5), working), Grid(NATIVE_SHAPE, NATIVE)
    volume = (1 + np.arange(60)).astype(np.float32).reshape(4, 3, 5)
    expected = place(volume, find_placement(source, target), NATIVE_SHAPE)
    inside = expected > 0
    found = resample(volume, source, target, linear=linear)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


def test_resampling_applies_the_motion():
    grid = Grid((9, 9, 9), np.eye(4))
    volume = np.zeros((9, 9, 9), np.uint8)
    volume[3, 4, 5] = 7
    across = np.eye(4)
    across[:3, 3] = (1, 0, -2)  # RAS mm of the target to RAS mm of the source
    moved = resample(volume, grid, grid, across, linear=False)
    assert moved.dtype == np.uint8 and np.argwhere(moved).tolist() == [[2, 4, 7]]


def test_box_keeps_the_axes_and_covers_the_range():
    grid = Grid(NATIVE_SHAPE, NATIVE)
    box = grid.box(np.array([1.0, 2, 3]), np.array([5.0, 6, 8]), 1.0)
    assert np.allclose(box.spacing, 1) and np.allclose(box.affine[:3, 3], (NATIVE @ [1, 2, 3, 1])[:3])
    low, high = np.linalg.solve(NATIVE, box.corners())[:3, [0, -1]].T
    assert np.allclose(low, [1, 2, 3]) and (high >= np.array([5, 6, 8]) - 1e-6).all()
    assert (high < np.array([5, 6, 8]) + 1 / grid.spacing).all()
