"""Freed memory stays with the process, so that repeating an allocation causes no page faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import resource, sys, torch
from brats_clip.interactive.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def use():
    for _ in range(5):
        held = [torch.ones(10_000_000) for _ in range(3)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="concerns glibc")
def test_keep_freed_memory_avoids_page_faults():
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "bundle")}
    faults = {}
    for how in ("kept", "returned"):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True, env=environment
        )
        faults[how] = int(done.stdout)
    assert faults["kept"] < faults["returned"] / 10
