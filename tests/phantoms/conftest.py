"""Two synthetic patients that the tests share, because drawing one takes seconds."""

from __future__ import annotations

import numpy as np
import pytest

from brats_clip.phantoms import Phantom, draw_phantom, lesion
from brats_clip.reports import describe_mask

SEEDS = ((5, 8), 1)  # an enhancing tumour on the right, one on the left
WHOLE = {"kind": "ring", "poor_sequence": None, "short_view": 0.0, "shading": 0.05}  # no acquisition fault


# Contrast in the middle of its range: the assertions on tissues hold for typical patients, not for all.
USUAL = {"oedema": (-0.3, -0.4, 1.2, 3.3), "core": (-1.1, -1.1, 2.1, 3.8), "enhancing": (-0.6, 3.5, 1.2, 3.7)}


@pytest.fixture(scope="session")
def patients() -> list[Phantom]:
    def usual(random, kind):
        lesion_draw(random, kind)  # draws as many random numbers as without the patch
        return USUAL

    lesion_draw = lesion.draw_lesion
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesion, "draw_lesion", usual)
        return [draw_phantom(seed, traits=WHOLE) for seed in SEEDS]


@pytest.fixture(params=range(len(SEEDS)), ids=[str(seed) for seed in SEEDS])
def patient(request, patients) -> Phantom:
    return patients[request.param]


@pytest.fixture
def small() -> Phantom:
    """A hand-made patient of odd size: a block as the head, and smaller nested blocks as the tumour."""
    shape = (41, 47, 37)
    brain = np.zeros(shape, bool)
    brain[4:-5, 3:-6, 2:-3] = True
    label = np.zeros(shape, np.uint8)
    label[20:34, 10:24, 8:22], label[23:31, 13:21, 11:19], label[25:29, 15:19, 13:17] = 2, 4, 1
    image = np.random.default_rng(0).uniform(0.5, 1.5, (4, *shape)).astype(np.float32) * brain
    findings = describe_mask(label, np.eye(4), brain=brain)
    return Phantom(image, label, brain, findings, "A lesion on the right.", np.eye(4))
