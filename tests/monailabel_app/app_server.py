"""A MONAI Label server in its own process, started by the command that a user would type."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import requests

from brats_label.demo.orthanc import free_port

ROOT = Path(__file__).parents[2]
START_S = 120


def wait_for(
    read: Callable[[], Any],
    good: Callable[[Any], Any] = bool,
    seconds: float = 240,
    every: float = 0.1,
    possible: Callable[[Any], Any] = lambda found: True,
) -> Any:
    """Call ``read`` until its result is ``good``, and return that.

    Fails after ``seconds``, or as soon as a result is not ``possible`` on the way to a good one.
    """
    end = time.monotonic() + seconds
    while not good(found := read()):
        assert possible(found) and time.monotonic() < end, found
        time.sleep(every)
    return found


class RunningServer:
    """Context manager that runs a server; ``url`` is its address and ``log`` the path of its log.

    Args:
        studies: a folder, or the address of a DICOMweb server.
        folder: working directory, with the log and the sessions.
        conf: settings, passed as ``--conf NAME VALUE``.
        environment: variables added to those of this process.
    """

    def __init__(self, studies: Path | str, folder: Path, conf: dict | None = None, environment: dict | None = None):
        self.studies, self.folder, self.port = studies, Path(folder), free_port()
        self.conf = conf or {}
        self.environment = environment or {}
        self.url, self.log = f"http://127.0.0.1:{self.port}", self.folder / "server.log"
        self.process: subprocess.Popen | None = None

    def start(self) -> RunningServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(ROOT / "monailabel_app")]
        command += ["--studies", str(self.studies), "--host", "127.0.0.1", "--port", str(self.port)]
        for name, value in self.conf.items():
            command += ["--conf", name, str(value)]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("MONAI_LABEL")}
        environment |= {"MONAI_LABEL_SESSION_PATH": str(self.folder / "sessions"), **self.environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self) -> None:
        """Wait until the server answers."""
        begun = time.monotonic()
        while time.monotonic() - begun < START_S:
            if self.process.poll() is not None:
                break
            try:
                if requests.get(f"{self.url}/info/", timeout=5).status_code in (200, 401):
                    return
            except requests.RequestException:
                time.sleep(0.2)
        raise RuntimeError(f"the server did not start:\n{self.text()[-3000:]}")

    def text(self) -> str:
        """Return the log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def children(self) -> list[psutil.Process]:
        """Return all descendant processes: trainings, workers and their children."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> list[psutil.Process]:
        """Send SIGKILL to the server process only, as the out-of-memory killer does; return its descendants."""
        started = self.children()
        self.process.kill()
        self.process.wait(10)
        return started

    def stop(self) -> None:
        """Send SIGINT, as Ctrl-C does, and then SIGKILL to the rest of the process group."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def __enter__(self) -> RunningServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
