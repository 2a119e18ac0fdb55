"""The checks of ``make doctor``. Packages are imported only inside the checks that need them.

This module checks the machine: Python and its packages, GPU and CPU, free disk space, and other programs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

OK, WARNING, PROBLEM = "OK", "WARNING", "PROBLEM"
GIB = 2**30
ROOMY = 10 * GIB  # enough for a few hundred cases, converted and resampled
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# An installed package has no Makefile.
CHECKOUT = (Path(__file__).resolve().parents[3] / "Makefile").is_file()
INSTALL = "make venv" if CHECKOUT else "pip install '.[app]' in the repository's folder"
REPAIR = INSTALL + ", after removing the file requirements.installed in the environment's folder" * CHECKOUT
# Version limits of MONAI Label 0.8.5 that its metadata does not declare.
LIMITS = {"pydicom": "<3", "pynetdicom": "<3", "dicomweb-client": "<0.60", "numpy": "<2"}
_DEVELOPMENT = "# Development."  # the server does not need the packages after this line of requirements.txt


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: name of the check.
        level: OK; WARNING if something works only in part; PROBLEM if the server cannot work.
        says: what was found.
        remedy: what to do about it; "" if nothing needs to be done.
    """

    check: str
    level: str
    says: str
    remedy: str = ""


def guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield the findings of ``look``; an exception becomes a problem, so that the other checks continue."""
    try:
        yield from look()
    except ImportError as error:
        yield Finding(check, PROBLEM, f"cannot be checked: {error}", INSTALL)
    except Exception as error:
        yield Finding(check, PROBLEM, f"cannot be checked: {type(error).__name__}: {error}", "correct what it names")


def counted(number: int, thing: str) -> str:
    """Return ``1 case``, ``2 cases`` and so on."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Pin(NamedTuple):
    """A line of requirements.txt."""

    name: str
    version: str
    served: bool


