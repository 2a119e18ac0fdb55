"""One ``Segmenter`` is used by several threads; each gets the answers for its own case."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from brats_clip import Segmenter
from brats_clip.errors import InputError
from tests.interactive.conftest import GRIDS, arrays, write

REPORT = "Ring-enhancing mass in the right hemisphere."
CASES = (("aligned", 1), ("tilted", 2), ("aligned", 3), ("tilted", 4))


def prompts(grid: str) -> list[dict]:
    voxel = [side // 2 for side in GRIDS[grid][1]]
    return [{}, {"report": REPORT}, {"clicks": {"ET": [voxel]}}, {"report": REPORT, "clicks": {"background": [voxel]}}]


def ask(segmenter: Segmenter, grid: str) -> list[np.ndarray]:
    answers = []
    for prompt in prompts(grid):
        answer = segmenter.segment(**prompt)
        answers += [answer.label, answer.probabilities["WT"]]
    return answers


def run_all(*works) -> list:
    """Run functions concurrently; return the exceptions that they raised."""
    start, raised = threading.Barrier(len(works)), []

    def guarded(work) -> None:
        try:
            start.wait()
            work()
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("cases")
    return [write(folder, grid, seed, name=f"BraTS2021_0000{seed}") for grid, seed in CASES]


@pytest.fixture(scope="module")
def expected(bundle, cases) -> list[list[np.ndarray]]:
    """The answers of a separate ``Segmenter``, case by case in a single thread.

    The last bits of a sentence's embedding depend on which sentences are encoded with it.
    """
    segmenter, found = Segmenter(bundle, device="cpu"), []
    for case, (grid, _) in zip(cases, CASES, strict=True):
        segmenter.set_case(**case)
        found.append(ask(segmenter, grid))
    assert all(not np.array_equal(a[0], b[0]) for a, b in zip(found, found[2:], strict=False))
    return found


@pytest.mark.parametrize("cache_bytes", [2**30, 0], ids=["all stay", "only the last one stays"])
def test_threads_with_separate_cases_get_their_own_answers(bundle, cases, expected, cache_bytes):
    segmenter = Segmenter(bundle, device="cpu", cache_bytes=cache_bytes)

    def work(i: int):
        def run() -> None:
            segmenter.set_case(**cases[i])
            for _ in range(2):
                for found, wanted in zip(ask(segmenter, CASES[i][0]), expected[i], strict=True):
                    assert np.array_equal(found, wanted)

        return run

    assert run_all(*map(work, range(4))) == []


def test_threads_that_share_a_case_get_the_answers_to_their_prompts(bundle, cases, expected):
    segmenter = Segmenter(bundle, device="cpu")
    key = segmenter.set_case(**cases[0])

    def work(i: int):
        def run() -> None:
            prompt = prompts("aligned")[i]
            for _ in range(3):
                assert np.array_equal(segmenter.segment(**prompt, case=key).label, expected[0][2 * i])

        return run

    assert run_all(*map(work, range(4))) == []


def test_threads_that_set_the_same_files_get_the_same_key(bundle, cases, expected):
    segmenter, keys = Segmenter(bundle, device="cpu"), []

    def run() -> None:
        keys.append(segmenter.set_case(**cases[1]))
        assert np.array_equal(segmenter.segment().label, expected[1][0])

    assert run_all(run, run, run) == [] and len(set(keys)) == 1 and len(keys) == 3


def test_current_case_is_local_to_the_thread(segmenter):
    key = segmenter.set_case(**arrays(seed=1))
    found = {}

    def other() -> None:
        with pytest.raises(InputError, match="in the same thread"):
            segmenter.segment()
        found["by key"] = segmenter.segment(case=key).label
        segmenter.set_case(**arrays(seed=2))
        found["own"] = segmenter.segment().label

    mine = segmenter.segment().label
    assert run_all(other) == []
    assert np.array_equal(found["by key"], mine) and not np.array_equal(found["own"], mine)
    assert np.array_equal(segmenter.segment().label, mine)
