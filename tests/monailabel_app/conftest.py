"""What tests of the app share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from brats_label.demo.orthanc import OrthancMissing, find_orthanc


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory) -> Path:
    """Where pictures go that people should look at: ``ARTEFACTS``, or a temporary folder."""
    given = os.environ.get("ARTEFACTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def needs_orthanc() -> None:
    """Skip where there is no Orthanc to start, and say what is missing."""
    try:
        find_orthanc()
    except OrthancMissing as missing:
        pytest.skip(str(missing))
