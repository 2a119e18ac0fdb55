"""A ``Segmenter`` gives the same results as ``inference.json``."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.semantics import load_clip
from tests.interactive.conftest import GRIDS, NAME, write

RIGHT, LEFT = "Ring-enhancing mass in the right hemisphere. No oedema.", "Mass in the left hemisphere."
TOO_LARGE = "Mass in the right hemisphere. FLAIR abnormality of 900 ml."


def clicks_on(grid: str) -> dict:
    a, b, c = (side // 2 for side in GRIDS[grid][1])
    return {"ET": [(a, b, c), (a + 3, b, c)], "background": [(a - 6, b, c + 2)], "WT": [(1, 2, 3)]}


@pytest.fixture(scope="module")
def infer(bundle):
    """Run inference.json on a folder; return the label map and the content of its JSON file."""
    clip = load_clip(bundle / "models" / "clip")

    def run(folder, out, **options) -> tuple[nib.Nifti1Image, dict]:
        parser = ConfigParser()
        parser.read_config(bundle / "configs" / "inference.json")
        paths = {"bundle_root": str(bundle), "dataset_dir": str(folder), "output_dir": str(out)}
        parser.update({**paths, "device": torch.device("cpu"), "clip": clip, **options})
        parser.get_parsed_content("evaluator").run()
        facts = json.loads((out / NAME / f"{NAME}.json").read_text())
        return nib.load(out / NAME / f"{NAME}_seg.nii.gz"), facts

    return run


@pytest.mark.parametrize(
    ("grid", "report", "clicked"),
    [
        ("aligned", "", False),
        ("aligned", RIGHT, False),
        ("aligned", LEFT, False),
        ("aligned", TOO_LARGE, False),
        ("aligned", RIGHT, True),
        ("tilted", "", False),
        ("tilted", "", True),
        ("tilted", RIGHT, True),
    ],
)
def test_label_map_and_grid_are_the_same(segmenter, infer, tmp_path, grid, report, clicked):
    clicks = clicks_on(grid) if clicked else None
    paths = write(tmp_path / "data", grid, seed=1)
    written, facts = infer(tmp_path / "data", tmp_path / "out", report=report, clicks=clicks)
    segmenter.set_case(**paths)
    answer = segmenter.segment(report, clicks)
    assert answer.label.any() and np.array_equal(answer.label, np.asarray(written.dataobj))
    np.testing.assert_allclose(answer.affine, written.affine, atol=1e-4)
    assert facts["report"]["used"] == answer.report_used == (report in (RIGHT, TOO_LARGE))
    for region, volume in answer.volumes_ml.items():
        assert facts["volumes_ml"][region] == pytest.approx(volume, abs=0.01)
    assert facts["expected_dice"] == pytest.approx(answer.expected_dice, abs=0.01)
    assert [place["text"] for place in facts["look_here"]] == [place["text"] for place in answer.look_here]


@pytest.mark.parametrize("grid", GRIDS)
def test_label_map_is_the_same_with_alternating_clicks(segmenter, infer, tmp_path, grid):
    voxel = [side // 2 for side in GRIDS[grid][1]]
    clicks = [["ET", voxel], ["background", voxel], ["ET", voxel]]
    paths = write(tmp_path / "data", grid, seed=1)
    written, _ = infer(tmp_path / "data", tmp_path / "out", clicks=clicks)
    segmenter.set_case(**paths)
    answer = segmenter.segment(clicks=clicks)
    assert answer.label[tuple(voxel)] == 4 and np.array_equal(answer.label, np.asarray(written.dataobj))


@pytest.mark.parametrize("only", [("flair",), ("t1", "t1ce", "flair")])
@pytest.mark.parametrize("grid", GRIDS)
def test_label_map_is_the_same_with_missing_sequences(segmenter, infer, tmp_path, grid, only):
    paths = write(tmp_path / "data", grid, seed=1, only=only)
    written, facts = infer(tmp_path / "data", tmp_path / "out", allow_missing_sequences="true")
    segmenter.set_case(**paths)
    answer = segmenter.segment()
    assert np.array_equal(answer.label, np.asarray(written.dataobj))
    assert tuple(facts["sequences_missing"]) == answer.sequences_missing == tuple(s for s in SEQUENCES if s not in only)


def test_label_map_is_the_same_with_world_clicks(segmenter, infer, tmp_path):
    paths = write(tmp_path / "data", "tilted", seed=1)
    affine = GRIDS["tilted"][0]
    world = {k: [(affine @ [*v, 1])[:3].tolist() for v in voxels] for k, voxels in clicks_on("tilted").items()}
    written, _ = infer(tmp_path / "data", tmp_path / "out", clicks=world, click_space="world")
    segmenter.set_case(**paths)
    assert np.array_equal(segmenter.segment(clicks=world, space="world").label, np.asarray(written.dataobj))
    assert np.array_equal(segmenter.segment(clicks=clicks_on("tilted")).label, np.asarray(written.dataobj))


@pytest.mark.parametrize("report", ["", RIGHT])
def test_label_map_is_the_same_with_tta(bundle, segmenter, infer, tmp_path, report):
    clicks = clicks_on("aligned")
    paths = write(tmp_path / "data", "aligned", seed=1)
    written, _ = infer(tmp_path / "data", tmp_path / "out", report=report, clicks=clicks, tta=True)
    averaging = Segmenter(bundle, device="cpu", tta=True)
    averaging.set_case(**paths)
    answer = averaging.segment(report, clicks)
    assert np.array_equal(answer.label, np.asarray(written.dataobj))
    segmenter.set_case(**paths)
    assert not np.array_equal(segmenter.segment(report, clicks).label, answer.label)
