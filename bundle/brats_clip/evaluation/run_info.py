"""Facts about a run that its figures mean nothing without."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import monai
import torch

from .. import __version__
from ..errors import WeightsError


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file, as hex.

    Raises:
        WeightsError: if there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(path, "no file", "a file of weights")
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def collect_run_info(
    command: str | Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    **more: str | int | float | None,
) -> dict[str, str | int | float | None]:
    """What ran, on what, when: date, command, weights and their hash, hardware, versions, then ``more``.

    Args:
        command: the command line, as a person would type it again, or its words.
        weights: the file of weights that was evaluated.
    """
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command if command is None or isinstance(command, str) else " ".join(map(_quoted, command)),
        "weights": None if weights is None else Path(weights).name,
        "weights_sha256": None if weights is None else sha256_of(weights),
        "hardware": describe_hardware(),
        "brats_clip": __version__,
        "monai": monai.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        **more,
    }


def _quoted(word: str) -> str:
    """As a person would type it: a list of config files, with its single quotes, stands in double ones."""
    plain = "'" in word and not any(sign in word for sign in '"$`\\!')
    return f'"{word}"' if plain else shlex.quote(word)


def describe_hardware() -> str:
    """The GPUs, or the processor with its number of threads when there is none."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return f"{processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads, no GPU"


def processor() -> str:
    """The name of the CPU, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
