"""Zero-shot evaluation of CLIP: metrics, and input that is refused before anything is encoded."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from tests.cases.case_files import write_case

REPORTS = {
    "a": "There is a mass in the left temporal lobe. It enhances.",
    "b": "A lesion in the right frontal lobe with oedema.",
    "c": "Left and right frontal lesions.",
    "d": "A lesion with oedema.",
}


@pytest.fixture
def zero_shot():
    """The script as a module."""
    import clip_zero_shot

    return clip_zero_shot


@pytest.fixture
def unencoded(zero_shot, monkeypatch):
    """The script, with encoding a case made an error."""

    def encode() -> None:
        raise AssertionError("a case was prepared")

    monkeypatch.setattr(zero_shot, "working_image", encode)
    return zero_shot


def test_sides_are_counted_only_over_one_sided_reports(zero_shot, tmp_path, capsys):
    (tmp_path / "reports.json").write_text(json.dumps(REPORTS))
    assert zero_shot.one_sided(REPORTS) == {"a": "left", "b": "right"}
    assert zero_shot.main(["--reports", str(tmp_path / "reports.json"), "--output", str(tmp_path)]) == 0
    (row,) = csv.DictReader((tmp_path / "clip_zero_shot.csv").open())
    assert (row["measure"], row["value"], row["n"], row["chance"]) == ("side from the text", "1.0", "2", "0.5")
    assert "side from the text: 1.000 (chance 0.500, 2 reports)" in capsys.readouterr().out


def test_match_rates_are_one_if_slices_equal_their_reports(zero_shot):
    axes = torch.eye(4)
    slices, reports = axes[:, None], [axis[None] for axis in axes]
    assert zero_shot.match_rates(slices, reports, group=2, seed=0) == [1.0] * 2 * zero_shot.DRAWS
    assert np.mean(zero_shot.match_rates(slices.flip(0), reports, group=4, seed=0)) == 0


@pytest.mark.parametrize("reports", [0, 1])
def test_too_few_cases_with_a_report_are_refused_before_encoding(unencoded, tmp_path, capsys, reports):
    for number in range(2):
        write_case(tmp_path / "cases", f"BraTS2021_0000{number}", report="A lesion." if number < reports else None)
    code = unencoded.main(["--cases", str(tmp_path / "cases"), "--group", "2", "--output", str(tmp_path / "out")])
    assert code == 2 and not (tmp_path / "out").exists()
    assert f"cases: found {reports} cases with a report; expected at least 2." in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--group", "0"], ["--group", "-1"], ["--group", "1"], ["--seed", "-1"]])
def test_invalid_arguments_are_refused_before_reading(unencoded, arguments):
    with pytest.raises(SystemExit) as ended:
        unencoded.main([*arguments, *(["--cases", "nowhere"] if arguments else [])])
    assert ended.value.code == 2


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"a": 1}', '{"a": "A lesion."}'])
def test_unusable_reports_give_one_error_line(zero_shot, tmp_path, capsys, content):
    (tmp_path / "reports.json").write_text(content)
    assert zero_shot.main(["--reports", str(tmp_path / "reports.json"), "--output", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ") and "reports.json" in line
