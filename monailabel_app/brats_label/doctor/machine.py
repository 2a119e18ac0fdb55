"""The machine: what computes, how much room there is, and programs besides Python's."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .finding import OK, PROBLEM, WARNING, Finding

GIB = 2**30
ROOMY = 10 * GIB  # a few hundred cases, converted and resampled
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device(wanted: str) -> Iterator[Finding]:
    """The GPU, or what kind of CPU. ``wanted``: the setting ``device``."""
    import torch

    from brats_clip.precision import cpu_has_bf16

    if torch.cuda.is_available() and not wanted.startswith("cpu"):
        place = torch.device(wanted or "cuda")
        if place.index is not None and place.index >= torch.cuda.device_count():
            says = f"{wanted} was asked for; found {torch.cuda.device_count()} GPUs"
            yield Finding("device", PROBLEM, says, "--conf device cuda:0")
            return
        free, total = torch.cuda.mem_get_info(place)
        says = f"{torch.cuda.get_device_name(place)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        short = free < 4 * GIB
        yield Finding("device", WARNING if short else OK, says, "end what else uses it" if short else "")
        return
    cpu = f"CPU, {cores()} cores, {'bf16' if cpu_has_bf16() else 'no bf16, which takes longer'}"
    if wanted.startswith("cuda"):
        yield Finding("device", PROBLEM, f"{wanted} was asked for; torch finds no GPU", "--conf device cpu")
    elif not wanted and shutil.which("nvidia-smi"):
        mend = "install torch with CUDA; check that nvidia-smi lists the GPU"
        yield Finding("device", WARNING, f"{cpu}; there is an NVIDIA driver, but torch finds no GPU", mend)
    else:
        yield Finding("device", OK, cpu)


def threads() -> Iterator[Finding]:
    """How many threads compute. ``make serve`` sets OMP_NUM_THREADS itself."""
    given, available = os.environ.get("OMP_NUM_THREADS", ""), cores()
    if given.isdigit() and int(given) > available:
        says = f"OMP_NUM_THREADS is {given} with {available} cores: threads wait for one another"
        yield Finding("threads", WARNING, says, f"OMP_NUM_THREADS={available}")
    else:
        says = f"make serve computes with 2 of {available} cores; make serve CORES={available} uses all"
        yield Finding("threads", OK, says)


def dicom_seg_program() -> Iterator[Finding]:
    """The program that MONAI Label's own datastore would fetch from the internet; this app writes DICOM SEG itself."""
    name = "itkimage2segimage"
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.is_file() else "")
    if found:
        yield Finding(name, OK, found)
    else:
        says = "missing: this app does without it, other MONAI Label apps download it"
        yield Finding(name, WARNING, says, "make venv (it comes with dcmqi)")


def orthanc() -> Iterator[Finding]:
    """The DICOM server of the demo."""
    from ..demo.orthanc import OrthancMissing, find_orthanc

    try:
        program, plugin = find_orthanc()
        yield Finding("Orthanc", OK, f"{program}, {plugin.name}")
    except OrthancMissing as missing:
        says, _, mend = str(missing).partition("; ")
        yield Finding("Orthanc", WARNING, f"{says}: make serve-demo needs it", mend)


def browser() -> Iterator[Finding]:
    """What drives the viewer in the tests."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        yield Finding("Chromium", WARNING, "not installed: tests of the viewer are left out", "apt install chromium")
    elif importlib.util.find_spec("playwright") is None:
        yield Finding("Chromium", WARNING, "playwright is not installed: tests of the viewer are left out", "make venv")
    else:
        yield Finding("Chromium", OK, f"{found}, with playwright")


def room(folders: dict[str, Path], least: int) -> Iterator[Finding]:
    """Free space below each folder. ``least``: bytes that one upload may take."""
    for name, folder in {**folders, "temporary files": Path(tempfile.gettempdir())}.items():
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        says = f"{free / GIB:.1f} GiB free for {name} ({folder})"
        if free < least:
            mend = "make room, or choose another disk with --conf workspace FOLDER (TMPDIR for temporary files)"
            yield Finding("disk", PROBLEM, says, mend)
        elif free < ROOMY and name != "temporary files":
            yield Finding("disk", WARNING, says, f"{ROOMY // GIB} GiB are better; --conf workspace FOLDER moves it")
        else:
            yield Finding("disk", OK, says)


def port(number: int, host: str = "127.0.0.1") -> Iterator[Finding]:
    """Whether the server's port is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            mend = f"stop what listens there (the server itself, perhaps), or take another: PORT={number + 1}"
            yield Finding("port", WARNING, f"{number} cannot be had ({error.strerror})", mend)
        else:
            yield Finding("port", OK, f"{number} is free")
