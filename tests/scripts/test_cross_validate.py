"""Cross-validation: assignment to folds, options of training and scoring, and resuming after an interruption."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest

from brats_clip import bundle_root
from brats_clip.cases import SEQUENCES
from brats_clip.errors import InputError
from measuring import bundle_run
from measuring.command import make_console
from measuring.cross_validation import assign_folds, headline
from measuring.shared import chosen_cases, measure_cases
from tests.bundle.conftest import TINY_GRID, TINY_NETWORK, TINY_TRAINING

SCRIPT = Path(__file__).parents[2] / "scripts" / "cross_validate.py"

# Stand-in for python -m monai.bundle run: records its arguments, and writes the output files of the bundle.
STAND_IN = """
import json, pathlib, sys

here, stage, arguments = pathlib.Path(__file__).parent, sys.argv[1], sys.argv[2:]
options = dict(zip(arguments[::2], arguments[1::2], strict=True))
datalist = json.loads(pathlib.Path(options["--datalist"]).read_text())
with (here / "calls.txt").open("a") as calls:
    calls.write(json.dumps([stage, options, datalist]) + "\\n")
bad = here / "bad.txt"
if bad.exists() and bad.read_text() in f"{stage} {options['--output_dir']}":
    print("Error: memory: found none; expected some.")
    sys.exit(3)
out = pathlib.Path(options["--output_dir"])
out.mkdir(parents=True, exist_ok=True)
if stage == "training":
    (out / "checkpoints").mkdir(exist_ok=True)
    (out / "checkpoints" / "model.pt").touch()
    (out / "checkpoints" / "checkpoint_epoch=2.pt").touch()
else:
    assert pathlib.Path(options["--checkpoint"]).is_file()
    regions = ("WT", "TC", "ET")
    columns = ["case", *(f"{m}_{r}" for m in ("dice", "hd95", "lesionwise_dice") for r in (*regions, "mean"))]
    columns += [f"volume_ml_{r}{end}" for r in regions for end in ("", "_truth")]
    rows = [",".join([case["case"]] + ["0.5"] * (len(columns) - 1)) for case in datalist["testing"]]
    (out / "metrics.csv").write_text("\\n".join([",".join(columns), *rows]))
"""


def write_cases(folder: Path, *names: str) -> Path:
    """Write cases of empty files, which are never read."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for ending in (*SEQUENCES, "seg"):
            (folder / name / f"{name}_{ending}.nii.gz").touch()
    return folder


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """Run the command on six cases and two phantoms with a stand-in for the bundle; return exit code and calls."""
    import cross_validate

    (tmp_path / "stand_in.py").write_text(STAND_IN)
    calls = tmp_path / "calls.txt"
    monkeypatch.setattr(bundle_run, "MONAI", (sys.executable, str(tmp_path / "stand_in.py")))
    first, second = write_cases(tmp_path / "one", *"ABCD"), write_cases(tmp_path / "two", *"EF")
    write_cases(tmp_path / "phantoms", "P1", "P2")

    def run(*arguments: str) -> tuple[int, list]:
        calls.write_text("")
        own = ["--cases", str(first), str(second), "--output", str(tmp_path / "out"), *arguments]
        return cross_validate.main(own), [json.loads(line) for line in calls.read_text().splitlines()]

    return run


def names(entries: list[dict]) -> list[str]:
    return [entry["case"] for entry in entries]


def test_folds_are_by_patient_of_equal_size_and_the_same_in_any_order():
    cases = [f"BraTS-GLI-{patient:05d}-{visit:03d}" for patient in range(10) for visit in range(2)]
    place = assign_folds(cases, 5, seed=0)
    assert place == assign_folds(cases[::-1], 5, seed=0)
    assert place != assign_folds(cases, 5, seed=1)
    assert all(place[a] == place[b] for a, b in zip(cases[::2], cases[1::2], strict=True))
    assert sorted(place.values()) == sorted([*range(5)] * 4)


