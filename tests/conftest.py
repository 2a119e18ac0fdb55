"""Tiny synthetic patients that tests of whole workflows share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from brats_clip.cases import SEQUENCES
from brats_clip.phantoms import draw_phantom, write_phantom

SIZE, SPACING = (48, 60, 48), (4.0, 4.0, 4.0)


@dataclass(frozen=True)
class DataSet:
    """A folder of cases and the datalist that names them."""

    folder: Path
    datalist: Path
    cases: tuple[str, ...]


@pytest.fixture(scope="session")
def tiny_data_set(tmp_path_factory) -> DataSet:
    """Three phantoms at 4 mm, all of them for training and testing, one for validation. Do not change the files."""
    folder = tmp_path_factory.mktemp("phantoms")
    cases = tuple(f"PHANTOM_{index}" for index in range(3))
    entries = []
    for index, case in enumerate(cases):
        write_phantom(draw_phantom((11, index)), folder, case, SIZE, SPACING)
        images = {sequence: f"{case}/{case}_{sequence}.nii.gz" for sequence in SEQUENCES}
        entries.append(
            {"case": case, **images, "label": f"{case}/{case}_seg.nii.gz", "report": f"{case}/{case}_report.txt"}
        )
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps({"training": entries, "validation": entries[:1], "testing": entries}))
    return DataSet(folder, datalist, cases)
