"""Zero-shot tasks with the embedded CLIP."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from brats_clip.reports import read_findings
from brats_clip.semantics import load_clip
from brats_clip.semantics.zero_shot import match_reports, nearest_statement, side_of_report


@pytest.fixture(scope="module")
def clip():
    return load_clip()


@pytest.mark.parametrize("side", ["left", "right"])
def test_side_is_read_from_a_report(clip, side):
    assert side_of_report(f"There is a mass in the {side} temporal lobe. It enhances. No necrosis.", clip) == side


def test_nearest_statement_is_the_equal_one(clip):
    said = nearest_statement(clip.encode_texts(["no enhancement"]), clip, {"a": ["no enhancement"], "b": ["oedema"]})
    assert said["a"] == pytest.approx(1.0, abs=1e-4) and said["b"] < said["a"]


def test_slices_are_matched_with_the_nearest_report():
    axes = torch.eye(3)
    slices = torch.stack([axes[[1, 1, 0]], axes[[2, 2, 2]], axes[[0, 0, 1]]])
    assert match_reports(slices, [axes[[0]], axes[[1, 1]], axes[[2]]]).tolist() == [1, 2, 0]


@pytest.mark.real
@pytest.mark.skipif("REPORTS_DIR" not in os.environ, reason="REPORTS_DIR names no folder of real reports")
def test_side_of_real_one_sided_reports_is_read(clip):
    texts = json.loads((Path(os.environ["REPORTS_DIR"]) / "textbrats_train_reports.json").read_text()).values()
    sides = {text: read_findings(text)["sides"] for text in texts}
    known = {text: found[0] for text, found in sides.items() if found in (("left",), ("right",))}
    assert len(known) > 150
    right = sum(side_of_report(text, clip) == side for text, side in known.items())
    assert right / len(known) >= 0.95