def test_each_case_is_scored_once_by_weights_not_trained_on_it(validate, tmp_path):
    code, calls = validate("--folds", "3", "--epochs", "2", "--phantoms", str(tmp_path / "phantoms"))
    assert code == 0 and [stage for stage, *_ in calls] == ["training", "evaluating"] * 3
    tested = []
    for stage, options, datalist in calls:
        test, training = names(datalist["testing"]), names(datalist["training"])
        assert len(test) == 2 and sorted(test + training) == sorted([*"ABCDEF", "P1", "P2"])
        assert not {*test} & {*training, *names(datalist["validation"])}
        assert {e["case"] for e in datalist["training"] if e.get("synthetic")} == {"P1", "P2"}
        if stage == "evaluating":
            tested += test
            assert options["--checkpoint"].startswith(str(Path(options["--output_dir"]).parent))
    assert sorted(tested) == [*"ABCDEF"]
    table = pd.read_csv(tmp_path / "out" / "metrics.csv")
    folds = json.loads((tmp_path / "out" / "folds.json").read_text())["folds"]
    assert dict(zip(table["case"], table["fold"], strict=True)) == folds
    page = (tmp_path / "out" / "table.md").read_text()
    assert "| WT | 6 | 0.500 ± 0.000 | 0.500 |" in page and "| A |" in page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["run"]["headline"]["dice_mean"] == 0.5 and summary["metrics"]["dice_WT"]["n"] == 6


def test_options_reach_training_and_scoring_uses_no_report(validate, tmp_path):
    weights = tmp_path / "start.pt"
    weights.touch()
    some = ("--folds", "2", "--epochs", "7", "--seed", "3", "--pretrained", str(weights))
    more = ("--phantoms", str(tmp_path / "phantoms"), "--phantom_share", "0.3", "--set", "learning_rate=0.01")
    code, ((_, training, _), (_, scoring, _), *_) = validate(*some, *more, "train#click_rounds#rounds=2")
    assert code == 0
    given = {"epochs": "7", "val_interval": "7", "seed": "3", "synthetic_share": "0.3", "learning_rate": "0.01"}
    given |= {"train#click_rounds#rounds": "2", "pretrained": str(weights)}
    assert {name: training[f"--{name}"] for name in given} == given
    assert "mix_phantoms.json" in training["--config_file"] and "evaluate.json" in scoring["--config_file"]
    assert scoring["--use_reports"] == "False" and "--pretrained" not in scoring


def test_weights_that_were_trained_on_the_cases_are_refused(validate, tmp_path, capsys):
    write_cases(tmp_path / "one", "BraTS2021_00006")
    code, calls = validate("--folds", "2", "--pretrained", str(bundle_root() / "models" / "model.pt"))
    assert code == 2 and not calls and "trained on 1 of these cases (BraTS2021_00006" in capsys.readouterr().err
    code, _ = validate("--folds", "2", "--pretrained", str(bundle_root() / "models" / "model_phantoms.pt"))
    assert code == 0


def test_later_stages_start_from_the_weights_of_their_fold(validate, tmp_path):
    given = ("--folds", "2", "--epochs", "7", "--then", "train_findings=3", "train_clicks=2")
    code, calls = validate(*given, "--set", "learning_rate=0.01", "patch_size=[96,96,96]")
    assert code == 0 and [stage for stage, *_ in calls] == (["training"] * 3 + ["evaluating"]) * 2
    (_, first, _), (_, findings, _), (_, clicks, _), (_, scoring, _) = calls[:4]
    assert findings["--pretrained"].startswith(first["--output_dir"]) and "--pretrained" not in first
    assert clicks["--pretrained"].startswith(findings["--output_dir"]) and clicks["--epochs"] == "2"
    assert scoring["--checkpoint"].startswith(clicks["--output_dir"])
    # Data settings apply to every stage; the learning rate of a later stage comes from its own config.
    assert len({stage["--patch_size"] for stage in (first, findings, clicks)}) == 1 and "96" in first["--patch_size"]
    assert first["--learning_rate"] == "0.01" and "--learning_rate" not in findings
    assert [f"train_{part}.json" in clicks["--config_file"] for part in ("findings", "clicks")] == [False, True]
    assert validate(*given, "--set", "learning_rate=0.01", "patch_size=[96,96,96]") == (0, [])


def test_mix_phantoms_config_is_not_used_without_phantoms(validate):
    code, calls = validate("--folds", "2", "--epochs", "1")
    assert code == 0 and not any("mix_phantoms" in options["--config_file"] for _, options, _ in calls)


def test_finished_folds_are_skipped_and_a_failed_fold_stops_no_other(validate, tmp_path, capsys):
    (tmp_path / "bad.txt").write_text("evaluating " + str(tmp_path / "out" / "fold0"))
    code, calls = validate("--folds", "2", "--epochs", "2")
    assert code == 1 and len(calls) == 4
    assert "fold 0: evaluating ended with code 3: memory: found none" in capsys.readouterr().err
    assert "not in the table: fold 0" in (tmp_path / "out" / "table.md").read_text()
    (tmp_path / "bad.txt").unlink()
    code, calls = validate("--folds", "2", "--epochs", "2")
    assert code == 0 and [stage for stage, *_ in calls] == ["evaluating"]
    assert validate("--folds", "2", "--epochs", "2") == (0, [])
    assert not list((tmp_path / "out").glob("fold*/training/checkpoints/checkpoint_*"))


