"""Fitting of predicted quality, on answers with known errors."""

from __future__ import annotations

from types import SimpleNamespace

import fit_quality
import numpy as np
import pandas as pd
import pytest
import torch

from brats_clip.evaluation import region_dice
from brats_clip.labels import REGIONS, label_to_regions
from brats_clip.quality import Circumstances, QualityModel
from brats_clip.transforms import clean_label
from measuring import quality, quality_fit
from measuring.quality_data import Record, _sample, with_groups
from tests.cases.case_files import write_case
from tests.quality.test_predicted_quality import BRAIN, CENTRE, GEOMETRY, SHAPE, ball

LEAST = (0.0, 0.0, 0.0)


def record(number: int) -> Record:
    """Return an overconfident answer whose error grows as its confidence falls."""
    random = np.random.default_rng(number)
    off = random.uniform(0, 8)
    steep = 6 / (1 + off)
    radii = (18, 11, 7)
    logits = torch.from_numpy(np.stack([ball(CENTRE, radius, steep) for radius in radii])).float()
    moved = tuple(c + o for c, o in zip(CENTRE, (0, off, 0), strict=True))
    regions = torch.from_numpy(np.stack([ball(moved, radius) > 0 for radius in radii]))
    truth, label = clean_label(regions, 0.001), clean_label(logits > 0, 0.001)
    rows, targets, weights = _sample(logits, label_to_regions(truth), torch.ones(SHAPE, dtype=torch.bool), number)
    dice = region_dice(label[0].numpy(), truth[0].numpy())
    return Record(
        case=f"case{number}",
        way="without",
        group=f"fold{number % 4}",
        real=bool(number % 2),
        logits=logits.half().numpy(),
        label=label[0].numpy(),
        truth=truth[0].numpy(),
        brain=BRAIN.numpy(),
        inside=int(np.prod(SHAPE)),
        outside=np.zeros(3),
        corner=np.zeros(3, int),
        geometry=GEOMETRY,
        known=Circumstances(),
        dice=np.array([dice[f"dice_{region}"] for region in REGIONS]),
        volume_ml=label_to_regions(truth).flatten(1).sum(dim=1).numpy() / 1000,
        rows=rows,
        targets=targets,
        weights=weights,
    )


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [record(number) for number in range(12)]


def test_fit_reduces_dice_and_calibration_errors(records):
    def error(model: QualityModel) -> float:
        rows = [quality.compare(r, model) for r in records]
        return float(np.mean([abs(row["dice_mean"] - row["expected_mean"]) for row in rows]))

    fitted = quality_fit.fit(records, LEAST)
    assert error(fitted) < 0.06 < error(QualityModel())
    for name in ("ece_WT", "ece_doubt_WT"):
        before, after = (
            np.mean([quality_fit.calibration_error(r, m)[name] for r in records]) for m in (QualityModel(), fitted)
        )
        assert after < before


def test_held_out_predictions_exclude_their_own_group(records, monkeypatch):
    monkeypatch.setattr(quality_fit, "fit", lambda used, least: {r.group for r in used})
    found = quality_fit.held_out(records, LEAST)
    assert {r.case for r, _ in found} == {r.case for r in records}
    assert all(groups == {r.group for r in records} - {one.group} for one, groups in found)


def test_interval_covers_its_nominal_share(records):
    fitted = quality_fit.fit(records, LEAST)
    rows = [quality.compare(r, fitted) for r in records]
    for region in REGIONS:
        assert np.mean([row[f"inside_{region}"] for row in rows]) >= fitted.coverage - 0.1


def test_first_place_is_compared_with_the_truth(records):
    worst = max(records, key=lambda r: -r.dice.mean())
    row = quality.compare(worst, quality_fit.fit(records, LEAST))
    assert row["first_hit"] is True and row["first_wrong"] > 0.1
    elsewhere = {"region": "WT", "voxel": [10, 10, 10], "radius_mm": 6.0}
    assert quality.overlaps(worst, elsewhere) == (False, 0.0)


def test_truth_is_revealed_only_within_places():
    answer = SimpleNamespace(label=np.zeros((20, 20, 20), np.uint8), voxel_mm=(1.0, 1.0, 2.0))
    truth = np.full((20, 20, 20), 2, np.uint8)
    seen = quality._within(answer, truth, [{"voxel": [10, 10, 10], "radius_mm": 4.0}])
    assert seen[10, 13, 10] == seen[10, 10, 12] == 2 and seen[10, 15, 10] == seen[10, 10, 13] == 0
    assert not quality._within(answer, truth, []).any()


def test_correcting_the_worst_first_gains_more_than_random_order():
    dice = pd.Series([0.9, 0.1, 0.8, 0.9, 0.7, 0.8, 0.9, 0.5, 0.9, 0.5])  # 3.0 below 1, of which 1.9 in three cases
    assert quality.gain_of_order(dice, dice) == round(1.9 / 3 / 0.3, 2)
    assert quality.gain_of_order(-dice, dice) == round(0.3 / 3 / 0.3, 2)
    assert quality.gain_of_order(dice, dice * 0 + 1) is None


def test_patients_stay_together_in_a_group():
    cases = [{"case": f"BraTS-GLI-{patient:05d}-{visit:03d}"} for patient in range(5) for visit in range(2)]
    groups = with_groups(cases, ("a", "b"), real=True)
    assert {len({c["group"] for c in groups if c["case"][:15] == name["case"][:15]}) for name in cases} == {1}
    assert {c["group"] for c in groups} == {"a", "b"} and all(c["real"] for c in groups)


def test_invalid_options_are_refused(capsys):
    for argv in ([], ["--phantoms", "x", "--limit", "0"]):
        with pytest.raises(SystemExit):
            fit_quality.main(argv)
    assert "needs --phantoms, --cross_validation or --cases" in capsys.readouterr().err


def test_curves_of_the_correction_order_are_drawn_for_scans_and_phantoms(tmp_path):
    dice = (0.9, 0.1, 0.8, 0.5)
    rows = [
        {"case": f"{kind}{i}", "kind": kind, "dice_mean": value, "expected_mean": value}
        for kind in quality.KINDS.values()
        for i, value in enumerate(dice)
    ]
    quality.draw_order([*rows, rows[0]], tmp_path / "order", seed=0)  # a second answer for a case does not count
    text = (tmp_path / "order.svg").read_text()
    assert (tmp_path / "order.png").stat().st_size > 10_000
    assert text.count("<!-- queue -->") == 2 and "<!-- 4 scans: mean Dice of the archive -->" in text


def test_cases_that_the_weights_were_trained_on_are_refused(tmp_path, capsys):
    write_case(tmp_path / "cases", "BraTS2021_00006")
    arguments = ["--cases", str(tmp_path / "cases"), "--output", str(tmp_path / "out")]
    assert fit_quality.main(arguments) == 2
    assert "trained on 1 of these cases (BraTS2021_00006" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.npz"))