def python(root: Path) -> Iterator[Finding]:
    """Check the running Python against ``requires-python``."""
    from packaging.specifiers import SpecifierSet

    found = re.search(r'^requires-python = "(.+)"', (root / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    wanted, here = found.group(1), platform.python_version()
    if SpecifierSet(wanted).contains(here, prereleases=True):
        yield Finding("Python", OK, here)
    else:
        remedy = "install Python 3.11 and run PYTHON_FOR_VENV=python3.11 make venv"
        yield Finding("Python", PROBLEM, f"{here}; the project needs {wanted}", remedy)


def pins(root: Path) -> list[Pin]:
    """Return the packages that requirements.txt pins."""
    listed, served = [], True
    for line in (root / "requirements.txt").read_text(encoding="utf-8").splitlines():
        served = served and not line.startswith(_DEVELOPMENT)
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s;#]+)", line):
            listed.append(Pin(match[1], match[2], served))
    return listed


def packages(root: Path) -> Iterator[Finding]:
    """Check installed versions against the pins and against ``LIMITS``."""
    from packaging.specifiers import SpecifierSet

    listed, sound = pins(root), 0
    for pin in listed:
        limit = LIMITS.get(pin.name, "")
        try:
            here = importlib.metadata.version(pin.name)
        except importlib.metadata.PackageNotFoundError:
            level = PROBLEM if pin.served else WARNING
            yield Finding(pin.name, level, f"is not installed; {pin.version} is pinned", REPAIR)
            continue
        if not SpecifierSet(limit).contains(here, prereleases=True):
            yield Finding(pin.name, PROBLEM, f"{here}; MONAI Label needs {pin.name}{limit}", REPAIR)
        elif not SpecifierSet(f"=={pin.version}").contains(here, prereleases=True):
            says = f"{here}, which was not tested; {pin.version} is pinned"
            yield Finding(pin.name, WARNING, says, REPAIR)
        else:
            sound += 1
    yield Finding("packages", OK, f"{sound} of {len(listed)} as requirements.txt pins them")


def torch_fits_torchvision() -> Iterator[Finding]:
    """Check that torchvision was built for this torch; otherwise its import fails."""
    from packaging.requirements import Requirement

    here = importlib.metadata.version("torch")
    lines = map(Requirement, importlib.metadata.requires("torchvision") or ())
    built_for = next((line.specifier for line in lines if line.name == "torch"), None)
    version = importlib.metadata.version("torchvision")
    if built_for is not None and not built_for.contains(here, prereleases=True):
        yield Finding("torchvision", PROBLEM, f"{version} was built for torch{built_for}; found {here}", REPAIR)
    else:
        yield Finding("torchvision", OK, f"{version} fits torch {here}")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device(wanted: str) -> Iterator[Finding]:
    """Check the GPU or CPU. ``wanted``: the setting ``device``."""
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
        yield Finding("device", WARNING if short else OK, says, "end other programs that use it" if short else "")
        return
    cpu = f"CPU, {cores()} cores, {'bf16' if cpu_has_bf16() else 'no bf16, which takes longer'}"
    if wanted.startswith("cuda"):
        yield Finding("device", PROBLEM, f"{wanted} was asked for; torch finds no GPU", "--conf device cpu")
    elif not wanted and shutil.which("nvidia-smi"):
        remedy = "install torch with CUDA; check that nvidia-smi lists the GPU"
        yield Finding("device", WARNING, f"{cpu}; there is an NVIDIA driver, but torch finds no GPU", remedy)
    else:
        yield Finding("device", OK, cpu)


def threads() -> Iterator[Finding]:
    """Check the number of compute threads. ``make serve`` sets OMP_NUM_THREADS itself."""
    given, available = os.environ.get("OMP_NUM_THREADS", ""), cores()
    if given.isdigit() and int(given) > available:
        says = f"OMP_NUM_THREADS is {given} with {available} cores: threads wait for one another"
        yield Finding("threads", WARNING, says, f"OMP_NUM_THREADS={available}")
    else:
        says = f"make serve computes with 2 of {available} cores; make serve CORES={available} uses all"
        yield Finding("threads", OK, says)


def dicom_seg_program() -> Iterator[Finding]:
    """Check for the program that MONAI Label's own datastore would download; this app writes DICOM SEG itself."""
    name = "itkimage2segimage"
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.is_file() else "")
    if found:
        yield Finding(name, OK, found)
    else:
        says = "missing: this app does without it, other MONAI Label apps download it"
        yield Finding(name, WARNING, says, f"{INSTALL} (it comes with dcmqi)")


def orthanc() -> Iterator[Finding]:
    """Check for the DICOM server of the demo."""
    from ..demo.orthanc import OrthancMissing, find_orthanc

    try:
        program, plugin = find_orthanc()
        yield Finding("Orthanc", OK, f"{program}, {plugin.name}")
    except OrthancMissing as missing:
        says, _, remedy = str(missing).partition("; ")
        yield Finding("Orthanc", WARNING, f"{says}: make serve-demo needs it", remedy)


def browser() -> Iterator[Finding]:
    """Check for the browser that the tests of the viewer use."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        yield Finding("Chromium", WARNING, "not installed: tests of the viewer are left out", "apt install chromium")
    elif importlib.util.find_spec("playwright") is None:
        yield Finding("Chromium", WARNING, "playwright is not installed: tests of the viewer are left out", INSTALL)
    else:
        yield Finding("Chromium", OK, f"{found}, with playwright")


def room(folders: dict[str, Path], least: int) -> Iterator[Finding]:
    """Check the free space for each folder. ``least``: bytes that one upload may need."""
    for name, folder in {**folders, "temporary files": Path(tempfile.gettempdir())}.items():
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        says = f"{free / GIB:.1f} GiB free for {name} ({folder})"
        if free < least:
            remedy = "free some space, or choose another disk with --conf workspace FOLDER (TMPDIR for temporary files)"
            yield Finding("disk", PROBLEM, says, remedy)
        elif free < ROOMY and name != "temporary files":
            yield Finding("disk", WARNING, says, f"{ROOMY // GIB} GiB are better; --conf workspace FOLDER moves it")
        else:
            yield Finding("disk", OK, says)


def port(number: int, host: str = "127.0.0.1") -> Iterator[Finding]:
    """Check that the server's port is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            remedy = f"stop what listens there (perhaps the server itself), or use another: PORT={number + 1}"
            yield Finding("port", WARNING, f"{number} cannot be used ({error.strerror})", remedy)
        else:
            yield Finding("port", OK, f"{number} is free")
