"""Handing out patients: each once, by scores, to several annotators at the same time."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from brats_label.active.cache import ScoreCache
from brats_label.active.choose import ORDERS
from brats_label.active.scores import CaseScores
from brats_label.active.strategies import make_strategies
from brats_label.case_info import Leases
from brats_label.errors import ClientError
from brats_label.store import Store


class Cases:
    """What a strategy needs of a datastore, in memory."""

    def __init__(self, cases: list[str], labelled=()) -> None:
        self.cases = list(cases)
        self.done = set(labelled)

    def get_unlabeled_images(self, label_tag=None, labels=None):
        return [case_id for case_id in self.cases if case_id not in self.done]

    def get_labeled_images(self, label_tag=None, labels=None):
        return [case_id for case_id in self.cases if case_id in self.done]


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path) -> ScoreCache:
    return ScoreCache(Store(tmp_path / "store.db"))


@pytest.fixture
def leases(cache, clock) -> Leases:
    return Leases(cache.store, clock=clock)


@pytest.fixture
def strategies(cache, leases):
    """All strategies, for the model version "v1"."""
    return make_strategies(cache, lambda: "v1", leases)


def put(cache: ScoreCache, case_id: str, entropy: float = 0.5, at=(1.0, 0.0), version="v1", ml=20.0, report=0.0):
    regions = ("WT", "TC", "ET")
    at = tuple(np.array(at) / np.linalg.norm(at))
    cache.put(
        CaseScores(case_id, version, "x", dict.fromkeys(regions, ml), dict.fromkeys(regions, entropy), at, report)
    )


@pytest.mark.parametrize("name", ORDERS)
def test_every_patient_is_handed_out_once_and_then_none_is_left_but_those_with_somebody(name, strategies, cache):
    store = Cases([f"c{i}" for i in range(6)], labelled=["c5"])
    for i in range(6):
        put(cache, f"c{i}", entropy=i / 10, at=(1, i))
    found = [strategies[name]({"strategy": name}, store) for _ in range(5)]
    assert sorted(answer["id"] for answer in found) == ["c0", "c1", "c2", "c3", "c4"]
    assert all(answer["reason"] and set(answer) == {"id", "reason", "score"} for answer in found)
    assert json.loads(json.dumps(found)) == found
    store.done = set(store.cases)
    assert strategies[name]({}, store) == {}


def test_the_best_comes_first_with_its_score_and_reason(strategies, cache):
    store = Cases(["low", "high", "mid"])
    for case_id, entropy in (("low", 0.1), ("high", 0.9), ("mid", 0.5)):
        put(cache, case_id, entropy)
    answers = [strategies["region_entropy"]({}, store) for _ in range(3)]
    assert [a["id"] for a in answers] == ["high", "mid", "low"]
    assert answers[0]["score"] == pytest.approx(0.9) and "0.90" in answers[0]["reason"]


def test_a_patient_is_not_handed_out_by_another_strategy_either(strategies, cache):
    store = Cases(["a", "b"])
    put(cache, "a", 0.9)
    put(cache, "b", 0.1)
    assert strategies["region_entropy"]({}, store)["id"] == "a"
    assert strategies["random"]({}, store)["id"] == "b"


def test_patients_without_scores_come_after_those_with(strategies, cache):
    store = Cases(["new1", "new2", "scored"])
    put(cache, "scored", 0.0)
    put(cache, "new1", 1.0, version="v0")
    answers = [strategies["region_entropy"]({}, store) for _ in range(3)]
    assert answers[0]["id"] == "scored"
    assert {a["id"] for a in answers[1:]} == {"new1", "new2"}
    assert all("at random" in a["reason"] and a["score"] is None for a in answers[1:])


@pytest.mark.parametrize("name", [name for name in ORDERS if name != "random"])
def test_without_any_scores_chance_decides_and_the_answer_says_so(name, strategies):
    answer = strategies[name]({}, Cases(["a", "b"]))
    assert "no patient that is free has been scored yet" in answer["reason"] and answer["score"] is None


def test_what_is_labelled_and_what_is_with_somebody_counts_for_diversity(strategies, cache):
    store = Cases(["known", "like_known", "left", "left_too", "right"], labelled=["known"])
    put(cache, "known", at=(0, 1), version="v0")  # scored by an earlier model; CLIP is the same
    put(cache, "like_known", at=(0.1, 1))
    put(cache, "left", at=(-1, -0.5))
    put(cache, "left_too", at=(-1, -0.4))
    put(cache, "right", at=(1, 0.2))
    found = [strategies["semantic_diversity"]({}, store)["id"] for _ in range(4)]
    assert found == ["left", "right", "like_known", "left_too"]


def test_a_seed_decides_where_chance_does(cache, tmp_path):
    for name in ORDERS:
        found = []
        for number in range(2):
            leases = Leases(Store(tmp_path / f"{name}{number}.db"))
            again = make_strategies(cache, lambda: "v1", leases)[name]
            store = Cases([f"c{i}" for i in range(30)])
            found.append([again({"seed": seed}, store)["id"] for seed in (7, 7, "8")])
        assert found[0] == found[1] and len(set(found[0])) == 3
    free = make_strategies(cache, lambda: "v1", Leases(Store(tmp_path / "free.db")))["random"]
    chosen = {free({}, Cases([f"c{i}" for i in range(30)]))["id"] for _ in range(12)}
    assert len(chosen) > 3


@pytest.mark.parametrize("seed", ["x", -1, 1.5, True, [1], {"a": 1}])
def test_a_seed_that_is_no_whole_number_is_refused(strategies, leases, seed):
    store = Cases(["a"])
    with pytest.raises(ClientError, match=r"seed: found .*; expected a whole number"):
        strategies["random"]({"seed": seed}, store)
    assert leases.granted() == {}


def test_who_got_a_patient_and_when_is_written_down_as_monai_label_does(strategies, leases, clock):
    leases.grant("a", "first", "x")
    clock.now += 3 * 3600
    strategies["random"]({"client_id": "reader 1"}, Cases(["a"]))
    assert leases.by_strategy("a") == {
        "first": {"ts": int(clock.now) - 3 * 3600, "client_id": "x"},
        "random": {"ts": int(clock.now), "client_id": "reader 1"},
    }
    assert leases.by_strategy("b") == {}


def test_a_patient_that_came_to_nothing_is_handed_out_again_after_the_lease(strategies, cache, clock):
    store = Cases(["best", "second", "third"])
    for case_id, entropy in (("best", 0.9), ("second", 0.5), ("third", 0.4)):
        put(cache, case_id, entropy)
    ask = lambda: strategies["region_entropy"]({}, store)["id"]  # noqa: E731
    assert ask() == "best"
    clock.now += 2 * 3600 - 1
    assert ask() == "second"
    clock.now += 2
    assert ask() == "best"


def test_when_nobody_else_is_left_the_one_that_is_out_longest_comes_back(strategies, clock):
    store = Cases(["a", "b"])
    first = strategies["random"]({}, store)["id"]
    clock.now += 60
    second = strategies["random"]({}, store)["id"]
    clock.now += 60
    again = strategies["random"]({}, store)
    assert again["id"] == first != second
    assert "with somebody" in again["reason"]


def test_a_restart_remembers_who_has_what(cache, clock):
    store = Cases(["a", "b", "c"])
    again = lambda: Leases(Store(cache.store.path), clock=clock)  # noqa: E731
    had = {make_strategies(cache, lambda: "v1", again())["random"]({}, store)["id"] for _ in range(3)}
    assert had == {"a", "b", "c"}


def test_a_lease_of_a_clock_that_was_set_back_does_no_harm(strategies, leases, clock):
    clock.now += 9e12
    leases.grant("a", "random", "")
    clock.now -= 9e12
    assert {strategies["random"]({}, Cases(["a", "b"]))["id"] for _ in range(2)} == {"a", "b"}


def test_a_labelled_patient_is_nobodys_and_is_handed_out_again_should_the_label_go(strategies, leases):
    store = Cases(["a"])
    strategies["random"]({}, store)
    leases.release("a")
    assert not any(map(leases.is_current, leases.granted().values()))
    assert "with somebody" not in strategies["random"]({}, store)["reason"]
    assert "with somebody" in strategies["random"]({}, store)["reason"]


def test_a_store_that_cannot_be_written_costs_nobody_a_patient(strategies, monkeypatch, caplog):
    store = Cases(["a", "b"])

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "write", full)
    assert {strategies["random"]({}, store)["id"] for _ in range(2)} == {"a", "b"}
    assert "No space left" in caplog.text


def test_annotators_who_ask_at_the_same_moment_get_different_patients(strategies, cache):
    store = Cases([f"c{i}" for i in range(64)])
    for i in range(40):
        put(cache, f"c{i}", entropy=i / 64, at=(1, i))
    slow = store.get_unlabeled_images

    def unlabelled(label_tag=None, labels=None):
        found = slow()
        time.sleep(0.001)
        return found

    store.get_unlabeled_images = unlabelled
    together = threading.Barrier(8)

    def annotate(reader: int) -> list[str]:
        together.wait()
        names = list(ORDERS)
        return [strategies[names[(reader + i) % len(names)]]({"client_id": str(reader)}, store)["id"] for i in range(8)]

    with ThreadPoolExecutor(8) as pool:
        handed = Counter(case_id for found in pool.map(annotate, range(8)) for case_id in found)
    assert len(handed) == 64 and set(handed.values()) == {1}


@pytest.mark.parametrize("name", ORDERS)
def test_one_of_a_thousand_patients_is_handed_out_at_once(name, tmp_path):
    rng = np.random.default_rng(0)
    cache = ScoreCache(Store(tmp_path / "store.db"))
    store = Cases([f"c{i}" for i in range(1000)], labelled=[f"c{i}" for i in range(200)])
    regions = ("WT", "TC", "ET")
    by_case = cache._load("v1")  # in memory: the thousand files are another matter
    for case_id in store.cases:
        at, values = rng.normal(size=128), rng.random(4)
        figures = dict(zip(regions, values[:3].tolist(), strict=True))
        by_case[case_id] = CaseScores(
            case_id, "v1", "x", figures, figures, tuple((at / np.linalg.norm(at)).tolist()), values[3]
        )
    strategy = make_strategies(cache, lambda: "v1", Leases(cache.store))[name]
    strategy({}, store)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        assert strategy({}, store)["score"] is not None or name == "random"
        times.append(time.perf_counter() - started)
    assert sorted(times)[2] < 1.0
