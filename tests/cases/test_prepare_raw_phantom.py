"""Raw phantoms with skull and moved series are registered, brain-extracted and segmented in agreement with their truth.

``RAW_PHANTOMS=20 pytest -s tests/cases/test_prepare_raw_phantom.py`` prints the figures of 20 phantoms.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import ndimage

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES, prepare
from brats_clip.geometry import Grid, resample
from brats_clip.images import Volume
from brats_clip.phantoms import RawPhantom, draw_raw_phantom

pytestmark = pytest.mark.slow
COUNT = int(os.environ.get("RAW_PHANTOMS", "2"))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(device="cpu")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def tumour(segmenter: Segmenter, volumes: dict[str, Volume], truth: np.ndarray, grid: Grid) -> float:
    """Return the Dice of the whole tumour; ``truth`` ``(X, Y, Z)`` is on ``grid``, in the reference's world space."""
    segmenter.set_case(**volumes)
    answer = segmenter.segment()
    found = resample((answer.label > 0).astype(np.float32), Grid(answer.label.shape, answer.affine), grid) > 0.5
    return dice(found, truth > 0)


def measure(raw: RawPhantom, segmenter: Segmenter) -> dict[str, float]:
    given = {s: Volume(series.image.astype(np.float32), series.affine, s) for s, series in raw.series.items()}
    volumes, preparation = prepare(given, "auto")
    to_reference = raw.series[preparation.reference].moved
    surface = np.argwhere(raw.brain & ~ndimage.binary_erosion(raw.brain))[::50]
    grid = Grid(raw.brain.shape, to_reference @ raw.phantom.affine)
    points = np.c_[surface, np.ones(len(surface))] @ grid.affine.T
    errors = []
    for sequence, series in raw.series.items():
        wanted = series.moved @ np.linalg.inv(to_reference)
        errors.append(np.linalg.norm((points @ (preparation.motions[sequence] - wanted).T)[:, :3], axis=1))
    truth = resample(raw.brain.astype(np.float32), grid, preparation.working) > 0.5
    mask = np.any([volume.array != 0 for volume in volumes.values()], axis=0)
    stripped = {s: Volume(raw.phantom.image[i], grid.affine, s) for i, s in enumerate(SEQUENCES)}
    return {
        "median mm": float(np.median(np.concatenate(errors))),
        "worst mm": float(np.max(errors)),
        "brain": dice(mask, truth),
        "WT raw": tumour(segmenter, volumes, raw.phantom.label, grid),
        "WT stripped": tumour(segmenter, stripped, raw.phantom.label, grid),
        "doubtful": sum("doubtful" in note for note in preparation.notes),
    }


def test_raw_phantoms_are_registered_stripped_and_segmented(segmenter, capsys):
    rows = []
    for n in range(COUNT):
        rows.append(measure(draw_raw_phantom((77, 1 + n)), segmenter))
        with capsys.disabled():
            print(f"\nraw phantom {n + 1}: " + ", ".join(f"{k} {v:.3g}" for k, v in rows[-1].items()), end="")
    found = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    assert found["median mm"].max() <= 1.0 and found["worst mm"].max() <= 2.0
    assert found["brain"].min() >= 0.96
    assert found["WT stripped"].mean() >= 0.7
    if COUNT >= 10:  # the mean of a few phantoms varies too much
        assert np.mean(found["WT stripped"] - found["WT raw"]) <= 0.03
    assert np.max(found["WT stripped"] - found["WT raw"]) <= 0.1
    assert found["doubtful"].sum() <= COUNT // 20
