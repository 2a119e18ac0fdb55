"""The worker as its parent sees it: hand in a case, let it stand still while others compute, take the scores."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .scores import CaseScores

_APP = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.05
_MOST_SECONDS = 1800.0  # of computing, for one case


class WorkerFailed(Exception):
    """The worker died or took too long; the sentence says so."""


class ModelFailed(Exception):
    """There is no segmenter to be had from these weights; the sentence says why."""


class CaseFailed(Exception):
    """The case could not be measured; the sentence says why."""


class WorkerStopped(Exception):
    """The worker was asked to end."""


class WorkerProcess:
    """Starts the worker. Use it from one thread, and end that thread after ``close`` only.

    Args:
        bundle, checkpoint, device: of the segmenter; "" for its defaults.
        version: of the weights.
    """

    def __init__(self, bundle: str, checkpoint: str, device: str, version: str) -> None:
        setup = {"bundle": bundle or None, "checkpoint": checkpoint or None, "device": device or None}
        setup |= {"version": version, "parent": os.getpid()}
        paths = [str(_APP), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "brats_label.active.worker", json.dumps(setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # warnings of libraries name files
            env=environment,
            text=True,
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, name="scores from the worker", daemon=True).start()
        self._ready = self._still = False

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def measure(
        self,
        case_id: str,
        files: Mapping[str, Path],
        report: str,
        identity: str,
        is_busy: Callable[[], bool],
        stop: threading.Event,
    ) -> CaseScores:
        """Measure a case; the worker stands still for as long as ``is_busy()``.

        Raises:
            CaseFailed, ModelFailed, WorkerFailed, WorkerStopped: the last when ``stop`` is set.
        """
        if not self._ready:
            self._answer(is_busy, stop)
            self._ready = True
        paths = {sequence: str(path) for sequence, path in files.items()}
        request = {"case_id": case_id, "files": paths, "report": report, "identity": identity}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerFailed(self._how_it_ended()) from None
        answer = self._answer(is_busy, stop)
        if "error" in answer:
            raise CaseFailed(answer["error"])
        return CaseScores.from_dict(answer["scores"])

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._process.stdin.close()

    def _answer(self, is_busy: Callable[[], bool], stop: threading.Event) -> dict[str, Any]:
        computing = 0.0
        while True:
            if stop.is_set():
                raise WorkerStopped
            self._stand_still(is_busy())
            try:
                line = self._answers.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                computing += 0.0 if self._still else _POLL_SECONDS
                if computing > _MOST_SECONDS:
                    raise WorkerFailed(f"took more than {_MOST_SECONDS:.0f} s for one case") from None
                continue
            if line is None:
                raise WorkerFailed(self._how_it_ended())
            answer = json.loads(line)
            if "fatal" in answer:
                raise ModelFailed(answer["fatal"])
            return answer

    def _stand_still(self, still: bool) -> None:
        if still == self._still or not hasattr(signal, "SIGSTOP"):
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP if still else signal.SIGCONT)
        self._still = still

    def _read(self) -> None:
        with self._process.stdout as answers:
            for line in answers:
                self._answers.put(line)
        self._answers.put(None)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
