"""The split assigns patients deterministically."""

from __future__ import annotations

import random

import pytest

from brats_clip.cases import fold_of, split_patients
from brats_clip.errors import InputError

FRACTIONS = (0.7, 0.1, 0.2)
PATIENTS = [f"BraTS2021_{i:05d}" for i in range(300)]


def test_section_sizes_match_the_fractions():
    sections = list(split_patients([f"p{i}" for i in range(4000)], FRACTIONS).values())
    for section, share in zip(("training", "validation", "testing"), FRACTIONS, strict=True):
        assert sections.count(section) / 4000 == pytest.approx(share, abs=0.03)


def test_split_does_not_depend_on_order():
    shuffled = random.Random(0).sample(PATIENTS, len(PATIENTS))
    assert split_patients(shuffled, FRACTIONS) == split_patients(PATIENTS, FRACTIONS)


def test_adding_patients_does_not_move_the_others():
    before, after = split_patients(PATIENTS[:100], FRACTIONS), split_patients(PATIENTS, FRACTIONS)
    assert before == {patient: after[patient] for patient in PATIENTS[:100]}


def test_changing_the_validation_fraction_keeps_the_test_patients():
    def testing(fractions):
        return {patient for patient, section in split_patients(PATIENTS, fractions).items() if section == "testing"}

    assert testing((0.7, 0.1, 0.2)) == testing((0.5, 0.3, 0.2))


def test_split_is_stable_across_versions():
    """Positions come from a hash of seed and id; a different hash would reshuffle every data set in use."""
    assert split_patients(["BraTS2021_00006", "BraTS2021_01477", "BraTS2021_01478", "BraTS2021_01481"], FRACTIONS) == {
        "BraTS2021_00006": "training",
        "BraTS2021_01477": "testing",
        "BraTS2021_01478": "training",
        "BraTS2021_01481": "validation",
    }


def test_seed_changes_the_split():
    assert split_patients(PATIENTS, FRACTIONS, seed=1) != split_patients(PATIENTS, FRACTIONS)


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_few_patients_fill_every_section(count):
    for seed in range(50):
        assert set(split_patients(PATIENTS[:count], FRACTIONS, seed).values()) == {"training", "validation", "testing"}


@pytest.mark.parametrize(("count", "filled"), [(1, {"training"}), (2, {"training", "validation"})])
def test_fewer_than_three_patients_fill_training_first(count, filled):
    for seed in range(50):
        assert set(split_patients(PATIENTS[:count], FRACTIONS, seed).values()) == filled


def test_section_with_fraction_0_stays_empty():
    for fractions, section in (((0.8, 0.2, 0), "testing"), ((0.8, 0, 0.2), "validation"), ((0, 0, 1), "training")):
        assert section not in split_patients(PATIENTS, fractions).values()


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.1, 0.3), (1.2, -0.2, 0)])
def test_invalid_fractions_are_refused(fractions):
    with pytest.raises(InputError, match="fractions"):
        split_patients(PATIENTS, fractions)


def test_folds_are_stable_and_about_equal():
    folds = [fold_of(patient, 5) for patient in PATIENTS]
    assert folds == [fold_of(patient, 5) for patient in PATIENTS]
    assert all(folds.count(fold) > 40 for fold in range(5))
