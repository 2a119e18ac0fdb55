"""The script prepare_brats: console output, datalist and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brats_clip.cases import load_datalist
from brats_clip.labels import MSD
from tests.cases.case_files import make_label, write_case, write_nifti

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_brats.py"


def prepare(*arguments) -> subprocess.CompletedProcess:
    """Run from another folder without PYTHONPATH: the script finds its bundle by itself."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=arguments[0].parent, env=environment)


@pytest.fixture
def main():
    import prepare_brats

    return prepare_brats.main


@pytest.fixture
def dataset(tmp_path) -> Path:
    root = tmp_path / "dataset"
    for i in range(6):
        write_case(root, f"BraTS2021_0000{i}", report="A lesion.")
    return root


def test_written_list_loads_and_left_out_cases_are_printed(dataset, tmp_path):
    (dataset / "BraTS2021_00002" / "BraTS2021_00002_flair.nii.gz").unlink()
    write_nifti(dataset / "BraTS2021_00003" / "BraTS2021_00003_seg.nii.gz", make_label(et=9))
    output = tmp_path / "lists" / "datalist.json"
    result = prepare(dataset, "--output", output)
    assert result.returncode == 0, result.stderr
    for said in (
        "BraTS 2018-2022 (ET=4): 4 cases",
        "Left out (2)",
        "case BraTS2021_00002 without flair",
        "BraTS2021_00003_seg.nii.gz: found label values [0, 1, 2, 9]",
        "4 cases, 2 left out",
    ):
        assert said in result.stdout
    content = json.loads(output.read_text())
    assert sorted(content["left_out"]) == ["BraTS2021_00002", "BraTS2021_00003"]
    assert str(tmp_path) not in output.read_text()
    cases = load_datalist(output, dataset, ["training", "validation", "testing"])
    assert len(cases) == 4 and all(content["number"][s] for s in ("training", "validation", "testing"))


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_invalid_folder_gives_one_error_line_and_code_2(tmp_path, name):
    (tmp_path / "empty").mkdir()
    result = prepare(tmp_path / name, "--output", tmp_path / "datalist.json")
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1 and str(tmp_path / name) in result.stderr
    assert result.stdout == "" and not (tmp_path / "datalist.json").exists()


def test_no_usable_case_is_an_error(main, tmp_path, capsys):
    case = write_case(tmp_path / "dataset")
    Path(case["t1"]).write_bytes(b"")
    assert main([str(tmp_path / "dataset"), "--output", str(tmp_path / "datalist.json")]) == 2
    assert "none usable" in capsys.readouterr().err
    assert not (tmp_path / "datalist.json").exists()


def test_skip_image_checks_uses_only_file_names(main, dataset, tmp_path):
    (dataset / "BraTS2021_00003" / "BraTS2021_00003_t1.nii.gz").write_bytes(b"")
    output = tmp_path / "datalist.json"
    assert main([str(dataset), "--output", str(output), "--skip_image_checks"]) == 0
    assert sum(json.loads(output.read_text())["number"].values()) == 6


def test_options_reach_the_list(main, dataset, tmp_path):
    output = tmp_path / "datalist.json"
    options = ["--fractions", "0.5", "0", "0.5", "--folds", "2", "--seed", "7", "--skip_image_checks"]
    assert main([str(dataset), "--output", str(output), *options]) == 0
    content = json.loads(output.read_text())
    assert content["seed"] == 7 and content["validation"] == [] and content["training"] and content["testing"]
    assert {case["fold"] for case in content["training"]} <= {0, 1}


def test_cross_validation_is_not_printed_for_test_cases_only(main, dataset, tmp_path, capsys):
    output = ["--output", str(tmp_path / "datalist.json"), "--skip_image_checks"]
    assert main([str(dataset), *output, "--fractions", "0", "0", "1"]) == 0
    assert "fold" not in capsys.readouterr().out
    assert main([str(dataset), *output]) == 0
    assert "Cases per fold" in capsys.readouterr().out


def test_invalid_fractions_are_refused_before_the_checks(main, dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("brats_clip.cases.check_cases", lambda *args, **kwargs: pytest.fail("checked the images first"))
    output = ["--output", str(tmp_path / "datalist.json")]
    assert main([str(dataset), *output, "--fractions", "0.5", "0.5", "0.5"]) == 2
    assert "fractions: found 0.5 0.5 0.5" in capsys.readouterr().err


def test_convention_given_is_kept_for_training(main, tmp_path, capsys):
    for i in range(3):
        write_case(tmp_path / "dataset", f"BraTS2021_0000{i}", label=make_label(et=3))
    output = tmp_path / "datalist.json"
    arguments = [str(tmp_path / "dataset"), "--output", str(output)]
    assert main(arguments) == 0
    assert "a copy of MSD Task01 needs the convention given" in capsys.readouterr().out
    assert main([*arguments, "--label_convention", "msd"]) == 0
    assert f"{MSD}: 3 cases" in capsys.readouterr().out
    assert json.loads(output.read_text())["training"][0]["label_convention"] == MSD


def test_prediction_beside_the_data_does_not_exclude_its_case(main, dataset, tmp_path):
    write_nifti(dataset / "predictions" / "BraTS2021_00000_seg.nii.gz", make_label())
    output = tmp_path / "datalist.json"
    assert main([str(dataset), "--output", str(output)]) == 0
    content = json.loads(output.read_text())
    assert sum(content["number"].values()) == 6
    assert list(content["left_out"]) == ["BraTS2021_00000 in ./predictions"]


def test_list_is_reproducible(main, dataset, tmp_path):
    texts = []
    for name in ("a.json", "b.json"):
        assert main([str(dataset), "--output", str(tmp_path / name), "--workers", "3"]) == 0
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]


@pytest.mark.real
@pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR is not set: no real cases")
def test_real_cases_are_listed(main, tmp_path):
    output = tmp_path / "datalist.json"
    assert main([os.environ["BRATS_DIR"], "--output", str(output)]) == 0
    content = json.loads(output.read_text())
    assert content["left_out"] == {} and list(content["label_conventions"]) == ["BraTS 2018-2022 (ET=4)"]
