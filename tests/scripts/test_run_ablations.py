"""The ablation script: figures of the table, runs performed, and resuming after an interruption."""

from __future__ import annotations

import csv
import fcntl
import json
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from brats_clip.cases import SECTIONS, SEQUENCES
from brats_clip.evaluation import write_metrics_csv
from measuring import ablation, bundle_run
from measuring.ablation import markdown, tabulate
from tests.bundle.conftest import TINY_GRID, TINY_NETWORK, TINY_TRAINING, flags

SCRIPT = Path(__file__).parents[2] / "scripts" / "run_ablations.py"
CASES = ("A", "B")

# Stand-in for python -m monai.bundle run: records its arguments, and writes the output files of the bundle.
STAND_IN = """
import json, pathlib, sys

here, stage, arguments = pathlib.Path(__file__).parent, sys.argv[1], sys.argv[2:]
options = dict(zip(arguments[::2], arguments[1::2], strict=True))
with (here / "calls.txt").open("a") as calls:
    calls.write(json.dumps([stage, options]) + "\\n")
bad = here / "bad.txt"
if bad.exists() and bad.read_text() in f"{stage} {options['--config_file']}":
    print("Error: memory: found none; expected some.")
    print("something after it")
    sys.exit(3)
out = pathlib.Path(options["--output_dir"])
out.mkdir(parents=True, exist_ok=True)
if stage == "training":
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "model.pt").touch()
    (out / "curves.csv").write_text("epoch,loss" + "\\n1,0.5" * int(options["--epochs"]) + "\\n")
else:
    assert pathlib.Path(options["--checkpoint"]).is_file()
    dice = "0.5" if "ablations" in options["--config_file"] else "0.75"
    columns = ["case", *(f"dice_{c}" for c in ("WT", "TC", "ET", "mean"))]
    rows = [",".join(columns), *(",".join([case] + [dice] * 4) for case in "AB")]
    (out / "metrics.csv").write_text("\\n".join(rows))
    run = {"hardware": "an abacus", "brats_clip": "0", "monai": "1", "torch": "2"}
    (out / "summary.json").write_text(json.dumps({"run": run}))
"""


@pytest.fixture
def ablations():
    """The script, and the parts that it runs."""
    import run_ablations

    parts = {"Run": ablation.Run, "write_results": ablation.write_results, "VARIANTS": run_ablations.VARIANTS}
    return SimpleNamespace(main=run_ablations.main, **parts)


@pytest.fixture
def data(tmp_path) -> list[str]:
    """Options that name a datalist of empty images, which are never read."""
    folder = tmp_path / "data"
    folder.mkdir()
    for sequence in (*SEQUENCES, "seg"):
        (folder / f"{sequence}.nii.gz").touch()
    case = {sequence: f"{sequence}.nii.gz" for sequence in SEQUENCES} | {"case": "A", "label": "seg.nii.gz"}
    (tmp_path / "datalist.json").write_text(json.dumps({section: [case] for section in SECTIONS}))
    return ["--dataset_dir", str(folder), "--datalist", str(tmp_path / "datalist.json")]


