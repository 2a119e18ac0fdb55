"""Score unlabelled cases while nobody is waiting."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from brats_clip.errors import InputError

from ..errors import ClientError, Unreachable, sentence
from .cache import ScoreCache
from .choose import scoring_order
from .worker_process import CaseFailed, ModelFailed, WorkerFailed, WorkerProcess, WorkerStopped

logger = logging.getLogger(__name__)

CRASHES = 3  # in a row, after which a model version is given up
VERSIONS_KEPT = 3  # besides the one in use


class CaseFiles(NamedTuple):
    """What a case is measured from: paths by sequence, on one grid, and the report that lies with it."""

    files: Mapping[str, Path]
    report: str = ""


@dataclass(frozen=True)
class ModelInUse:
    """The weights to score with; "" for those of the bundle.

    Attributes:
        version: a name that other weights never had.
        checkpoint: the file.
    """

    version: str
    checkpoint: str = ""


class CasesToScore(Protocol):
    """Where the scorer finds cases."""

    def unlabelled(self) -> Sequence[str]:
        """Case ids; asked for often."""

    def labelled(self) -> Sequence[str]:
        """Case ids; of these only the descriptor is wanted, once."""

    def identity(self, case_id: str) -> str:
        """What tells whether a case is still the one that was measured. Fetches and converts nothing; asked for often.

        Raises:
            InputError, ClientError, OSError: as ``load``.
        """

    def load(self, case_id: str) -> CaseFiles:
        """The files of a case.

        Raises:
            InputError, ClientError, OSError: if they cannot be had; the scorer tries again later.
        """


class BackgroundScorer:
    """A daemon thread that has a worker process score one case after another, most wanted first.

    The worker has a low priority and one thread, and stands still while ``is_busy()``: a process can be stopped
    anywhere, and what it computes neither holds this process's interpreter nor its torch threads. It costs the memory
    of a second network, and ends when there is nothing left to do. Scores are kept as they come, so a server that was
    killed goes on where it was. A case that fails is logged, by its id and without a patient's name, and left for
    ``retry`` seconds, or until its files change. A new model version starts over.

    Args:
        cache: gets the scores. Nobody else writes to it.
        cases: what to score.
        model: the weights in use.
        is_busy: whether an inference runs or waits.
        bundle, device: of the segmenter; "" for its defaults.
        poll: seconds between looks for work when there was none.
        retry: seconds until a case that failed is tried again, and one that was scored is compared with what it was.
        seed: of the order.
    """

    def __init__(
        self,
        cache: ScoreCache,
        cases: CasesToScore,
        model: Callable[[], ModelInUse],
        is_busy: Callable[[], bool],
        bundle: str = "",
        device: str = "",
        poll: float = 5.0,
        retry: float = 600.0,
        seed: int = 0,
    ) -> None:
        self.cache, self.cases, self.model, self.is_busy = cache, cases, model, is_busy
        self.bundle, self.device, self.poll, self.retry, self.seed = bundle, device, poll, retry, seed
        self._in_use: ModelInUse | None = None
        self._worker: WorkerProcess | None = None
        self._places: dict[str, int] = {}
        self._failed: dict[str, tuple[float, str]] = {}  # when, and which files
        self._checked: dict[str, float] = {}
        self._crashes = 0
        self._state = "stopped"
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, if it has not begun."""
        if self._thread is None or not self._thread.is_alive():
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """End, within about ``timeout`` seconds; what was being measured is lost, nothing else."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def wake(self) -> None:
        """Look for work now: there is a new case, or a new model version."""
        self._wake.set()

    def status(self) -> dict[str, Any]:
        """``version`` in use, and of the unlabelled cases how many are ``scored``, of ``total``, and how many
        ``failed``; ``state`` is "scoring", "waiting" (for inferences), "idle", "unreachable" (the DICOM server), "given
        up" or "stopped"."""
        version = self.model().version
        try:
            unlabelled = set(self.cases.unlabelled())
        except Unreachable:  # clients ask how the server is, and must be told
            return {"version": version, "scored": 0, "total": 0, "failed": 0, "state": "unreachable"}
        scored = unlabelled & self.cache.scores(version).keys()
        failed = (unlabelled & self._failed.keys()) - scored
        counts = {"scored": len(scored), "total": len(unlabelled), "failed": len(failed)}
        return {"version": version, **counts, "state": self._state}

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    worked = self._step()
                except WorkerStopped:
                    break
                except Unreachable as reason:
                    if self._state != "unreachable":  # once, not at every look
                        logger.warning("scoring: %s", reason.sentence)
                    self._state, worked = "unreachable", False
                except Exception as reason:  # a fault here must not end scoring for good
                    logger.error("scoring: %s", sentence(reason), exc_info=logger.isEnabledFor(logging.DEBUG))
                    worked = False
                if not worked:
                    self._close_worker()
                    self._wake.wait(self.poll)
                    self._wake.clear()
        finally:
            self._close_worker()
            self._state = "stopped"

    def _step(self) -> bool:
        """Score or check one case; False if there is nothing to do."""
        model = self.model()
        if model != self._in_use:
            self._start_over(model)
        if self._crashes >= CRASHES:
            self._state = "given up"
            return False
        case_id = self._next(model.version)
        if case_id is None:
            self._state = "idle"
            return False
        while self.is_busy() and not self._stop.is_set():
            self._state = "waiting"
            self._stop.wait(0.05)
        if self._stop.is_set():
            raise WorkerStopped
        self._state = "scoring"
        try:
            identity = self.cases.identity(case_id)
            if self._failed.get(case_id, (0.0, ""))[1] == identity:
                self._failed[case_id] = (time.monotonic(), identity)  # the same files would fail again
            elif self.cache.get(model.version, case_id, identity) is None:
                case = self.cases.load(case_id)
                self.cache.drop(model.version, case_id)
                self._score(case_id, case, identity, model)
        except (InputError, ClientError, OSError) as reason:
            self._skip(case_id, "", sentence(reason))
        self._checked[case_id] = time.monotonic()
        return True

    def _score(self, case_id: str, case: CaseFiles, identity: str, model: ModelInUse) -> None:
        try:
            if self._worker is None:
                self._worker = WorkerProcess(self.bundle, model.checkpoint, self.device, model.version)
            self.cache.put(self._worker.measure(case_id, *case, identity, self.is_busy, self._stop))
        except CaseFailed as reason:
            self._skip(case_id, identity, str(reason))
        except ModelFailed as reason:
            self._close_worker()
            self._crashes = CRASHES
            logger.error("scoring with model %s is given up: %s", model.version, reason)
        except WorkerFailed as reason:
            self._close_worker()
            self._crashes += 1
            self._skip(case_id, identity, f"the worker {reason}")
            if self._crashes >= CRASHES:
                logger.error("scoring with model %s is given up: the worker %s", model.version, reason)
        else:
            self._crashes = 0
            self._failed.pop(case_id, None)

    def _start_over(self, model: ModelInUse) -> None:
        self._close_worker()
        self._in_use, self._crashes = model, 0
        self._places, self._failed, self._checked = {}, {}, {}
        self.cache.prune(VERSIONS_KEPT, model.version)

    def _next(self, version: str) -> str | None:
        """The case that is wanted most: without scores, then labelled and without a descriptor, then one whose files
        nobody has looked at for long."""
        now = time.monotonic()
        scored, unlabelled = self.cache.scores(version), list(self.cases.unlabelled())
        left = {case_id for case_id, (at, _) in self._failed.items() if now - at < self.retry}
        missing = [c for c in unlabelled if c not in scored and c not in left]
        if missing:
            if any(c not in self._places for c in missing):
                known = self.cache.latest(set(missing), version)
                order = scoring_order(missing, known, np.random.default_rng(self.seed))
                self._places = {case_id: place for place, case_id in enumerate(order)}
            return min(missing, key=self._places.__getitem__)
        labelled = [c for c in self.cases.labelled() if c not in left]
        described = self.cache.latest(set(labelled), version)
        for case_id in labelled:
            if case_id not in described:
                return case_id
        return next((c for c in unlabelled if c not in left and now - self._checked.get(c, -1e9) > self.retry), None)

    def _skip(self, case_id: str, identity: str, why: str) -> None:
        self._failed[case_id] = (time.monotonic(), identity)
        logger.warning("case %s is not scored: %s", case_id, why)

    def _close_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
