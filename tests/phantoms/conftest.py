"""Two synthetic patients that the tests share: drawing one takes seconds."""

from __future__ import annotations

import numpy as np
import pytest

from brats_clip.phantoms import Phantom, draw_phantom
from brats_clip.reports import describe_mask

SEEDS = (1, (5, 6))  # an enhancing tumour on the right, one on the left
WHOLE = {"kind": "ring", "poor_sequence": None, "short_view": 0.0, "shading": 0.05}  # no fault of the scanner


@pytest.fixture(scope="session")
def patients() -> list[Phantom]:
    return [draw_phantom(seed, traits=WHOLE) for seed in SEEDS]


@pytest.fixture(params=range(len(SEEDS)), ids=[str(seed) for seed in SEEDS])
def patient(request, patients) -> Phantom:
    return patients[request.param]


@pytest.fixture
def small() -> Phantom:
    """A patient made by hand, of odd size: a block for a head, smaller ones inside each other for a tumour."""
    shape = (41, 47, 37)
    brain = np.zeros(shape, bool)
    brain[4:-5, 3:-6, 2:-3] = True
    label = np.zeros(shape, np.uint8)
    label[20:34, 10:24, 8:22], label[23:31, 13:21, 11:19], label[25:29, 15:19, 13:17] = 2, 4, 1
    image = np.random.default_rng(0).uniform(0.5, 1.5, (4, *shape)).astype(np.float32) * brain
    findings = describe_mask(label, np.eye(4), brain=brain)
    return Phantom(image, label, brain, findings, "A lesion on the right.", np.eye(4))
