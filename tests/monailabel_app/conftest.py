"""Fixtures shared by the tests of the app."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from brats_label.demo.orthanc import OrthancMissing, find_orthanc


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory) -> Path:
    """Return the folder for screenshots to inspect: ``ARTEFACTS``, or a temporary folder."""
    given = os.environ.get("ARTEFACTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def needs_orthanc() -> None:
    """Skip the test if Orthanc is not installed, with the reason."""
    try:
        find_orthanc()
    except OrthancMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def studies(tmp_path) -> Path:
    """Return an empty studies folder."""
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"
