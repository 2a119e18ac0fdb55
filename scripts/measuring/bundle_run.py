"""Run a training or an evaluation of the bundle in its own process."""

from __future__ import annotations

import fcntl
import reprlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
CONFIGS = BUNDLE / "configs"
# Settings that do not affect the results: a run with other values of these is the same run.
HARMLESS = {"cache_dir", "progress_bar", "tensorboard", "mlflow", "mlflow_uri", "num_workers", "val_workers", "command"}
MONAI = (sys.executable, "-m", "monai.bundle", "run")


class RunFailed(Exception):
    """A training or an evaluation failed; the others continue."""


@contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Lock an existing folder against other processes; yield the file descriptor of the lock.

    Raises:
        RunFailed: if another process holds it.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFailed("another process is at it") from None
        yield lock.fileno()


def as_words(options: Mapping[str, object]) -> list[str]:
    """Return ``--name value`` for each option."""
    return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


def check_trained(weights: Path, log: Path) -> None:
    """Check that a training wrote its weights.

    Raises:
        RunFailed: if it did not.
    """
    if not weights.is_file():
        raise RunFailed(f"the training wrote no {weights} (see {log})")


def drop_checkpoints(folder: Path) -> None:
    """Remove the training checkpoints below a folder to save disk space; the trainings can then not be resumed."""
    for checkpoint in folder.glob("**/checkpoints/checkpoint_*"):
        checkpoint.unlink()


def epochs_done(training: Path) -> int:
    """Return the number of finished epochs of a training, by its curves.csv."""
    curves = training / "curves.csv"
    return max(0, len(curves.read_text().splitlines()) - 1) if curves.is_file() else 0


def flat(value: object, name: str = "") -> dict[str, object]:
    """Flatten a config: ``{"train": {"x": 1}}`` becomes ``{"train#x": 1}``."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, part in value.items() for k, v in flat(part, f"{name}#{key}" if name else key).items()}


def run_or_fail(words: Sequence[object], log: Path, watch: Callable[[], None], keep_open: Sequence[int] = ()) -> None:
    """Like ``run_bundle``, but raise an error if the command fails.

    Raises:
        RunFailed: with the error of the command and the path of the log.
    """
    code, reason = run_bundle(words, log, watch, keep_open)
    if code:
        raise RunFailed(f"{words[0]} ended with code {code}: {reason.removeprefix('Error: ')} (see {log})")


def describe_differences(old: Mapping, new: Mapping) -> str:
    """Return the settings that differ, as text for a message; "" if none does."""
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    shown = [f"{name} {reprlib.repr(old.get(name))}, now {reprlib.repr(new.get(name))}" for name in names[:4]]
    return "; ".join([*shown, *([f"and {len(names) - 4} more"] if len(names) > 4 else [])])


def run_bundle(
    words: Sequence[object], log: Path, watch: Callable[[], None], keep_open: Sequence[int] = ()
) -> tuple[int, str]:
    """Run ``python -m monai.bundle run WORDS``; return its exit code and its error, or its last line of output.

    The child is terminated if this call ends early.

    Args:
        words: the workflow and its options.
        log: file to which its output is appended.
        watch: called about once a second.
        keep_open: file descriptors that the child inherits.
    """
    with log.open("ab") as output:
        start = output.tell()
        pipes = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([*MONAI, *map(str, words)], pass_fds=keep_open, **pipes)
        try:
            while process.poll() is None:
                watch()
                try:
                    process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    said = log.read_bytes()[start:].decode(errors="replace").split("\n")
    lines = [line.strip() for line in said if line.strip()] or ["no message"]
    return process.returncode, next((line for line in lines if line.startswith("Error: ")), lines[-1])
