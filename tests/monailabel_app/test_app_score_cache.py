"""Scores in the store: found again, whole or not there, and not mixed up between versions, cases and files."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from brats_label.active.cache import ScoreCache
from brats_label.active.scores import CaseScores
from brats_label.store import Store, close_idle
from brats_label.store import scores as table

THIRD = dict.fromkeys(("WT", "TC", "ET"), 1 / 3)


def write_for_ever(folder: Path, begun) -> None:
    """Write cases over and over, large enough for a kill to fall into a write."""
    cache, number = ScoreCache(Store(folder / "store.db")), 0
    while True:
        for case in "abc":
            cache.put(CaseScores(case, "v1", str(number), THIRD, THIRD, (number / 1e3,) * 20000))
        number += 1
        begun.set()


def scores(case_id: str = "case", version: str = "v1", identity: str = "files", **more) -> CaseScores:
    return CaseScores(case_id, version, identity, THIRD, THIRD, (0.6, 0.8), **more)


@pytest.fixture
def cache(tmp_path) -> ScoreCache:
    return ScoreCache(Store(tmp_path / "store.db"))


def again(cache: ScoreCache) -> ScoreCache:
    """As another process would find it."""
    return ScoreCache(Store(cache.store.path))


def test_what_was_put_is_found_again_in_another_process(cache):
    kept = scores(disagreement=0.25, consistency=None, has_report=True, seconds=1.5)
    cache.put(kept)
    cache.put(scores("other", consistency=0.5))
    assert again(cache).get("v1", "case") == kept
    assert set(again(cache).scores("v1")) == {"case", "other"}


def test_versions_and_cases_are_kept_apart(cache):
    cache.put(scores(version="v1", disagreement=0.1))
    cache.put(scores(version="v2", disagreement=0.2))
    assert again(cache).get("v1", "case").disagreement == 0.1
    assert again(cache).get("v2", "case").disagreement == 0.2
    assert cache.get("v3", "case") is None and cache.get("v1", "nobody") is None


def test_scores_of_other_files_are_not_taken_for_these(cache):
    cache.put(scores(identity="before"))
    assert cache.get("v1", "case", "before") is not None
    assert cache.get("v1", "case", "after") is None
    cache.drop("v1", "case")
    assert cache.get("v1", "case") is None and again(cache).get("v1", "case") is None


@pytest.mark.parametrize("name", ["..", "../../outside", ".hidden", "a/b", "ä ö", "x" * 300, "a.b", "A%2Fb", ""])
def test_any_name_is_kept_apart_from_others_and_names_no_file(cache, name):
    cache.put(scores(name, version="v1"))
    cache.put(scores("case", version=name))
    cache.put(scores(name + "x", version="v1"))
    assert set(again(cache).scores("v1")) == {name, name + "x"}
    assert set(again(cache).scores(name)) == {"case"}
    close_idle()
    assert {path.name for path in cache.store.path.parent.iterdir()} == {"store.db"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 0}', '{"format": 1, "case_id": "case"}', "\x00" * 50])
def test_spoilt_scores_count_as_not_there(cache, content, caplog):
    cache.put(scores())
    cache.put(scores("sound"))
    with cache.store.write() as connection:
        connection.execute(update(table).where(table.c.case_id == "case").values(content=content))
    assert set(again(cache).scores("v1")) == {"sound"}
    assert "scores of case case" in caplog.text
    again(cache).put(scores())
    assert set(again(cache).scores("v1")) == {"case", "sound"}


def test_numbers_that_are_none_are_not_taken(cache):
    content = scores().to_dict()
    for bad in ({"entropy": {"WT": float("nan"), "TC": 0, "ET": 0}}, {"volumes_ml": {"WT": 1}}, {"consistency": 1e999}):
        with pytest.raises(ValueError):
            CaseScores.from_dict(json.loads(json.dumps(content | bad)))
    assert CaseScores.from_dict(json.loads(json.dumps(content))) == scores()


def test_the_latest_scores_stand_in_for_missing_ones(cache):
    cache.put(scores("a", "v1"))
    cache.put(scores("b", "v1"))
    time.sleep(0.02)
    cache.put(scores("a", "v2"))
    time.sleep(0.02)
    cache.put(scores("c", "v3"))
    found = again(cache).latest({"a", "b", "c", "d"}, "v3")
    assert {case: s.version for case, s in found.items()} == {"a": "v2", "b": "v1", "c": "v3"}


def test_old_versions_are_removed_and_the_one_in_use_stays(cache):
    for number in range(5):
        cache.put(scores(version=f"v{number}"))
        time.sleep(0.02)
    cache.prune(2, "v0")
    assert set(again(cache).versions()) == {"v0", "v3", "v4"}
    assert cache.get("v1", "case") is None


def test_a_kill_while_writing_leaves_nothing_half_written(tmp_path):
    fork = multiprocessing.get_context("fork")  # at once there; it touches no torch
    for delay in (0.0, 0.013, 0.029, 0.05):
        begun = fork.Event()
        writer = fork.Process(target=write_for_ever, args=(tmp_path / "scores", begun), daemon=True)
        writer.start()
        assert begun.wait(30)
        time.sleep(delay)
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        found = ScoreCache(Store(tmp_path / "scores" / "store.db")).scores("v1")
        assert set(found) == set("abc")
        assert all(s.descriptor == (int(s.identity) / 1e3,) * 20000 for s in found.values())


def test_replacing_scores_keeps_the_newer(cache):
    cache.put(scores())
    cache.put(replace(scores(), disagreement=0.75))
    assert again(cache).get("v1", "case").disagreement == 0.75