def test_another_scoring_needs_no_training_and_keeps_the_first_table(validate, tmp_path, capsys):
    some = ("--folds", "2", "--epochs", "2")
    validate(*some)
    first = (tmp_path / "out" / "table.md").read_bytes()
    code, calls = validate(*some, "--name", "reports", "--score", "use_reports=True")
    assert code == 0 and [(stage, o["--use_reports"]) for stage, o, _ in calls] == [("evaluating", "True")] * 2
    assert (tmp_path / "out" / "table.md").read_bytes() == first
    assert (tmp_path / "out" / "reports" / "table.md").is_file()
    assert validate(*some, "--score", "use_reports=True") == (2, [])
    assert "another way of scoring (settings#use_reports 'False', now 'True')" in capsys.readouterr().err


def test_only_selects_folds_and_final_trains_on_all_cases(validate, tmp_path):
    code, calls = validate("--folds", "3", "--epochs", "2", "--only", "1", "--final")
    assert code == 0
    assert [Path(o["--output_dir"]).relative_to(tmp_path / "out").as_posix() for _, o, _ in calls] == [
        "fold1/training",
        "fold1/evaluation",
        "all/training",
    ]
    assert names(calls[-1][2]["training"]) == [*"ABCDEF"]


def test_fewer_training_patients_are_nested_and_scored_on_the_same_cases(validate, tmp_path):
    training, tested = [], []
    for number in ("1", "3", "9"):
        code, calls = validate("--folds", "3", "--only", "1", "--patients", number, "--output", str(tmp_path / number))
        assert code == 0
        training.append({*names(calls[0][2]["training"])})
        tested.append(names(calls[0][2]["testing"]))
    assert [len(some) for some in training] == [1, 3, 4] and training[0] < training[1] < training[2]
    assert tested[0] == tested[1] == tested[2]


