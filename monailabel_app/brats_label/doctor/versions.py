"""Python and packages, against what the project says it needs."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .finding import OK, PROBLEM, WARNING, Finding

REPAIR = "make venv, after removing the file requirements.installed in the environment's folder"
# What MONAI Label 0.8.5 cannot live with, though it does not say so itself.
LIMITS = {"pydicom": "<3", "pynetdicom": "<3", "dicomweb-client": "<0.60", "numpy": "<2"}
_DEVELOPMENT = "# Development."  # what comes after it in requirements.txt, the server does not need


class Pin(NamedTuple):
    """A line of requirements.txt."""

    name: str
    version: str
    served: bool


def python(root: Path) -> Iterator[Finding]:
    """The Python that runs, against ``requires-python``."""
    from packaging.specifiers import SpecifierSet

    found = re.search(r'^requires-python = "(.+)"', (root / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    wanted, here = found.group(1), platform.python_version()
    if SpecifierSet(wanted).contains(here, prereleases=True):
        yield Finding("Python", OK, here)
    else:
        mend = "install Python 3.11 and run PYTHON_FOR_VENV=python3.11 make venv"
        yield Finding("Python", PROBLEM, f"{here}; the project needs {wanted}", mend)


def pins(root: Path) -> list[Pin]:
    """What requirements.txt pins."""
    listed, served = [], True
    for line in (root / "requirements.txt").read_text(encoding="utf-8").splitlines():
        served = served and not line.startswith(_DEVELOPMENT)
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s;#]+)", line):
            listed.append(Pin(match[1], match[2], served))
    return listed


def packages(root: Path) -> Iterator[Finding]:
    """Installed versions, against the pins, and against what is known not to work."""
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
    """Whether torchvision was built for this torch; it dies at import otherwise."""
    from packaging.requirements import Requirement

    here = importlib.metadata.version("torch")
    lines = map(Requirement, importlib.metadata.requires("torchvision") or ())
    built_for = next((line.specifier for line in lines if line.name == "torch"), None)
    version = importlib.metadata.version("torchvision")
    if built_for is not None and not built_for.contains(here, prereleases=True):
        yield Finding("torchvision", PROBLEM, f"{version} was built for torch{built_for}; found {here}", REPAIR)
    else:
        yield Finding("torchvision", OK, f"{version} fits torch {here}")
