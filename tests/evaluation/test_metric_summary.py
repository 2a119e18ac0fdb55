from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from brats_clip.errors import InputError
from brats_clip.evaluation import summarise, write_metrics_csv, write_summary


def row(case: str, dice_et: float, et_ml: float, **more) -> dict:
    return {"case": case, "dice_ET": dice_et, "volume_ml_ET_truth": et_ml, **more}


def test_statistics_equal_those_of_numpy():
    values = [0.1, 0.5, 0.6, 0.9, 1.0]
    summary = summarise([row(str(i), v, 1.0) for i, v in enumerate(values)])["dice_ET"]
    assert summary["mean"] == pytest.approx(np.mean(values))
    assert summary["std"] == pytest.approx(np.std(values, ddof=1))
    assert [summary[k] for k in ("q1", "median", "q3")] == pytest.approx(np.percentile(values, (25, 50, 75)))
    assert summary["n"] == 5


def test_cases_with_and_without_the_region_are_summarised_separately():
    summary = summarise([row("a", 0.6, 3.0), row("b", 0.8, 5.0), row("c", 1.0, 0.0), row("d", 0.0, 0.0)])
    assert summary["dice_ET"]["n"] == 4
    assert (summary["dice_ET_present"]["n"], summary["dice_ET_present"]["mean"]) == (2, pytest.approx(0.7))
    assert (summary["dice_ET_absent"]["n"], summary["dice_ET_absent"]["mean"]) == (2, pytest.approx(0.5))


def test_no_absent_summary_without_such_cases():
    assert "dice_ET_absent" not in summarise([row("a", 0.6, 3.0)])


def test_one_case_has_no_standard_deviation_and_nan_is_skipped():
    summary = summarise([row("a", 0.6, 1.0, hd95_ET=float("nan"), report="yes")])
    assert summary["dice_ET"]["std"] is None
    assert summary["hd95_ET"] == {"mean": None, "std": None, "median": None, "q1": None, "q3": None, "n": 0}
    assert "report" not in summary


def test_duplicate_case_is_an_error():
    with pytest.raises(InputError, match="a"):
        summarise([row("a", 0.6, 1.0), row("a", 0.6, 1.0)])


def test_csv_has_case_first_and_empty_cells_for_missing_values(tmp_path):
    path = tmp_path / "out" / "metrics.csv"
    write_metrics_csv([{"dice_WT": 0.123456789, "case": "a"}, {"case": "b, c", "dice_ET": float("nan")}], path)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["case", "dice_WT", "dice_ET"], ["a", "0.123457", ""], ["b, c", "", ""]]


def test_summary_is_strict_json_with_the_run(tmp_path):
    write_summary({"dice_WT": {"mean": np.float64(0.5), "std": float("nan")}}, tmp_path / "s.json", {"date": "today"})
    content = json.loads((tmp_path / "s.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert content == {"run": {"date": "today"}, "metrics": {"dice_WT": {"mean": 0.5, "std": None}}}
