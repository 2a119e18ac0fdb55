"""Metadata of a run, needed to interpret its results."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import monai
import torch

from .. import __version__, bundle_root
from ..errors import InputError, WeightsError


def sha256_of(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file, as hex.

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


def note_training_cases(run: dict[str, Any], cases: Iterable[str]) -> str:
    """Add to the metadata of a run how many of its cases the weights were trained on; return a warning, or ""."""
    seen = _training_cases(run.get("weights_sha256"), cases)
    if not seen:
        return ""
    run["trained on"] = f"{len(seen)} of these cases, whose Dice is therefore too high"
    return f"The weights were trained on {run['trained on']}: {', '.join(seen)}."


def refuse_training_cases(weights: str | os.PathLike, cases: Iterable[str]) -> None:
    """Refuse ``weights`` that were trained on some of ``cases``.

    Raises:
        InputError: with their number and one of their names.
    """
    if seen := _training_cases(sha256_of(weights), cases):
        found = f"weights trained on {len(seen)} of these cases ({seen[0]}, ...)"
        raise InputError(weights, found, "weights that saw none, such as bundle/models/model_phantoms.pt")


def _training_cases(weights_sha256: str | None, cases: Iterable[str]) -> list[str]:
    """Return those of ``cases`` that shipped weights were trained on, by the names in ``training_cases.json``."""
    path = bundle_root() / "models" / "training_cases.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if weights_sha256 is None or content.get("weights_sha256") != weights_sha256:
        return []
    names = {name for case, others in content["cases"].items() for name in (case, *others)}
    return sorted(names.intersection(cases))


def collect_run_info(
    command: str | Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    **more: str | int | float | None,
) -> dict[str, str | int | float | None]:
    """Collect the metadata of a run: date, command, weights and their hash, hardware, versions, then ``more``.

    Args:
        command: the command line, ready for a shell, or a list of its words.
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
    """Quote a word for a shell; a word with single quotes, such as a list of config files, gets double quotes."""
    plain = "'" in word and not any(sign in word for sign in '"$`\\!')
    return f'"{word}"' if plain else shlex.quote(word)


def describe_hardware() -> str:
    """Return the GPUs or, if there are none, the CPU and its number of threads."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return f"{processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads, no GPU"


def processor() -> str:
    """Return the name of the CPU, or its architecture if the system does not report the name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
