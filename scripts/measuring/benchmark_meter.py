"""The seconds and the memory that an answer takes in this process."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from pathlib import Path

import nibabel as nib
import torch

from .benchmark_networks import Answer

GIB = 2**30


def peak_bytes() -> int:
    """The most memory this process has held.

    On Linux not ``ru_maxrss``: there a process inherits the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def start_peak_anew() -> None:
    """Let ``peak_bytes`` count from now on; where the system cannot, it goes on counting from the start."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Meter:
    """Take the time and the memory of one answer after another. Make it after the imports, before the network."""

    def __init__(self, device: torch.device, folder: Path):
        self.device, self.folder = device, folder
        self.rows: list[dict] = []
        start_peak_anew()
        self.imports = peak_bytes()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def take(self, name: str, answer: Answer) -> dict:
        """Run ``answer``, write what it gives, and return (and keep) what that took."""
        first = not self.rows
        if not first:  # the peak of a first answer includes building the network
            start_peak_anew()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        begun = self._now()
        label, affine = answer()
        answered = self._now()
        nib.save(nib.Nifti1Image(label, affine), self.folder / "mask.nii.gz")
        written = self._now()
        peak = peak_bytes()
        row = {"answer": name, "seconds": (written if first else answered) - begun, "writing": written - answered}
        row |= {"peak_gib": peak / GIB, "above_imports_gib": (peak - self.imports) / GIB}
        if self.device.type == "cuda":
            row["gpu_gib"] = torch.cuda.max_memory_allocated(self.device) / GIB
        self.rows.append(row)
        return row
