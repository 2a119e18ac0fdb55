from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from brats_clip.cases import SEQUENCES, load_cases
from brats_clip.evaluation import case_metrics, draw_overlay
from brats_clip.transforms.load_case import LoadCased

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR names no folder of real cases"),
]


def test_eroded_and_shifted_label_has_plausible_scores_and_picture(tmp_path: Path):
    case = LoadCased(allow_missing_label=False)(load_cases(os.environ["BRATS_DIR"])[0])
    label, affine = case["label"][0].numpy(), case["label"].affine.numpy()
    inside = binary_erosion(label > 0, iterations=2)
    prediction = np.roll(np.where(inside, label, 0), 1, axis=0).astype(np.uint8)
    row = case_metrics(prediction, label, (1, 1, 1))
    assert 0.6 < row["dice_WT"] < 0.98
    assert 1 < row["hd95_WT"] < 15
    assert row["volume_ml_WT"] < row["volume_ml_WT_truth"]
    images = {name: case["image"][SEQUENCES.index(name)].numpy() for name in ("flair", "t1ce")}
    draw_overlay(tmp_path / "case.png", images, prediction, affine, label)
    assert 30_000 < (tmp_path / "case.png").stat().st_size < 250_000
