"""A raw phantom, with skull and every series moved, is registered and stripped as its truth says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from brats_clip.cases import prepare
from brats_clip.geometry import Grid, resample
from brats_clip.images import Volume
from brats_clip.phantoms import draw_raw_phantom

pytestmark = pytest.mark.slow


def test_registration_and_brain_extraction_of_a_raw_phantom():
    raw = draw_raw_phantom((77, 1))
    given = {s: Volume(series.image.astype(np.float32), series.affine, s) for s, series in raw.series.items()}
    volumes, preparation = prepare(given, "auto")
    to_reference = raw.series[preparation.reference].moved
    surface = np.argwhere(raw.brain & ~ndimage.binary_erosion(raw.brain))[::50]
    points = np.c_[surface, np.ones(len(surface))] @ (to_reference @ raw.phantom.affine).T
    errors = []
    for sequence, series in raw.series.items():
        wanted = series.moved @ np.linalg.inv(to_reference)
        errors.append(np.linalg.norm((points @ (preparation.motions[sequence] - wanted).T)[:, :3], axis=1))
    assert np.median(np.concatenate(errors)) <= 1.0 and np.max(errors) <= 2.0
    grid = Grid(raw.brain.shape, to_reference @ raw.phantom.affine)
    truth = resample(raw.brain.astype(np.float32), grid, preparation.working) > 0.5
    mask = np.any([volume.array != 0 for volume in volumes.values()], axis=0)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) >= 0.96
    assert not any("doubtful" in note for note in preparation.notes)
