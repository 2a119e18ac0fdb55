"""Admission control: limits on running and waiting segmentations, and batches in the background."""

from __future__ import annotations

import functools
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from app_server import wait_for

from brats_label.errors import Busy
from brats_label.inference import AdmissionControl, batch
from brats_label.inference.service import Prompt, SegmentationService
from brats_label.models import ModelRegistry
from brats_label.settings import Settings
from brats_label.studies.folder import FolderSource
from brats_label.studies.library import CaseLibrary

ROOT = Path(__file__).parents[2]

TIMEOUT_S = 10
until = functools.partial(wait_for, seconds=TIMEOUT_S, every=0.005)


def test_admission_limits_running_jobs_and_refuses_beyond_the_queue():
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
    until(lambda: len(control._admitted) == 3)
    assert control.busy
    with pytest.raises(Busy, match="3 segmentations") as refused, control.admit():
        pass
    assert refused.value.status == 429
    leave.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert (most, through, control.busy) == (2, 3, False)


def test_admitted_request_without_slot_blocks_no_slot_but_counts_as_admitted():
    control = AdmissionControl(jobs=1, waiting=1)
    with control.admit():
        assert control.busy
        with control.admit(), control.slot(), pytest.raises(Busy), control.admit():
            pass
    assert not control.busy


class SlowLibrary(CaseLibrary):
    """Blocks the fetch of one case until ``come`` is set."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.asked, self.come = threading.Event(), threading.Event()

    def aligned(self, case):
        if case.case_id == "PHANTOM_0":
            self.asked.set()
            self.come.wait(TIMEOUT_S * 6)
        return super().aligned(case)


@pytest.mark.slow
def test_slow_fetch_of_one_case_does_not_block_another(tiny_data_set, tmp_path):
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


def test_background_batch_pauses_for_other_requests_and_is_not_counted():
    control, steps, stop = AdmissionControl(jobs=1, waiting=0), [], threading.Event()

    def batch() -> None:
        with control.in_background("b"), control.admit("b"), control.slot():
            while not stop.is_set():
                control.give_way()
                steps.append(1)
                time.sleep(0.001)

    thread = threading.Thread(target=batch)
    thread.start()
    until(lambda: len(steps) > 3)
    assert not control.busy
    with control.admit("a"), control.slot():  # the batch does not occupy the only slot
        time.sleep(0.05)
        before = len(steps)
        time.sleep(0.3)
        assert len(steps) == before
    until(lambda: len(steps) > before + 3)
    with control.admit("b"):  # a request for the case of the batch must not wait forever
        before = len(steps)
        until(lambda: len(steps) > before + 3)
    stop.set()
    thread.join(TIMEOUT_S)
    assert not control.busy


def test_batch_pauses_between_network_layers_during_another_request(tmp_path):
    layer, steps, stop = torch.nn.Identity(), [], threading.Event()
    models = ModelRegistry(tmp_path, ROOT / "bundle" / "models" / "model.pt")
    control = AdmissionControl(jobs=1, waiting=4)
    made = SimpleNamespace(modules=lambda: [layer])
    SegmentationService(Settings(), None, None, models, control, make=lambda **_: made).segmenter()

    def batch() -> None:
        with control.in_background("b"):
            while not stop.is_set():
                steps.append(layer(torch.zeros(1)))

    thread = threading.Thread(target=batch)
    thread.start()
    until(lambda: len(steps) > 3)
    with control.admit("a"):
        layer(torch.zeros(1))  # a foreground computation never waits
        time.sleep(0.1)
        before = len(steps)
        time.sleep(0.3)
        assert len(steps) == before
    until(lambda: len(steps) > before)
    stop.set()
    thread.join(TIMEOUT_S)


def test_batch_computes_in_one_thread_and_leaves_the_others_to_requests(tmp_path, monkeypatch):
    number = {}

    def answer(app, request):
        torch.ones(200_000).exp_()  # parallel, if the thread has several
        number["batch"] = torch.get_num_threads()
        request = threading.Thread(target=lambda: number.update(request=torch.get_num_threads()))
        request.start()
        request.join()
        (tmp_path / "label.nii.gz").touch()
        return {"file": tmp_path / "label.nii.gz", "params": {"saved": {"version": 1}}}

    monkeypatch.setattr(batch, "answer_request", answer)
    datastore = SimpleNamespace(list_images=lambda: ["A"], get_labeled_images=list, get_unlabeled_images=list)
    task = SimpleNamespace(prompt=lambda request: None)
    app = SimpleNamespace(infer_task=lambda name: task, datastore=lambda: datastore, admission=AdmissionControl(1, 1))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        work = batch.Batch(app)
        work.start("segmentation", batch.ALL, {})
        work.wait()
    finally:
        torch.set_num_threads(before)
    assert work.tasks()[0]["finished"] == 1 and number == {"batch": 1, "request": 3}
