"""The prompt history: undo and redo per case and user, across restarts, with a limited number of steps."""

from __future__ import annotations

import numpy as np
import pytest

from brats_label import prompt_history
from brats_label.errors import Conflict
from brats_label.prompt_history import PromptHistory
from brats_label.store import Store


@pytest.fixture
def history(tmp_path) -> PromptHistory:
    return PromptHistory(Store(tmp_path / "store.db"))


def label(number: int, shape=(5, 7, 3)) -> np.ndarray:
    return np.random.default_rng(number).choice([0, 0, 0, 1, 2, 4], shape).astype(np.uint8)


def add(history: PromptHistory, number: int, case_id: str = "a", who: str = "anna") -> None:
    history.add(case_id, who, {"number": number}, label(number))


def seen(step) -> tuple[int, int, int]:
    np.testing.assert_array_equal(step.label, label(step.answer["number"]))
    return step.answer["number"], step.number, step.total


def test_undo_and_redo_return_identical_answers(history, tmp_path):
    for number in range(3):
        add(history, number)
    assert seen(history.current("a", "anna")) == (2, 3, 3)
    assert [seen(history.step("a", "anna", -1)) for _ in range(2)] == [(1, 2, 3), (0, 1, 3)]
    again = PromptHistory(Store(tmp_path / "store.db"))
    assert seen(again.step("a", "anna", 1)) == (1, 2, 3)
    assert seen(again.current("a", "anna")) == (1, 2, 3)


def test_new_answer_after_undo_discards_the_undone_answers(history):
    for number in range(3):
        add(history, number)
    history.step("a", "anna", -1)
    add(history, 7)
    assert seen(history.current("a", "anna")) == (7, 3, 3)
    with pytest.raises(Conflict, match=r"nothing to redo; this is answer 3 of 3 that anna got"):
        history.step("a", "anna", 1)
    assert seen(history.step("a", "anna", -1)) == (1, 2, 3)


def test_each_user_and_each_case_has_a_separate_history(history):
    add(history, 1)
    add(history, 2, who="bob")
    add(history, 3, case_id="b")
    for case_id, who in (("a", "anna"), ("a", "bob"), ("b", "anna")):
        with pytest.raises(Conflict, match="nothing to undo"):
            history.step(case_id, who, -1)
    assert history.current("b", "bob") is None
    with pytest.raises(Conflict, match="there is no answer yet that this client got"):
        history.step("b", "", -1)


def test_oldest_answers_are_dropped_first(history, monkeypatch):
    monkeypatch.setattr(prompt_history, "KEPT_STEPS", 4)
    for number in range(10):
        add(history, number)
    assert seen(history.current("a", "anna")) == (9, 4, 4)
    assert [seen(history.step("a", "anna", -1))[0] for _ in range(3)] == [8, 7, 6]
    old = PromptHistory(history._store, clock=lambda: history._clock() - 31 * 24 * 3600)
    add(old, 1, who="bob")
    add(history, 2)
    assert history.current("a", "bob") is None


@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 8, 8), (240, 240, 155)])
def test_label_of_any_shape_is_returned_unchanged(history, shape):
    made = np.zeros(shape, np.uint8)
    history.add("empty", "", {}, made)
    np.testing.assert_array_equal(history.current("empty", "").label, made)
    made[tuple(n // 2 for n in shape)] = 4
    made = np.asfortranarray(made)
    history.add("empty", "", {}, made)
    np.testing.assert_array_equal(history.current("empty", "").label, made)
