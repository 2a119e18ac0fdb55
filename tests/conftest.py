"""Tiny synthetic patients shared by the end-to-end tests."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import brats_clip
from brats_clip.cases import SEQUENCES
from brats_clip.phantoms import draw_phantom, write_phantom

SIZE, SPACING = (48, 60, 48), (4.0, 4.0, 4.0)
CASES = tuple(f"PHANTOM_{index}" for index in range(3))
DATALIST = "datalist.json"


@dataclass(frozen=True)
class DataSet:
    """A folder of cases and the datalist that names them."""

    folder: Path
    datalist: Path
    cases: tuple[str, ...]


@pytest.fixture(scope="session")
def tiny_data_set(request) -> DataSet:
    """Three phantoms at 4 mm, all of them for training and testing, one for validation. Tests must not edit the files.

    Drawing them takes longer than most tests, so they stay in pytest's cache until the code that draws them changes.
    """
    package = Path(brats_clip.__file__).parent
    sources = sorted([Path(__file__), *package.glob("phantoms/**/*.py"), *package.glob("reports/**/*.py")])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    folder = request.config.cache.mkdir("tiny_phantoms") / digest[:16]
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
            draw(Path(draft) / "set")
            if not folder.exists():  # another worker of pytest-xdist may have been faster
                shutil.move(Path(draft) / "set", folder)
    return DataSet(folder, folder / DATALIST, CASES)


def draw(folder: Path) -> None:
    entries = []
    for index, case in enumerate(CASES):
        write_phantom(draw_phantom((11, index)), folder, case, SIZE, SPACING)
        images = {sequence: f"{case}/{case}_{sequence}.nii.gz" for sequence in SEQUENCES}
        entries.append(
            {"case": case, **images, "label": f"{case}/{case}_seg.nii.gz", "report_path": f"{case}/{case}_report.txt"}
        )
    sections = {"training": entries, "validation": entries[:1], "testing": entries}
    (folder / DATALIST).write_text(json.dumps(sections, indent=2))
