"""The split of patients: a side is assigned once and never changes."""

from __future__ import annotations

import itertools
import multiprocessing

import pytest

from brats_clip.errors import InputError
from brats_label.store import Store, close_idle
from brats_label.training.split import TRAINING, VALIDATION, PatientSplit

PATIENTS = [f"P{i:03d}" for i in range(40)]


def split(folder, share=0.2, seed=0) -> PatientSplit:
    return PatientSplit(Store(folder / "store.db"), share, seed)


@pytest.mark.parametrize("order", list(itertools.permutations(PATIENTS[:4]))[::5])
def test_patients_added_one_by_one_keep_their_side(tmp_path, order):
    seen: dict[str, str] = {}
    for count in range(1, len(order) + 1):
        sides = split(tmp_path).assign(order[:count])
        assert {p: sides[p] for p in seen} == seen
        seen = sides
        if count >= 2:
            assert set(sides) == set(order[:count]) and set(sides.values()) == {TRAINING, VALIDATION}
    assert split(tmp_path).sides() == seen


def test_changed_share_or_seed_moves_no_patient(tmp_path):
    before = split(tmp_path).assign(PATIENTS[:10])
    after = split(tmp_path, share=0.9, seed=7).assign(PATIENTS)
    assert {p: after[p] for p in before} == before
    assert list(after.values()).count(VALIDATION) > 20  # new patients use the new share


def test_split_depends_on_hash_and_share_not_on_order(tmp_path):
    one = split(tmp_path / "a").assign(PATIENTS)
    assert split(tmp_path / "b").assign(reversed(PATIENTS)) == one
    assert split(tmp_path / "c", seed=1).assign(PATIENTS) != one
    assert 3 <= list(one.values()).count(VALIDATION) <= 13


@pytest.mark.parametrize("share", [1e-9, 0.2, 1 - 1e-9])
def test_would_be_predicts_the_sides_without_assigning_them(tmp_path, share):
    assert split(tmp_path).preview(PATIENTS[:1]) == {}
    for count in (2, 5, 9):
        before = split(tmp_path).sides()
        told = split(tmp_path, share).preview(PATIENTS[:count])
        assert split(tmp_path).sides() == before
        assert split(tmp_path, share).assign(PATIENTS[:count]) == told and set(told) == set(PATIENTS[:count])


def test_single_patient_gets_no_side(tmp_path):
    assert split(tmp_path).assign(PATIENTS[:1]) == {}
    assert split(tmp_path).assign(PATIENTS[:1] * 3) == {}
    assert set(split(tmp_path).assign(PATIENTS[:2]).values()) == {TRAINING, VALIDATION}


@pytest.mark.parametrize(("share", "lonely"), [(1e-9, VALIDATION), (1 - 1e-9, TRAINING)])
def test_no_side_is_empty_with_two_patients_or_more(tmp_path, share, lonely):
    sides = split(tmp_path, share).assign(PATIENTS)
    assert list(sides.values()).count(lonely) == 1


def test_patient_without_labels_keeps_its_side_and_a_new_patient_fills_the_gap(tmp_path):
    first = split(tmp_path, 1e-9).assign(PATIENTS[:3])
    gone = next(p for p, side in first.items() if side == VALIDATION)
    left = [p for p in first if p != gone]
    assert set(split(tmp_path, 1e-9).assign(left).values()) == {TRAINING}  # their sides are fixed
    assert split(tmp_path, 1e-9).assign([*left, "P999"])["P999"] == VALIDATION
    assert split(tmp_path).sides()[gone] == VALIDATION


def test_damaged_store_is_an_error_and_is_not_overwritten(tmp_path):
    split(tmp_path).assign(PATIENTS)
    close_idle()
    content = b"not what was written there" * 400
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(InputError, match=r"store\.db.*backup"):
        split(tmp_path).assign(PATIENTS)
    assert (tmp_path / "store.db").read_bytes() == content


def test_sides_are_written_only_for_new_patients(tmp_path, monkeypatch):
    before = split(tmp_path).assign(PATIENTS[:5])
    monkeypatch.setattr(Store, "write", None)
    assert split(tmp_path).assign(PATIENTS[:5]) == before == split(tmp_path).sides()


def assign_each(folder, patients):
    seen: dict[str, str] = {}
    for count in range(2, len(patients) + 1):
        sides = split(folder).assign(patients[:count])
        assert set(sides) == set(patients[:count]) and sides.items() >= seen.items()
        seen = sides
    assert split(folder).sides().items() >= seen.items()


def test_concurrent_processes_lose_no_patient(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=assign_each, args=(tmp_path, PATIENTS[i::3])) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert set(split(tmp_path).sides()) == set(PATIENTS)
