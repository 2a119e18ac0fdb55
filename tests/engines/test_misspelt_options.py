"""A misspelt option is an error wherever it is given; options known to MONAI or the configs are accepted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import monai.bundle
import pytest

from brats_clip.engines import check_options
from brats_clip.errors import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "bundle" / "configs"
PROGRAM = str(Path(monai.bundle.__file__).with_name("__main__.py"))
INFERENCE = ["--config_file", str(CONFIGS / "inference.json")]
EVALUATION = ["--config_file", str([str(CONFIGS / "train.json"), str(CONFIGS / "evaluate.json")])]


def check(*words: str) -> None:
    check_options([PROGRAM, *words])


@pytest.mark.parametrize(
    ("words", "option", "nearest"),
    [
        (["--reprot", "hello"], "--reprot", "--report"),
        (["--reprot=hello"], "--reprot", "--report"),
        (["--screen-report", "False"], "--screen_report", "--screen_reports"),
        (["--alow_missing_sequences"], "--alow_missing_sequences", "--allow_missing_sequences"),
        (["--network_dfe#guidance", "False"], "--network_dfe#guidance", "--network_def"),
        (["--network_dfe::guidance", "False"], "--network_dfe::guidance", "--network_def"),
        (["--+handlerz", "[]"], "--+handlerz", "--handlers"),
        (["--logging_flie", "x.conf"], "--logging_flie", "--logging_file"),
    ],
)
def test_error_suggests_the_nearest_option(words, option, nearest):
    with pytest.raises(InputError) as error:
        check("run", "inferring", *INFERENCE, *words)
    assert error.value.where == option and error.value.expected.startswith(f"{nearest}, or another name")
    assert error.value.expected.endswith("inference.json")


def test_error_names_the_config_files_without_a_near_option():
    with pytest.raises(InputError, match=r"--zzz: .*; expected a name at the top of train\.json or evaluate\.json\."):
        check("run", "evaluating", *EVALUATION, "--zzz", "1")


def test_option_of_another_config_is_refused():
    check("run", "evaluating", *EVALUATION, "--use_reports", "False")
    with pytest.raises(InputError, match="--use_reports"):
        check("run", "training", "--config_file", str(CONFIGS / "train.json"), "--use_reports", "False")


@pytest.mark.parametrize(
    "words",
    [
        ["--report", "hello", "--bundle_root", "bundle", "--network_def#guidance", "False"],
        ["--+handlers", "[]", "--network_def::widths", "[4,8]", "--_meta_#version", "9"],
        ["--run_id", "inferring", "--logging_file", "x.conf", "--meta_file", "m.json", "--workflow_type", "infer"],
        ["--init_id", "mine", "--mine", "$print(1)", "--finalize", "$print(2)"],
        ["--tracking", "mlflow", "--experiment_name", "a", "--save_execute_config", "False"],
    ],
    ids=["of the config", "merged and nested", "of MONAI", "of the run", "of the tracking"],
)
def test_known_options_are_accepted(words):
    check("run", *INFERENCE, *words)
    check("run_workflow", *INFERENCE, *words)


def test_keys_of_an_args_file_are_checked(tmp_path):
    file = tmp_path / "args.json"
    file.write_text(json.dumps({"config_file": INFERENCE[1], "run_id": "inferring", "report": "hello"}))
    check("run", "--args_file", str(file), "--labels", "regions")
    file.write_text(json.dumps({"config_file": INFERENCE[1], "reprot": "hello"}))
    with pytest.raises(InputError, match=r"--reprot.*--report"):
        check("run", "inferring", "--args_file", str(file))


def test_only_bundle_runs_are_checked(monkeypatch):
    wrong = ["run", "inferring", *INFERENCE, "--reprot", "hello"]
    check_options(["my_program.py", *wrong])
    check_options([PROGRAM, "ckpt_export", *INFERENCE, "--filepath", "model.ts"])
    check_options([PROGRAM])
    monkeypatch.setattr(sys, "argv", ["-c"])
    check_options()
    monkeypatch.setattr(sys, "argv", [PROGRAM, *wrong])
    with pytest.raises(InputError, match="--reprot"):
        check_options()


@pytest.mark.parametrize("name", ["train", "evaluate", "inference", "pretrain_clip"])
def test_every_workflow_checks_its_options_first(name):
    run = json.loads((CONFIGS / f"{name}.json").read_text())["run"]
    assert [step.get("_target_") for step in run[:2]] == [
        "brats_clip.engines.one_line_errors",
        "brats_clip.engines.check_options",
    ]
