"""Raw exams: the stripped phantom with skull and scalp around the brain, each sequence moved and on its own grid."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from brats_clip.phantoms import anatomy, draw_phantom, draw_raw_phantom, write_raw_phantom
from brats_clip.phantoms.contrast import SEQUENCES
from brats_clip.phantoms.fields import Randomness
from brats_clip.phantoms.raw import FURTHEST_DEGREES, FURTHEST_MM, draw_motion

SEED = (5, 6)
TRAITS = {"kind": "ring", "poor_sequence": None, "short_view": 0.0, "shading": 0.05}


@pytest.fixture(scope="module")
def small_canvas():
    """Draw only the middle of the brain, which is faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "CANVAS", (88, 100, 88))
        yield


@pytest.fixture(scope="module")
def raw(small_canvas):
    return draw_raw_phantom(SEED, traits=TRAITS)


def tissue(raw) -> np.ndarray:
    """Return the mask where the stripped phantom is not 0: the brain without the fluid around it."""
    return raw.phantom.image.any(axis=0)


def at_tissue(raw, series, moved: np.ndarray) -> np.ndarray:
    """Return the series' values at every fourth tissue voxel of the reference grid, mapped through ``moved``."""
    shape = raw.brain.shape
    voxels = np.stack(np.meshgrid(*[np.arange(0, n, 4) for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    to_series = np.linalg.inv(series.affine) @ moved @ raw.phantom.affine
    places = nib.affines.apply_affine(to_series, voxels)
    values = ndimage.map_coordinates(series.image.astype(np.float32), places.T, order=1, mode="nearest")
    return values[tissue(raw)[tuple(voxels.T)]]


def test_stripped_phantom_equals_the_phantom_of_the_same_seed(raw, small_canvas):
    twin = draw_phantom(SEED, traits=TRAITS)
    np.testing.assert_array_equal(raw.phantom.image, twin.image)
    np.testing.assert_array_equal(raw.phantom.label, twin.label)
    assert raw.phantom.report == twin.report
    assert raw.brain[raw.phantom.label > 0].mean() > 0.99


def test_brain_mask_includes_the_fluid_within_the_dura(raw):
    fluid = raw.brain & ~tissue(raw)
    near = ndimage.distance_transform_edt(~tissue(raw))[fluid]
    assert 0.01 < fluid.sum() / raw.brain.sum() < 0.15
    assert np.quantile(near, 0.9) < 4  # mm; most of the fluid is a rim, cisterns are deeper


def test_equal_seeds_give_equal_exams(raw):
    again = draw_raw_phantom(SEED, traits=TRAITS)
    for sequence in SEQUENCES:
        np.testing.assert_array_equal(again.series[sequence].image, raw.series[sequence].image)
        np.testing.assert_array_equal(again.series[sequence].moved, raw.series[sequence].moved)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_known_transform_maps_the_stripped_brain_to_the_series(raw, sequence):
    series = raw.series[sequence]
    stripped = raw.phantom.image[SEQUENCES.index(sequence)][::4, ::4, ::4][tissue(raw)[::4, ::4, ::4]]
    aligned = np.corrcoef(at_tissue(raw, series, series.moved), stripped)[0, 1]
    assert aligned > 0.6
    if sequence != "t1ce":
        assert aligned > np.corrcoef(at_tissue(raw, series, np.linalg.inv(series.moved)), stripped)[0, 1] + 0.1


def test_every_sequence_but_the_reference_is_moved_within_bounds(raw):
    np.testing.assert_array_equal(raw.series["t1ce"].moved, np.eye(4))
    assert all(not np.allclose(raw.series[s].moved, np.eye(4)) for s in ("t1", "t2", "flair"))
    for seed in range(30):
        moved = draw_motion(Randomness(seed))
        np.testing.assert_allclose(moved[:3, :3] @ moved[:3, :3].T, np.eye(3), atol=1e-9)
        angle = np.rad2deg(np.arccos(np.clip((np.trace(moved[:3, :3]) - 1) / 2, -1, 1)))
        assert angle <= FURTHEST_DEGREES + 1e-6 and np.linalg.norm(moved[:3, 3]) <= FURTHEST_MM + 1e-6


def test_every_sequence_has_its_own_grid(raw):
    grids = {(*s.image.shape, *np.round(s.affine, 3).ravel()) for s in raw.series.values()}
    assert len(grids) == 4


def test_skull_and_scalp_surround_the_brain(raw):
    """On T1, a line from the brain outwards crosses the dark skull and the bright scalp."""
    series = raw.series["t1ce"]
    inverse = np.linalg.inv(series.affine)
    centre = np.array(raw.brain.shape) / 2
    side = np.flatnonzero(raw.brain.any((1, 2)))[-1]
    line = np.array([[x, centre[1], centre[2]] for x in range(side - 10, side + 34)])
    places = nib.affines.apply_affine(inverse @ raw.phantom.affine, line)
    values = ndimage.map_coordinates(series.image.astype(np.float32), places.T, order=1, mode="constant")
    brain, outside = values[:8].mean(), values[12:]
    assert outside.min() < 0.4 * brain
    dark = int(np.argmax(outside < 0.45 * brain))
    assert outside[dark:].max() > 0.55 * brain


def test_written_exam_has_four_series_and_the_truth(raw, tmp_path):
    folder = write_raw_phantom(raw, tmp_path, "R")
    assert sorted(p.name for p in folder.iterdir()) == [
        "FLAIR.nii.gz",
        "T1.nii.gz",
        "T1_post.nii.gz",
        "T2.nii.gz",
        "truth",
    ]
    transforms = json.loads((folder / "truth" / "transforms.json").read_text())
    np.testing.assert_allclose(transforms["FLAIR"], raw.series["flair"].moved)
    flair = nib.load(folder / "FLAIR.nii.gz")
    np.testing.assert_array_equal(np.asarray(flair.dataobj), raw.series["flair"].image)
    np.testing.assert_allclose(flair.affine, raw.series["flair"].affine, atol=1e-4)
    brain = nib.load(folder / "truth" / "brain.nii.gz")
    np.testing.assert_array_equal(np.asarray(brain.dataobj) > 0, raw.brain)
    label = np.asarray(nib.load(folder / "truth" / "label.nii.gz").dataobj)
    np.testing.assert_array_equal(label, raw.phantom.label)
    assert (folder / "truth" / "report.txt").read_text().strip() == raw.phantom.report
    assert json.loads((folder / "truth" / "findings.json").read_text())["side"] == raw.phantom.findings.side
    before = len(list(tmp_path.iterdir()))
    assert write_raw_phantom(raw, tmp_path, "R") == folder and len(list(tmp_path.iterdir())) == before
