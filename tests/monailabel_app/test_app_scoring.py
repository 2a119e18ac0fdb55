"""Scoring in the background: it yields, it goes on, and it says what it leaves out."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from brats_label.active.background import BackgroundScorer, CaseFiles, ModelInUse
from brats_label.active.cache import ScoreCache
from brats_label.store import Store
from tests.interactive import conftest as interactive

pytestmark = pytest.mark.slow
tiny_bundle = pytest.fixture(scope="module")(interactive.bundle.__wrapped__)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict:
    return interactive.write(tmp_path_factory.mktemp("cases"))


class Cases:
    """Cases in memory for the scorer."""

    def __init__(self, files: dict[str, dict], labelled=()) -> None:
        self.files, self.done, self.loaded = files, list(labelled), []

    def unlabelled(self):
        return [case_id for case_id in self.files if case_id not in self.done]

    def labelled(self):
        return list(self.done)

    def identity(self, case_id: str) -> str:
        return repr(self.files[case_id])

    def load(self, case_id: str) -> CaseFiles:
        self.loaded.append(case_id)
        return CaseFiles(self.files[case_id])


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def until(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)


@pytest.fixture
def make_scorer(tiny_bundle, tmp_path):
    """Build scorers on one cache; they are stopped at the end."""
    made = []

    def make(cases: Cases, model=lambda: ModelInUse("v1"), is_busy=lambda: False, **more) -> BackgroundScorer:
        cache = ScoreCache(Store(tmp_path / "store.db"))
        made.append(BackgroundScorer(cache, cases, model, is_busy, str(tiny_bundle), "cpu", poll=0.05, **more))
        return made[-1]

    yield make
    for scorer in made:
        scorer.stop()


def test_cases_are_scored_in_the_background_and_failing_ones_left_out(make_scorer, files, tmp_path, caplog):
    (tmp_path / "Doe^Jane").mkdir()
    broken = tmp_path / "Doe^Jane" / "t1.nii.gz"
    broken.write_bytes(b"<html>")
    cases = Cases({"a": files, "bad": files | {"t1": broken}, "b": files, "known": files}, labelled=["known"])
    versions = ["v1"]
    scorer = make_scorer(cases, model=lambda: ModelInUse(versions[-1]))
    assert scorer.status() == {"version": "v1", "scored": 0, "total": 3, "failed": 0, "state": "stopped"}
    with caplog.at_level(logging.WARNING):
        scorer.start()
        until(lambda: scorer.status()["state"] == "idle")
    assert scorer.status() == {"version": "v1", "scored": 2, "total": 3, "failed": 1, "state": "idle"}
    assert caplog.text.count("bad") == 1 and "Doe" not in caplog.text
    assert scorer.cache.get("v1", "known").descriptor
    # A file that was mended is noticed; a new version starts over, and labelled cases keep their descriptor.
    cases.files["bad"] = files
    scorer.retry = 0.0
    until(lambda: scorer.status()["scored"] == 3)
    # What was scored is compared with what it was, and neither fetched nor scored again.
    loaded, checked = list(cases.loaded), dict(scorer._checked)
    until(lambda: scorer._checked["a"] > checked["a"])
    assert cases.loaded == loaded
    scorer.retry = 600.0
    versions.append("v2")
    scorer.wake()
    until(lambda: scorer.cache.scores("v2").keys() == {"a", "b", "bad"} and scorer.status()["state"] == "idle")
    started = time.monotonic()
    scorer.stop()
    assert time.monotonic() - started < 5 and scorer.status()["state"] == "stopped"


def test_scoring_stands_still_while_somebody_waits_and_survives_a_killed_worker(make_scorer, files):
    busy = threading.Event()
    scorer = make_scorer(Cases({f"c{i}": files for i in range(4)}), is_busy=busy.is_set)
    scorer.start()
    until(lambda: scorer._worker is not None)
    busy.set()  # while the worker starts
    pid = scorer._worker.pid
    until(lambda: scorer._worker._still)
    used = cpu_ticks(pid)
    time.sleep(0.5)
    assert cpu_ticks(pid) == used and scorer.status()["scored"] == 0
    busy.clear()
    until(lambda: scorer.status()["scored"] >= 1)
    busy.set()
    until(lambda: scorer._worker is None or scorer._worker._still or scorer.status()["state"] == "waiting")
    done = scorer.status()["scored"]
    os.kill(pid, signal.SIGKILL)
    busy.clear()
    until(lambda: scorer.status()["scored"] + scorer.status()["failed"] == 4)
    assert scorer.status()["scored"] >= max(done, 3)
    # Another process goes on where this one was.
    scorer.stop()
    assert len(ScoreCache(scorer.cache.store).scores("v1")) == scorer.status()["scored"]


def test_a_model_that_cannot_be_loaded_is_given_up_and_the_next_one_is_not(make_scorer, files, tmp_path, caplog):
    models = [ModelInUse("bad", str(tmp_path / "none.pt"))]
    scorer = make_scorer(Cases({"a": files, "b": files, "c": files}), model=lambda: models[-1])
    scorer.start()
    until(lambda: scorer.status()["state"] == "given up")
    assert "given up: found no file" in caplog.text
    assert (scorer.status()["scored"], scorer.status()["failed"]) == (0, 0)
    models.append(ModelInUse("good"))
    until(lambda: scorer.status()["scored"] == 3)
