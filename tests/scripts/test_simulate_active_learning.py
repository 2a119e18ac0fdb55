"""Simulated active learning: figures, selection of cases, and resuming after an interruption."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import simulate_active_learning
from measuring.active_learning_page import labels_to_reach
from tests.bundle.conftest import TINY_NETWORK, flags

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_active_learning.py"


@pytest.fixture
def simulation():
    """The module that the script runs."""
    from measuring import active_learning

    return active_learning


def rows(strategy: str, dice: list[float], seed: int = 0) -> list[dict]:
    columns = [f"dice_{name}" for name in ("WT", "TC", "ET", "mean")]
    return [
        {"seed": seed, "strategy": strategy, "labels": 2 * n, **dict.fromkeys(columns, value)}
        for n, value in enumerate(dice, start=1)
    ]


@pytest.mark.parametrize(
    ("curve", "target", "labels"),
    [
        ([0.2, 0.4, 0.6], 0.6, 6.0),
        ([0.2, 0.4, 0.6], 0.5, 5.0),
        ([0.2, 0.6, 0.4], 0.5, 3.5),
        ([0.7, 0.6, 0.9], 0.5, 2.0),
        ([0.2, 0.4, 0.6], 0.7, None),
    ],
)
def test_labels_to_reach_a_dice_are_interpolated(curve, target, labels):
    found = labels_to_reach({2 * n: value for n, value in enumerate(curve, start=1)}, target)
    assert found == (None if labels is None else pytest.approx(labels))


def test_summary_pairs_each_repeat_with_its_random_baseline(simulation):
    made = rows("random", [0.2, 0.4, 0.6]) + rows("random", [0.2, 0.3, 0.4], 1)
    made += rows("expected_gain", [0.2, 0.6, 0.7]) + rows("expected_gain", [0.2, 0.3, 0.3], 1)
    made += rows("unfinished", [0.2, 0.6])
    random, combined = simulation.summarise(made)
    assert random["share"] == 1.0 and random["gain"] == 0.0 and random["never"] == 0
    assert (combined["share"], combined["never"], combined["seeds"]) == (pytest.approx(4 / 6), 1, 2)
    assert combined["gain"] == pytest.approx(((0.65 - 0.5) + (0.3 - 0.35)) / 2)
    assert combined["final_mean"] == pytest.approx(0.5) and combined["final_mean_sd"] == pytest.approx(0.2828, abs=1e-3)
    said = "\n".join(simulation.summary_sentences([random, combined]))
    assert "in 1 of 2 repeats" in said and "not held" in said


def test_strategy_that_never_reaches_the_target_is_reported(simulation, tmp_path):
    summary = simulation.summarise(rows("random", [0.2, 0.4]) + rows("expected_gain", [0.2, 0.3]))
    assert summary[1]["share"] is None and summary[1]["never"] == 1
    assert any("expected_gain never reaches" in line for line in simulation.summary_sentences(summary))
    made = rows("random", [0.2, 0.4]) + rows("expected_gain", [0.2, 0.3])
    simulation.write(tmp_path / "page.md", made, summary, {}, {"x": "y"})
    text = (tmp_path / "page.md").read_text()
    assert "| random | 0.200 | 0.400 |" in text and "- failed: x: y" in text


def order(name: str, pool: dict, count: int = 9, seed: int = 0) -> list[str]:
    from measuring.strategies import ORDERS

    return ORDERS[name](pool, np.random.default_rng(seed), count)


def test_each_order_lists_every_case_once_by_its_criterion():
    pool = {"sure": 0.1, "unsure": 0.5, "twin": 0.49, "none": 0.2}
    for name in ("random", "expected_gain"):
        assert sorted(order(name, pool)) == sorted(pool) and order(name, pool, count=2) == order(name, pool)[:2]
    assert order("expected_gain", pool) == ["unsure", "twin", "none", "sure"]
    first = [order("random", pool, seed=seed)[0] for seed in range(400)]
    assert all(70 < first.count(name) < 130 for name in pool)


def test_iterations_stay_the_same_when_cases_are_added(simulation):
    def epochs(cases: int, **overrides) -> int:
        return simulation.Setting({}, [], overrides, None, 2, 2, 60, Path()).epochs(cases)

    assert [epochs(2), epochs(12), epochs(4, batch_size=2), epochs(100)] == [30, 5, 30, 1]


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        ([], "one source of cases"),
        (["--cases", "nowhere"], "nowhere"),
        (["--", "--patchsize", "[96,96,96]"], "--patchsize; expected a setting of train.json"),
        (["--", "--seed", "4"], "this script's own option"),
        (["--", "batch_size", "2"], "--name value"),
    ],
)
def test_invalid_input_gives_one_error_line(simulation, tmp_path, capsys, arguments, mentioned):
    assert simulate_active_learning.main(["--output", str(tmp_path / "out"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("simulate_active_learning: ") and mentioned in line


@pytest.mark.slow
def test_killed_simulation_resumes_and_writes_the_curves(tiny_data_set, tmp_path):
    entries = json.loads(tiny_data_set.datalist.read_text())
    (tmp_path / "list.json").write_text(json.dumps(entries | {"testing": entries["testing"][:1]}))
    out = tmp_path / "out"
    own = ["--dataset_dir", tiny_data_set.folder, "--datalist", tmp_path / "list.json", "--output", out]
    own += ["--seeds", "0", "--start", "1", "--batch", "1", "--labels", "2", "--steps", "2"]
    own += ["--strategies", "random", "expected_gain"]
    command = [sys.executable, str(SCRIPT), *map(str, own), "--", *flags(**TINY_NETWORK)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (out / "seed0" / "start" / "round.json").is_file():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    start = out / "seed0" / "start" / "round.json"
    before = start.stat().st_mtime_ns

    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert start.stat().st_mtime_ns == before
    with (out / "simulate_active_learning.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["strategy"], row["labels"]) for row in table] == [
        ("random", "1"),
        ("random", "2"),
        ("expected_gain", "1"),
        ("expected_gain", "2"),
    ]
    assert table[0]["dice_mean"] == table[2]["dice_mean"] and table[0]["chosen"] == table[2]["chosen"]
    assert all(0 <= float(row["dice_mean"]) <= 1 and row["chosen"] for row in table)
    assert (out / "simulate_active_learning.svg").read_text().startswith("<?xml")
    assert "# Simulated active learning" in (out / "simulate_active_learning.md").read_text()

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and start.stat().st_mtime_ns == before
    command[command.index("--steps") + 1] = "3"
    other = subprocess.run(command, capture_output=True, text=True)
    assert other.returncode == 2 and "other settings (steps 2, now 3)" in other.stderr
