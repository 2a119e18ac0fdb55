"""So many compute, so many wait, and the next is turned away."""

from __future__ import annotations

import threading
import time

import pytest

from lib.errors import Busy
from lib.infers.gate import Gate

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


def test_a_job_that_fails_gives_its_place_back():
    gate = Gate(jobs=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.enter():
            raise ZeroDivisionError
    assert not gate.busy
    with gate.enter():
        assert gate.busy