def test_one_checkpoint_is_scored_on_all_cases(validate, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"1")
    code, calls = validate("--score_only", "--checkpoint", str(weights))
    assert code == 0 and [(stage, o["--checkpoint"]) for stage, o, _ in calls] == [("evaluating", str(weights))]
    assert names(calls[0][2]["testing"]) == [*"ABCDEF"]
    assert len(pd.read_csv(tmp_path / "out" / "metrics.csv")) == 6
    weights.write_bytes(b"2")
    assert validate("--score_only", "--checkpoint", str(weights)) == (2, [])


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        (["--folds", "7"], "6 labelled patients; expected at least one for each of 7 folds"),
        (["--set", "learningrate=1"], "--learningrate; expected a setting of train.json"),
        (["--set", "epochs=1"], "this script's own option"),
        (["--set", "batch_size"], "'batch_size'; expected KEY=VALUE"),
        (["--phantoms", "one"], "case A, which another folder has, too"),
        (["--name", "a/b"], "a name without folders"),
        (["--then", "train_more=2"], "expected NAME=EPOCHS"),
        (["--then", "train_clicks"], "expected NAME=EPOCHS"),
    ],
)
def test_invalid_input_gives_one_error_line(validate, tmp_path, capsys, monkeypatch, arguments, mentioned):
    monkeypatch.chdir(tmp_path)
    assert validate(*arguments) == (2, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cross_validate: ") and mentioned in line


def test_other_settings_in_the_same_folder_are_an_error(validate, capsys):
    validate("--folds", "2", "--epochs", "2")
    assert validate("--folds", "3", "--epochs", "2", "--set", "batch_size=2") == (2, [])
    assert "other settings (folds 2, now 3; set batch_size None, now 2)" in capsys.readouterr().err


def test_headline_separates_small_and_false_et():
    volumes = {"volume_ml_ET_truth": [5.0, 0.5, 0.0, 0.0], "volume_ml_ET": [4.0, 1.0, 0.25, 0.0]}
    scores = pd.DataFrame({"dice_ET": [0.8, 0.2, 0.0, 1.0], **volumes})
    for column in ("dice", "hd95", "lesionwise_dice"):
        for region in ("WT", "TC", "ET", "mean"):
            if f"{column}_{region}" not in scores:
                scores[f"{column}_{region}"] = 0.6
    found = headline(scores)
    assert (found["dice_ET"], found["dice_ET_1ml"]) == pytest.approx((0.5, 0.8))
    assert found["dice_mean_1ml"] == pytest.approx((0.6 + 0.6 + 0.8) / 3)
    assert (found["cases_ET_1ml"], found["cases_without_ET"], found["false_ET_ml"]) == (1, 2, 0.25)


def test_fold_interrupted_in_a_later_stage_keeps_earlier_checkpoints(validate, tmp_path):
    some = ("--folds", "2", "--epochs", "2", "--then", "train_clicks=2")
    (tmp_path / "bad.txt").write_text("training " + str(tmp_path / "out" / "fold0" / "train_clicks"))
    assert validate(*some)[0] == 1
    kept = {path.parts[-4] for path in (tmp_path / "out").glob("fold*/training/checkpoints/checkpoint_*")}
    assert kept == {"fold0"}
    (tmp_path / "bad.txt").unlink()
    assert validate(*some)[0] == 0
    assert not list((tmp_path / "out").glob("**/checkpoint_*"))
    args = Namespace(cross_validation=tmp_path / "out", cases=None, datalist=None)
    assert {Path(case["checkpoint"]).parts[-3] for case in chosen_cases(args)} == {"train_clicks"}


def test_prompts_are_measured_with_weights_not_trained_on_the_case(validate, tmp_path):
    validate("--folds", "3", "--epochs", "2")
    folds = json.loads((tmp_path / "out" / "folds.json").read_text())["folds"]
    args = Namespace(cross_validation=tmp_path / "out", cases=None, datalist=None, checkpoint=None, device=None, seed=0)
    args.output, args.tta = tmp_path / "clicks", True
    cases = chosen_cases(args)
    assert {case["case"]: Path(case["checkpoint"]).parts[-4] for case in cases} == {
        c: f"fold{k}" for c, k in folds.items()
    }
    made = []

    def make(checkpoint, device, tta):
        assert tta
        made.append(checkpoint)
        return Namespace(checkpoint=checkpoint, device="cpu")

    def measure(segmenter, case):
        return [{"case": case["case"], "fold": Path(segmenter.checkpoint).parts[-4]}]

    failures: dict = {}
    rows, run = measure_cases(args, make_console(), "it", "clicks", make, cases, measure, failures)
    assert {row["case"]: row["fold"] for row in rows} == {c: f"fold{k}" for c, k in folds.items()}
    assert len(made) == 3 and "did not see the case" in run["weights"] and not failures
    args.cases = tmp_path / "one"
    with pytest.raises(InputError, match="not one source of cases"):
        chosen_cases(args)


@pytest.mark.slow
def test_killed_training_resumes_within_its_fold(tiny_data_set, tmp_path):
    for folder, case in zip(("one", "two", "phantoms"), tiny_data_set.cases, strict=True):
        shutil.copytree(tiny_data_set.folder / case, tmp_path / folder / case)
    settings = {**TINY_NETWORK, **TINY_GRID, **TINY_TRAINING}
    own = ["--cases", tmp_path / "one", tmp_path / "two", "--phantoms", tmp_path / "phantoms", "--folds", "2"]
    own += ["--epochs", "6", "--output", tmp_path / "out", "--set"]
    own += [f"{name}={str(value).replace(' ', '')}" for name, value in settings.items() if name != "progress_bar"]
    command = [sys.executable, str(SCRIPT), *map(str, own)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoints = tmp_path / "out" / "fold0" / "training" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("checkpoint_epoch=*.pt")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "out" / "fold0" / "fold.json").exists()

    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "resumed from" in (tmp_path / "out" / "fold0" / "log.txt").read_text()
    curves = pd.read_csv(tmp_path / "out" / "fold0" / "training" / "curves.csv")
    assert list(curves["epoch"]) == [1, 2, 3, 4, 5, 6]
    table = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert list(table["case"]) == list(tiny_data_set.cases[:2]) and set(table["fold"]) == {0, 1}
    assert table["dice_mean"].between(0, 1).all() and table["lesions_WT_truth"].notna().all()
    assert "| ET, cases with > 1 ml |" in (tmp_path / "out" / "table.md").read_text()


def test_measured_cases_that_the_weights_were_trained_on_are_reported(tmp_path, capsys):
    args = Namespace(tta=False, checkpoint=None, device=None, seed=0, cross_validation=None, output=tmp_path)
    segmenter = Namespace(checkpoint=bundle_root() / "models" / "model.pt", device="cpu")
    cases = [{"case": "BraTS2021_00006"}, {"case": "other"}]

    def measure(segmenter, case: dict) -> list[dict]:
        return [{"case": case["case"]}]

    _, run = measure_cases(args, make_console(), "it", "it", lambda **_: segmenter, cases, measure, {})
    assert run["trained on"].startswith("1 of these cases") and "BraTS2021_00006" in capsys.readouterr().out
