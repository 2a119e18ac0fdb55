"""Strategies that hand out patients: by priority, each to one annotator, to several annotators concurrently."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from review_archive import Archive

from brats_label.errors import ClientError
from brats_label.review.queue import ReviewQueue
from brats_label.review.strategies import DESCRIPTIONS, make_strategies
from brats_label.store import Store

NAMES = list(DESCRIPTIONS)


@pytest.fixture
def archive(tmp_path) -> Archive:
    return Archive(tmp_path)


def asking(archive: Archive, name: str = "expected_gain", queue: ReviewQueue | None = None):
    strategy = make_strategies(queue or archive.queue)[name]
    return lambda **request: strategy(request, archive)


@pytest.mark.parametrize("name", NAMES)
def test_each_patient_is_handed_out_once(name, archive):
    archive.add(*(f"c{i}" for i in range(6)))
    archive.label("c5", "anna")
    ask = asking(archive, name)
    for number in range(4):
        archive.suggest(f"c{number}", number / 10)
    found = [ask(client_id="bob") for _ in range(5)]
    assert sorted(answer["id"] for answer in found) == ["c0", "c1", "c2", "c3", "c4"]
    assert all(answer["reason"] and set(answer) == {"id", "reason", "score"} for answer in found)
    assert json.loads(json.dumps(found)) == found
    assert ask(client_id="anna") == {}  # bob has all leases
    for number in range(5):
        archive.label(f"c{number}", "bob")
    assert ask(client_id="bob") == {} == ask()


def test_case_with_the_lowest_expected_dice_comes_first_with_score_and_reason(archive):
    archive.add("high", "low", "mid", "unknown")
    for case_id, dice in (("high", 0.9), ("low", 0.2), ("mid", 0.5)):
        archive.suggest(case_id, dice)
    answers = [asking(archive)() for _ in range(4)]
    assert [a["id"] for a in answers] == ["low", "mid", "high", "unknown"]
    assert answers[0]["score"] == pytest.approx(0.8) and "expected mean Dice 0.20" in answers[0]["reason"]
    assert answers[3]["score"] is None and "at random" in answers[3]["reason"]


def test_a_new_pre_annotation_moves_a_case_in_the_queue(archive):
    archive.add("a", "b")
    archive.suggest("a", 0.3)
    archive.suggest("b", 0.6)
    archive.suggest("a", 0.9)
    assert asking(archive)()["id"] == "b"


def test_leased_patient_is_not_handed_out_by_another_strategy(archive):
    archive.add("a", "b")
    archive.suggest("a", 0.1)
    assert asking(archive)()["id"] == "a"
    assert asking(archive, "random")()["id"] == "b"


def test_random_strategy_is_uniform(archive):
    archive.add(*(f"c{i}" for i in range(4)))
    archive.suggest("c0", 0.1)
    draw = make_strategies(archive.queue)["random"]._choose
    rows, rng = archive.queue.rows(), np.random.default_rng(0)
    first = Counter(draw(rows, rng)[0].case_id for _ in range(400))
    assert all(70 < first[f"c{i}"] < 130 for i in range(4))


@pytest.mark.parametrize("name", NAMES)
def test_seed_makes_the_choice_deterministic(name, tmp_path):
    found = []
    for number in range(2):
        archive = Archive(tmp_path / str(number))
        archive.add(*(f"c{i}" for i in range(30)))
        found.append([asking(archive, name)(seed=seed)["id"] for seed in (7, 7, "8")])
    assert found[0] == found[1] and len(set(found[0])) == 3
    archive = Archive(tmp_path / "free")
    archive.add(*(f"c{i}" for i in range(30)))
    chosen = {asking(archive, name)()["id"] for _ in range(8)}
    assert chosen != {f"c{i}" for i in range(8)}


@pytest.mark.parametrize("seed", ["x", -1, 1.5, True, [1], {"a": 1}])
def test_invalid_seed_is_refused_without_a_lease(archive, seed):
    archive.add("a")
    with pytest.raises(ClientError, match=r"seed: found .*; expected a whole number"):
        asking(archive, "random")(seed=seed)
    assert archive.leases.granted() == {}


def test_leases_are_listed_in_the_format_of_monai_label(archive):
    archive.add("a")
    archive.leases.grant("a", "first", "x")
    archive.now += 3 * 3600
    asking(archive, "random")(client_id="reader 1")
    assert archive.leases.by_strategy("a") == {
        "first": {"ts": int(archive.now) - 3 * 3600, "client_id": "x"},
        "random": {"ts": int(archive.now), "client_id": "reader 1"},
    }
    assert archive.leases.by_strategy("b") == {}


def test_unlabelled_patient_is_handed_out_again_after_the_lease(archive):
    archive.add("best", "second", "third")
    for case_id, dice in (("best", 0.1), ("second", 0.5), ("third", 0.6)):
        archive.suggest(case_id, dice)
    ask = asking(archive)
    assert ask()["id"] == "best"
    archive.now += 2 * 3600 - 1
    assert ask()["id"] == "second"
    archive.now += 2
    assert ask()["id"] == "best"


def test_annotators_get_their_own_leases_again_oldest_first_if_nothing_is_free(archive):
    archive.add("a", "b", "c")
    ask = asking(archive, "random")
    had = []
    for who in ("anna", "anna", "bob"):
        had, archive.now = [*had, ask(client_id=who)["id"]], archive.now + 60
    again = ask(client_id="anna")
    assert again["id"] == had[0] and "with somebody" in again["reason"]
    assert ask(client_id="anna")["id"] == had[1]
    assert ask(client_id="bob")["id"] == had[2] and ask(client_id="carol") == {}


def test_leases_survive_a_restart(archive):
    archive.add("a", "b", "c")
    had = {asking(Archive(archive.folder, archive.cases))(client_id=str(i))["id"] for i in range(3)}
    assert had == {"a", "b", "c"}


def test_lease_from_the_future_does_not_block_a_patient(archive):
    archive.add("a", "b")
    archive.now += 9e12
    archive.leases.grant("a", "random", "")
    archive.now -= 9e12
    assert {asking(archive, "random")()["id"] for _ in range(2)} == {"a", "b"}


def test_labelled_patient_has_no_lease_and_is_handed_out_again_without_its_label(archive):
    archive.add("a")
    asking(archive)(client_id="anna")
    archive.label("a", "anna")
    archive.leases.release("a")
    assert not any(map(archive.leases.is_current, archive.leases.granted().values()))
    assert asking(archive)(client_id="bob") == {}
    archive.labels.remove("a", "final", {"who": "admin"})
    assert asking(archive)(client_id="bob")["id"] == "a"


def test_patients_are_handed_out_even_if_the_store_cannot_be_written(archive, monkeypatch, caplog):
    archive.add("a", "b")

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "write", full)
    assert {asking(archive, "random")()["id"] for _ in range(2)} == {"a", "b"}
    assert "No space left" in caplog.text


def test_concurrent_annotators_never_get_the_same_patient(archive):
    archive.add(*(f"c{i}" for i in range(64)))
    for number in range(10):
        archive.suggest(f"c{number}", number / 10)
    slow = archive.list_images

    def listed():
        time.sleep(0.001)
        return slow()

    archive.list_images = listed
    together, strategies = threading.Barrier(8), make_strategies(archive.queue)

    def annotate(reader: int) -> list[str]:
        together.wait()
        ask = lambda i: strategies[NAMES[(reader + i) % 2]]({"client_id": str(reader)}, archive)  # noqa: E731
        return [ask(i)["id"] for i in range(8)]

    with ThreadPoolExecutor(8) as pool:
        handed = Counter(case_id for found in pool.map(annotate, range(8)) for case_id in found)
    assert len(handed) == 64 and set(handed.values()) == {1}


def test_double_read_case_goes_to_a_second_reader_after_the_first(archive):
    archive.add("a", "b")
    archive.suggest("a", 0.1)
    archive.suggest("b", 0.2)
    queue = ReviewQueue(archive, archive.leases, double_share=1.0)
    ask = asking(archive, queue=queue)
    assert ask(client_id="anna")["id"] == "a" and ask(client_id="bob")["id"] == "b"
    archive.label("a", "anna")
    archive.leases.release("a")
    assert ask(client_id="bob")["id"] == "a"  # immediately, since it is first in the queue
    archive.label("a", "bob")
    archive.leases.release("a")
    assert ask(client_id="carol") == {} and queue.row("a").readers == ("anna", "bob")


def test_share_of_double_read_cases_is_kept_and_survives_a_restart(archive):
    names = [f"case{i}" for i in range(2000)]
    twice = [
        {name for name in names if ReviewQueue(archive, archive.leases, share, seed=1).wants_two(name)}
        for share in (0.0, 0.1, 0.1, 0.3, 1.0)
    ]
    assert twice[0] == set() and twice[1] == twice[2] < twice[3] < twice[4] == set(names)
    assert 160 < len(twice[1]) < 240
