"""So many compute, so many wait, and the next is turned away."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from brats_label.errors import Busy
from brats_label.infers.gate import Gate
from brats_label.infers.service import Prompt, SegmentationService
from brats_label.models import ModelRegistry
from brats_label.settings import Settings
from brats_label.studies.folder import FolderSource
from brats_label.studies.library import CaseLibrary

ROOT = Path(__file__).parents[2]

PATIENCE_S = 10


def until(condition) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < PATIENCE_S
        time.sleep(0.005)


def test_no_more_compute_at_once_than_jobs_and_the_one_too_many_is_told_to_come_again():
    gate, leave, lock = Gate(jobs=2, waiting=1), threading.Event(), threading.Lock()
    computing, most, through = 0, 0, 0

    def job() -> None:
        nonlocal computing, most, through
        with gate.enter():
            with lock:
                computing += 1
                most = max(most, computing)
            leave.wait(PATIENCE_S)
            with lock:
                computing -= 1
                through += 1

    threads = [threading.Thread(target=job) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: gate._inside == 3)
    assert gate.busy
    with pytest.raises(Busy, match="3 segmentations") as refused, gate.enter():
        pass
    assert refused.value.status == 429
    leave.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (most, through, gate.busy) == (2, 3, False)


def test_who_fetches_keeps_nobody_from_computing_and_counts_all_the_same():
    gate = Gate(jobs=1, waiting=1)
    with gate.place():
        assert gate.busy
        with gate.enter(), pytest.raises(Busy), gate.place():
            pass
    assert not gate.busy


class SlowLibrary(CaseLibrary):
    """Fetches one case until it is told that it has come."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.asked, self.come = threading.Event(), threading.Event()

    def aligned(self, case):
        if case.case_id == "PHANTOM_0":
            self.asked.set()
            self.come.wait(PATIENCE_S * 6)
        return super().aligned(case)


@pytest.mark.slow
def test_a_case_that_comes_slowly_keeps_no_other_from_being_segmented(tiny_data_set, tmp_path):
    studies = tmp_path / "studies"
    for case in ("PHANTOM_0", "PHANTOM_1"):
        shutil.copytree(tiny_data_set.folder / case, studies / case)
    source = FolderSource(studies, Settings(), tmp_path / "cache")
    library = SlowLibrary(source, tmp_path / "cache", False)
    models = ModelRegistry(tmp_path / "models", ROOT / "bundle" / "models" / "model.pt")
    service = SegmentationService(Settings(device="cpu"), source, library, models, Gate(jobs=1, waiting=2))
    answers = []
    slow = threading.Thread(target=lambda: answers.append(service.answer(Prompt("PHANTOM_0")).case.case_id))
    slow.start()
    assert library.asked.wait(PATIENCE_S)
    quick = threading.Thread(target=lambda: answers.append(service.answer(Prompt("PHANTOM_1")).case.case_id))
    quick.start()
    quick.join(PATIENCE_S * 5)
    library.come.set()
    slow.join(PATIENCE_S * 5)
    assert answers == ["PHANTOM_1", "PHANTOM_0"]


def test_a_job_that_fails_gives_its_place_back():
    gate = Gate(jobs=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.enter():
            raise ZeroDivisionError
    assert not gate.busy
    with gate.enter():
        assert gate.busy
