from __future__ import annotations

import numpy as np
import pytest

from brats_clip.errors import InputError
from brats_clip.phantoms import PhantomDataset, dataset
from brats_clip.phantoms.patient import Phantom


@pytest.fixture
def drawn(monkeypatch) -> list[int]:
    """Seeds of the patients that were drawn; drawing itself is tested elsewhere."""
    seeds = []

    def draw(seed: int, shift: float = 0.0) -> Phantom:
        seeds.append(seed)
        image, label = np.ones((4, 5, 6, 7), np.float32), np.zeros((5, 6, 7), np.uint8)
        return Phantom(image, label, label > 0, None, "A report.", np.eye(4))

    monkeypatch.setattr(dataset, "draw_phantom", draw)
    return seeds


def test_every_access_draws_a_new_patient_as_a_loaded_case(drawn):
    patients = PhantomDataset(2, seed=3)
    first, again = patients[0], patients[0]
    assert len(patients) == 2 and len(set(drawn)) == 2 and first["case"] != again["case"]
    assert first["image"].shape == (4, 5, 6, 7) and first["label"].shape == (1, 5, 6, 7)
    assert first["report"] == "A report."


def test_equal_seeds_give_equal_sequences(drawn):
    for _ in range(2):
        patients = PhantomDataset(3, seed=5)
        [patients[i] for i in range(3)]
    assert drawn[:3] == drawn[3:]


def test_transform_receives_the_case(drawn):
    assert PhantomDataset(1, transform=lambda case: sorted(case))[0] == ["case", "image", "label", "report"]


def test_empty_epoch_is_refused(drawn):
    with pytest.raises(InputError, match="length"):
        PhantomDataset(0)