@pytest.fixture
def ablate(ablations, data, tmp_path, monkeypatch):
    """Run the command with a stand-in for the bundle; return the exit code and the calls."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    calls = tmp_path / "calls.txt"
    monkeypatch.setattr(bundle_run, "MONAI", (sys.executable, str(tmp_path / "stand_in.py")))
    monkeypatch.setattr(ablations.Run, "_count_parameters", lambda run: 2_000_000 if run.variant == "full" else 500_000)

    def run(*arguments: str) -> tuple[int, list]:
        calls.write_text("")
        code = ablations.main([*data, "--output", str(tmp_path / "out"), "--epochs", "2", *arguments])
        return code, [json.loads(line) for line in calls.read_text().splitlines()]

    return run


@pytest.fixture
def finished_runs(ablations, tmp_path):
    """Write finished runs with the given Dice per network and seed: one value per case, for every region."""

    def make(dice: dict[tuple[str, int], list[float]], reports=("true",), cases=CASES) -> list:
        runs = []
        for (variant, seed), values in dice.items():
            run = ablations.Run(variant, seed, tmp_path / variant / f"seed{seed}", (), {"epochs": 5}, reports)
            for report in reports:
                rows = [
                    {"case": case, **{f"dice_{c}": value for c in ("WT", "TC", "mean")}, "dice_ET": value / 2}
                    for case, value in zip(cases, values, strict=True)
                ]
                write_metrics_csv(rows, run.metrics(report))
            record = {"settings": run.settings, "code": ["one"], "parameters": 1_234_567}
            (run.folder / "run.json").write_text(json.dumps(record))
            (run.folder / "training").mkdir()
            (run.folder / "training" / "curves.csv").write_text("epoch\n1\n2\n")
            runs.append(run)
        return runs

    return make


def read_table(folder: Path) -> dict[tuple[str, str], dict]:
    with (folder / "ablations.csv").open() as file:
        return {(row["report"], row["network"]): row for row in csv.DictReader(file)}


def test_means_are_over_cases_then_seeds(finished_runs):
    runs = finished_runs({("full", 0): [0.9, 0.7], ("full", 1): [0.8, 0.6], ("full", 2): [0.7, 0.5]})
    row = tabulate(runs).iloc[0]
    assert (row["dice_WT"], row["dice_WT_sd"]) == pytest.approx((0.7, 0.1))
    assert (row["dice_ET"], row["dice_ET_sd"]) == pytest.approx((0.35, 0.05))
    assert (row["seeds"], row["cases"], row["pairs"]) == (3, 2, 0)
    assert pd.isna(row["difference_mean"])


def test_differences_are_paired_over_seeds_and_cases(finished_runs):
    # Seed 1 exists for one network only, so it forms no pair.
    full = {("full", 0): [0.9, 0.7], ("full", 2): [0.8, 0.8]}
    runs = finished_runs(
        {**full, ("no_bridge", 0): [0.8, 0.7], ("no_bridge", 2): [0.6, 0.9], ("no_bridge", 1): [0.1, 0.1]}
    )
    row = tabulate(runs).iloc[1]
    # -0.1, 0, -0.2, +0.1
    assert (row["difference_WT"], row["difference_WT_sd"]) == pytest.approx((-0.05, 0.129099), abs=1e-6)
    assert (row["difference_ET"], row["difference_ET_sd"]) == pytest.approx((-0.025, 0.0645497), abs=1e-6)
    assert (row["seeds"], row["pairs"]) == (3, 4)


def test_one_seed_has_no_spread_and_no_difference_without_full(finished_runs):
    runs = finished_runs({("plain_unet", 0): [0.9, 0.7]})
    text = markdown(tabulate(runs), runs, {}, "the command")
    assert "| true | plain_unet | 1.23 | 1 | 0.800 | 0.800 | 0.400 | 0.800 | - |" in text


def test_table_states_command_cases_seeds_and_missing_runs(ablations, finished_runs):
    runs = finished_runs({("full", 0): [0.9, 0.7], ("full", 1): [0.8, 0.6], ("no_bridge", 0): [0.8, 0.7]})
    waiting = ablations.Run("no_bridge", 1, runs[0].folder.parent / "none", (), {}, ("true",))
    text = markdown(tabulate(runs), [*runs, waiting], {}, "python scripts/run_ablations.py -x")
    assert "| true | full | 1.23 | 2 | 0.750 ± 0.071 | 0.750 ± 0.071 | 0.375 ± 0.035 | 0.750 ± 0.071 | - |" in text
    assert "| -0.050 ± 0.071 |" in text
    for fact in (
        "- Command: `python scripts/run_ablations.py -x`",
        "- Cases: 2 of",
        "- Epochs: at most 5, trained 2;",
        "- Seeds: 0, 1",
        "- Date: 20",
        "- Hardware: ",
        "- Missing: no_bridge, seed 1: not run yet",
    ):
        assert fact in text
    assert "changed between runs" not in text
    record = runs[1].record() | {"code": ["two"]}
    (runs[1].folder / "run.json").write_text(json.dumps(record))
    assert "changed between runs" in markdown(tabulate(runs), runs, {}, "")


def test_each_report_mode_has_its_own_rows_and_full_network(ablations, finished_runs, tmp_path):
    runs = finished_runs({("full", 0): [0.9, 0.7], ("no_bridge", 0): [0.8, 0.6]}, reports=("true", "none"))
    write_metrics_csv(
        [{"case": case, **{f"dice_{c}": 0.3 for c in ("WT", "TC", "ET", "mean")}} for case in CASES],
        runs[0].metrics("none"),
    )
    ablations.write_results(runs, {}, "", tmp_path)
    table = read_table(tmp_path)
    assert list(table) == [*product(("true",), ("full", "no_bridge")), *product(("none",), ("full", "no_bridge"))]
    assert float(table["true", "no_bridge"]["difference_mean"]) == pytest.approx(-0.1)
    assert float(table["none", "no_bridge"]["difference_mean"]) == pytest.approx(0.4)
    assert table["none", "full"]["dice_mean_sd"] == ""
    picture = (tmp_path / "ablations.svg").read_text()
    assert picture.startswith("<?xml") and "svg" in picture


def test_all_networks_of_the_paper_are_offered(ablations):
    parts = ("pixel_fusion", "attention", "deep_supervision", "bridge", "guidance", "semantic_attention")
    assert {"full", "plain_unet", *(f"no_{part}" for part in parts)} <= set(ablations.VARIANTS)
    assert ablations.VARIANTS[0] == "full"


def test_every_network_is_trained_and_evaluated_with_its_own_configs(ablate, tmp_path):
    some = ("--only", "full", "plain_unet", "--seeds", "3", "4")
    code, calls = ablate(*some, "--", "--patch_size", "[96,96,96]", "--network_def#widths=[4,8,8,8]")
    assert code == 0
    assert len(calls) == 2 * 2 * 2
    files = {
        name: [Path(part).name for part in json.loads(options["--config_file"].replace("'", '"'))]
        for _, options in calls
        for name in [Path(options["--output_dir"]).relative_to(tmp_path / "out").as_posix()]
    }
    assert files["full/seed3/training"] == ["train.json"]
    assert files["full/seed3/report_true"] == ["train.json", "evaluate.json"]
    assert files["plain_unet/seed4/report_true"] == ["train.json", "plain_unet.json", "evaluate.json"]
    for stage, options in calls:
        assert options["--cache_dir"] == str(tmp_path / "out" / "cache")
        assert options["--patch_size"] == "[96,96,96]" and options["--network_def#widths"] == "[4,8,8,8]"
        assert options["--epochs"] == "2" and f"seed{options['--seed']}/" in options["--output_dir"]
        assert stage == "training" or options["--use_reports"] == "True"
    assert "| true | plain_unet | 0.50 | 2 | 0.500 ± 0.000 |" in (tmp_path / "out" / "ablations.md").read_text()
    assert read_table(tmp_path / "out")["true", "plain_unet"]["pairs"] == "4"


def test_finished_runs_are_not_repeated(ablate, tmp_path):
    assert len(ablate("--only", "full", "--seeds", "0")[1]) == 2
    assert ablate("--only", "full", "--seeds", "0") == (0, [])
    more = ablate("--only", "full", "no_bridge", "--seeds", "0", "1")[1]
    assert [Path(o["--output_dir"]).parent.relative_to(tmp_path / "out").as_posix() for _, o in more[::2]] == [
        "no_bridge/seed0",
        "full/seed1",
        "no_bridge/seed1",
    ]


def test_added_report_mode_needs_no_training(ablate):
    ablate("--only", "full", "--seeds", "0")
    code, calls = ablate("--only", "full", "--seeds", "0", "--report", "true", "none")
    assert code == 0 and [(stage, options["--use_reports"]) for stage, options in calls] == [("evaluating", "False")]


def test_run_interrupted_in_evaluation_is_not_trained_again(ablate, tmp_path):
    (tmp_path / "bad.txt").write_text("evaluating")
    assert [stage for stage, _ in ablate("--only", "full", "--seeds", "0")[1]] == ["training", "evaluating"]
    (tmp_path / "bad.txt").unlink()
    code, calls = ablate("--only", "full", "--seeds", "0")
    assert code == 0 and [stage for stage, _ in calls] == ["evaluating"]


def test_other_settings_in_the_same_folder_are_an_error(ablate, capsys, tmp_path):
    some = ("--only", "full", "--seeds", "0")
    ablate(*some, "--", "--patch_size", "[96,96,96]")
    assert ablate(*some, "--", "--patch_size=[96, 96, 96]", "--progress_bar", "True") == (0, [])
    capsys.readouterr()
    assert ablate(*some, "--seeds", "1", "0", "--", "--batch_size", "2") == (2, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "out" / "full" / "seed0") in line
    assert "batch_size 1, now 2" in line and "patch_size [96, 96, 96], now [128, 128, 128]" in line
    datalist = tmp_path / "datalist.json"
    datalist.write_text(datalist.read_text().replace('"A"', '"B"'))
    assert ablate(*some, "--", "--patch_size", "[96,96,96]")[0] == 2
    assert "other settings (datalist " in capsys.readouterr().err


def test_changed_config_is_an_error(ablate, capsys, tmp_path, monkeypatch):
    ablate("--only", "no_bridge", "--seeds", "0")
    (tmp_path / "configs" / "ablations").mkdir(parents=True)
    for name in ("train", "evaluate", "ablations/no_bridge"):
        text = (ablation.CONFIGS / f"{name}.json").read_text()
        text = text.replace('"weight_decay": 0.01', '"weight_decay": 0.5').replace('"min_et_ml": 0.0', '"min_et_ml": 1')
        (tmp_path / "configs" / f"{name}.json").write_text(text)
    monkeypatch.setattr(ablation, "CONFIGS", tmp_path / "configs")
    assert ablate("--only", "no_bridge", "--seeds", "0") == (2, [])
    assert "(evaluate.json#min_et_ml 0.0, now 1; weight_decay 0.01, now 0.5)" in capsys.readouterr().err


def test_folder_of_an_unknown_run_is_refused(ablate, capsys, tmp_path):
    (tmp_path / "out" / "full" / "seed0").mkdir(parents=True)
    (tmp_path / "out" / "full" / "seed0" / "notes.txt").touch()
    assert ablate("--only", "full", "--seeds", "0") == (2, [])
    assert "unknown run" in capsys.readouterr().err


def test_failure_is_reported_at_the_end_and_stops_no_other_run(ablate, capsys, tmp_path):
    (tmp_path / "bad.txt").write_text("no_guidance")
    code, calls = ablate("--only", "no_bridge", "no_guidance", "plain_unet", "--seeds", "0")
    assert code == 1 and len(calls) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "no_guidance, seed 0: training ended with code 3: memory: found none; expected some. (see" in line
    assert [network for _, network in read_table(tmp_path / "out")] == ["no_bridge", "plain_unet"]
    assert "- Missing: no_guidance, seed 0: training ended" in (tmp_path / "out" / "ablations.md").read_text()
    (tmp_path / "bad.txt").unlink()
    code, calls = ablate("--only", "no_bridge", "no_guidance", "plain_unet", "--seeds", "0")
    assert code == 0 and len(calls) == 2
    assert "Missing" not in (tmp_path / "out" / "ablations.md").read_text()


def test_no_table_is_written_without_a_finished_run(ablate, tmp_path):
    (tmp_path / "bad.txt").write_text("training")
    assert ablate("--only", "full", "--seeds", "0")[0] == 1
    assert not list((tmp_path / "out").glob("ablations*"))


def test_run_locked_by_another_process_is_skipped(ablate, capsys, tmp_path):
    ablate("--only", "full", "--seeds", "0")
    folder = tmp_path / "out" / "full" / "seed0"
    (folder / "report_true" / "metrics.csv").unlink()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # a shared lock: it conflicts only with an exclusive one
        assert ablate("--only", "full", "--seeds", "0") == (1, [])
    assert "full, seed 0: another process is at it" in capsys.readouterr().err


def test_corrupt_metrics_error_names_the_file(ablate, capsys, tmp_path):
    ablate("--only", "full", "--seeds", "0")
    path = tmp_path / "out" / "full" / "seed0" / "report_true" / "metrics.csv"
    path.write_text("case,dice_WT\nA,0.5\n")
    assert ablate("--only", "full", "--seeds", "0", "1") == (2, [])
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        (["--seeds", "-1"], "--seeds: found -1"),
        (["--epochs", "0"], "--epochs: found 0"),
        (["--datalist", "nowhere.json"], "nowhere.json: found no file"),
        (["--", "--patchsize", "[96,96,96]"], "--patchsize; expected a setting of train.json"),
        (["--", "--seed", "4"], "--seed; expected this script's own option"),
        (["--", "--pretrained", "model.pt"], "start afresh"),
        (["--", "--batch_size"], "'--batch_size'; expected --name value"),
        (["--", "--batch_size", "--epochs"], "'--batch_size'; expected --name value"),
        (["--", "batch_size", "2"], "'batch_size'; expected --name value"),
    ],
)
def test_invalid_input_gives_one_error_line_before_any_run(ablate, capsys, arguments, mentioned):
    assert ablate(*arguments) == (2, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("run_ablations: ") and mentioned in line


def test_parameter_count_includes_only_trained_parameters(ablations, tmp_path):
    def count(variant: str) -> int:
        words = flags(bundle_root=bundle_run.BUNDLE, cache_dir=tmp_path, **TINY_NETWORK)
        return ablations.Run(variant, 0, tmp_path, words, {}, ("true",))._count_parameters()

    full, plain = count("full"), count("plain_unet")
    # The embedded CLIP alone has 8 million parameters, and the network at its standard width more than 4 million.
    assert 1000 < plain < full < 1_000_000


@pytest.mark.slow
def test_killed_ablation_resumes_and_writes_the_table(tiny_data_set, tmp_path):
    out = tmp_path / "out"
    own = ["--dataset_dir", tiny_data_set.folder, "--datalist", tiny_data_set.datalist, "--output", out]
    own += ["--only", "full", "plain_unet", "--seeds", "0", "--epochs", "4"]
    command = [sys.executable, str(SCRIPT), *map(str, own), "--", *flags(**TINY_NETWORK, **TINY_GRID, **TINY_TRAINING)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    first = out / "full" / "seed0"
    while process.poll() is None and not list((first / "training" / "checkpoints").glob("checkpoint_*")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    with (first / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the training process has ended, too

    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "resumed from" in (first / "log.txt").read_text()
    table = read_table(out)
    assert list(table) == [("true", "full"), ("true", "plain_unet")]
    assert int(table["true", "full"]["parameters"]) > int(table["true", "plain_unet"]["parameters"])
    assert table["true", "plain_unet"]["cases"] == table["true", "plain_unet"]["pairs"] == "3"
    for name, row in table.items():
        metrics = pd.read_csv(out / name[1] / "seed0" / "report_true" / "metrics.csv")
        assert float(row["dice_ET"]) == pytest.approx(metrics["dice_ET"].mean(), abs=1e-5)
        assert (out / name[1] / "seed0" / "training" / "curves.csv").read_text().count("\n") == 5
    # At most three training cases and one validation case, in one cache for both networks.
    assert len(list((out / "cache").glob("*.pt"))) <= 4
    assert "- Epochs: at most 4, trained 4;" in (out / "ablations.md").read_text()
    assert "Hardware: unknown" not in (out / "ablations.md").read_text()
