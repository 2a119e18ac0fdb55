"""So many compute, so many wait, and the next is refused."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from brats_label.errors import Busy
from brats_label.inference import AdmissionControl
from brats_label.inference.service import Prompt, SegmentationService
from brats_label.models import ModelRegistry
from brats_label.settings import Settings
from brats_label.studies.folder import FolderSource
from brats_label.studies.library import CaseLibrary

ROOT = Path(__file__).parents[2]

TIMEOUT_S = 10


def until(condition) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < TIMEOUT_S
        time.sleep(0.005)


def test_no_more_compute_at_once_than_jobs_and_the_one_too_many_is_told_to_come_again():
    control, leave, lock = AdmissionControl(jobs=2, waiting=1), threading.Event(), threading.Lock()
    computing, most, through = 0, 0, 0

    def job() -> None:
        nonlocal computing, most, through
        with control.admit(), control.slot():
            with lock:
                computing += 1
                most = max(most, computing)
            leave.wait(TIMEOUT_S)
            with lock:
                computing -= 1
                through += 1

    threads = [threading.Thread(target=job) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: control._admitted == 3)
    assert control.busy
    with pytest.raises(Busy, match="3 segmentations") as refused, control.admit():
        pass
    assert refused.value.status == 429
    leave.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert (most, through, control.busy) == (2, 3, False)


def test_a_download_keeps_no_request_from_computing_and_counts_all_the_same():
    control = AdmissionControl(jobs=1, waiting=1)
    with control.admit():
        assert control.busy
        with control.admit(), control.slot(), pytest.raises(Busy), control.admit():
            pass
    assert not control.busy


class SlowLibrary(CaseLibrary):
    """Fetches one case until it is told that it has come."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.asked, self.come = threading.Event(), threading.Event()

    def aligned(self, case):
        if case.case_id == "PHANTOM_0":
            self.asked.set()
            self.come.wait(TIMEOUT_S * 6)
        return super().aligned(case)


@pytest.mark.slow
def test_a_case_that_comes_slowly_keeps_no_other_from_being_segmented(tiny_data_set, tmp_path):
    studies = tmp_path / "studies"
    for case in ("PHANTOM_0", "PHANTOM_1"):
        shutil.copytree(tiny_data_set.folder / case, studies / case)
    source = FolderSource(studies, Settings(), tmp_path / "cache")
    library = SlowLibrary(source, tmp_path / "cache")
    models = ModelRegistry(tmp_path / "models", ROOT / "bundle" / "models" / "model.pt")
    service = SegmentationService(Settings(device="cpu"), source, library, models, AdmissionControl(jobs=1, waiting=2))
    answers = []
    slow = threading.Thread(target=lambda: answers.append(service.answer(Prompt("PHANTOM_0")).case.case_id))
    slow.start()
    assert library.asked.wait(TIMEOUT_S)
    quick = threading.Thread(target=lambda: answers.append(service.answer(Prompt("PHANTOM_1")).case.case_id))
    quick.start()
    quick.join(TIMEOUT_S * 5)
    library.come.set()
    slow.join(TIMEOUT_S * 5)
    assert answers == ["PHANTOM_1", "PHANTOM_0"]


def test_a_job_that_fails_releases_its_slot():
    control = AdmissionControl(jobs=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), control.admit(), control.slot():
            raise ZeroDivisionError
    assert not control.busy
    with control.admit(), control.slot():
        assert control.busy
