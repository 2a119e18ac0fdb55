"""Rounds of simulated active learning: choose cases, label them, continue training, and measure."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from rich.console import Console

from brats_clip import Segmenter
from brats_clip.cases import case_report
from brats_clip.errors import BratsClipError, InputError
from brats_clip.evaluation import MEASURES, collect_run_info, region_dice, sha256_of, write_metrics_csv
from brats_clip.evaluation.labelled import draws, labelled_cases, read_truth

from .active_learning_page import BASELINE, NAME, draw, summarise, summary_sentences, write
from .bundle_run import (
    BUNDLE,
    CONFIGS,
    RunFailed,
    as_words,
    check_trained,
    describe_differences,
    drop_checkpoints,
    lock_folder,
    run_or_fail,
)
from .command import OWN_OPTION, make_progress, read_json, read_overrides, write_json
from .shared import sequences_of
from .strategies import ORDERS, expected_gain_of

MAKE_PHANTOMS = Path(__file__).resolve().parents[1] / "make_phantoms.py"
PHANTOM_GRID = ("--size", "60", "60", "40", "--spacing", "4", "4", "4")

# A network that learns something within half a minute on one core, without clicks and missing sequences.
SMALL_NETWORK = {"network_def#widths": [8, 16, 32, 64], "network_def#head_width": 16, "network_def#clicks": False}
SMALL_TRAINING = {"spacing": [4.0, 4.0, 4.0], "patch_size": [48, 48, 48], "learning_rate": 0.002}
SMALL_TRAINING |= {"missing_sequence_share": 0.0}
QUIET = {"num_workers": 0, "val_workers": 0, "tensorboard": False, "progress_bar": False, "checkpoints#interval": 20}
# Settings that come from the options of the script.
OWN = ("dataset_dir", "datalist", "epochs", "seed", "output_dir", "cache_dir", "pretrained", "val_interval", "resume")


def simulate(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Run all unfinished rounds, and update the results after each strategy; return the failed runs with reasons."""
    setting, rounds = prepare(args), (args.labels - args.start) // args.batch
    seeds, strategies = list(dict.fromkeys(args.seeds)), [s for s in ORDERS if s in args.strategies]
    run = collect_run_info(command, args.pretrained, pool=len(setting.pool), tests=len(setting.tests))
    run["training"] = f"about {args.steps} iterations per round, each from the weights of the round before"
    failures: dict[str, str] = {}
    with make_progress(console) as progress:
        bar = progress.add_task("", total=len(seeds) * (1 + len(strategies) * rounds))

        def repeat(seed: int) -> None:
            for strategy in (None, *strategies):
                name = f"seed {seed}, {strategy or 'start'}"
                try:
                    before = None if strategy is None else Round(setting, seed, "start", 0)
                    for number in range(1, rounds + 1) if strategy else [0]:
                        current = Round(setting, seed, strategy or "start", number)
                        progress.update(bar, description=f"{name}: round {number} of {rounds}")
                        current.run(before, progress.refresh)
                        progress.advance(bar)
                        before = current
                except (RunFailed, BratsClipError) as reason:
                    failures[name] = str(reason)
                    if strategy is None:
                        break
                _write_results(collect(setting, seeds, strategies, rounds), setting, run, failures)

        for seed in seeds:
            folder = setting.output / f"seed{seed}"
            folder.mkdir(exist_ok=True)
            try:
                with lock_folder(folder):
                    repeat(seed)
            except RunFailed as reason:
                failures[f"seed {seed}"] = str(reason)
    summary = _write_results(collect(setting, seeds, strategies, rounds), setting, run, failures)
    if summary:
        console.print("\n".join([*summary_sentences(summary), f"Wrote {args.output / NAME}.md, .csv, .png and .svg."]))
    return failures


def _write_results(rows: list[dict], setting: Setting, run: dict, failures: dict[str, str]) -> list[dict]:
    """Write the results so far; return the summary, empty until a strategy is past the shared start."""
    if not rows or max(row["labels"] for row in rows) <= setting.start:
        return []
    summary, stem = summarise(rows), setting.output / NAME
    write_metrics_csv(rows, stem.with_name(f"{NAME}.csv"))
    write_metrics_csv(summary, stem.with_name(f"{NAME}_summary.csv"))
    draw(rows, summary, stem)
    write(stem.with_name(f"{NAME}.md"), rows, summary, run, failures)
    return summary


@dataclass(frozen=True)
class Setting:
    """Settings that all runs share.

    Attributes:
        pool: the cases to choose from, by name.
        tests: the cases that Dice is measured on.
        overrides: settings that replace those of train.json.
        pretrained: weights that the shared start is trained from; None for none.
        start, batch, steps: labelled cases at first, cases per choice, iterations per training.
        output: folder.
    """

    pool: Mapping[str, dict]
    tests: Sequence[dict]
    overrides: Mapping[str, object]
    pretrained: Path | None
    start: int
    batch: int
    steps: int
    output: Path

    @property
    def bundle(self) -> Path:
        """The bundle whose inference.json matches the trained network."""
        return self.output / "bundle"

    def epochs(self, cases: int) -> int:
        """Return the epochs for which a training on ``cases`` cases takes about ``steps`` iterations."""
        batch = int(self.overrides.get("batch_size", 1))
        return max(1, round(self.steps / max(1, cases // batch)))


@dataclass(frozen=True)
class Round:
    """One training on the cases labelled so far, and its results, in its own folder."""

    setting: Setting
    seed: int
    strategy: str
    number: int

    @property
    def folder(self) -> Path:
        name = f"{self.strategy}/round{self.number:02d}" if self.number else "start"
        return self.setting.output / f"seed{self.seed}" / name

    @property
    def weights(self) -> Path:
        return self.folder / "training" / "checkpoints" / "model.pt"

    def record(self) -> dict | None:
        """Return ``labelled``, ``chosen``, ``dice`` by test case and ``seconds``; None until the round is finished."""
        path = self.folder / "round.json"
        return read_json(path) if path.is_file() else None

    def run(self, before: Round | None, watch: Callable[[], None]) -> dict:
        """Choose, label, train and measure; a finished round is not repeated.

        Raises:
            RunFailed: if the training fails.
        """
        if (record := self.record()) is not None:
            return record
        setting, started = self.setting, time.perf_counter()
        if before is None:
            order = draws(self.seed, "start").permutation(sorted(setting.pool))
            labelled, chosen, pretrained = [], [str(name) for name in order[: setting.start]], setting.pretrained
        else:
            labelled, pretrained = before.record()["labelled"], before.weights
            chosen = before.choose(self.strategy, labelled, watch)
        chosen_at = time.perf_counter()
        self._train([*labelled, *chosen], pretrained, watch)
        trained_at = time.perf_counter()
        scores = self._evaluate(watch)
        record = {"labelled": [*labelled, *chosen], "chosen": chosen, "dice": scores}
        record["seconds"] = {"choose": chosen_at - started, "train": trained_at - chosen_at}
        record["seconds"]["measure"] = time.perf_counter() - trained_at
        write_json(self.folder / "round.json", record)
        drop_checkpoints(self.folder)
        if before is not None and before.number:
            before.weights.unlink(missing_ok=True)
        return record

    def choose(self, strategy: str, labelled: Sequence[str], watch: Callable[[], None]) -> list[str]:
        """Return the cases that a strategy would label next, by the predictions of this round's network."""
        rng = draws(self.seed, strategy, f"round {self.number}")
        gains = dict.fromkeys(self.setting.pool.keys() - set(labelled), 0.0)
        if strategy != BASELINE:
            segmenter = Segmenter(self.setting.bundle, self.weights)
            for name in gains:
                case = self.setting.pool[name]
                gains[name] = expected_gain_of(segmenter, sequences_of(case), case_report(case))
                watch()
        return ORDERS[strategy](gains, rng, self.setting.batch)

    def _train(self, labelled: Sequence[str], pretrained: Path | None, watch: Callable[[], None]) -> None:
        cases = [self.setting.pool[name] for name in labelled]
        epochs = self.setting.epochs(len(cases))
        # Validation runs once, after the last epoch, whose weights are used: it selects nothing, so that no labelled
        # case has to be held out for it.
        write_json(self.folder / "datalist.json", {"training": cases, "validation": cases[:1]})
        options = {"bundle_root": BUNDLE, "dataset_dir": "/", "datalist": self.folder / "datalist.json"}
        options |= {"output_dir": self.folder / "training", "cache_dir": self.setting.output / "cache"}
        options |= {"epochs": epochs, "val_interval": epochs, "seed": 1000 * self.seed + self.number}
        options |= {} if pretrained is None else {"pretrained": pretrained}
        options |= self.setting.overrides
        words, log = ["training", "--config_file", CONFIGS / "train.json", *as_words(options)], self.folder / "log.txt"
        run_or_fail(words, log, watch)
        check_trained(self.weights, log)

    def _evaluate(self, watch: Callable[[], None]) -> dict[str, dict[str, float]]:
        segmenter, scores = Segmenter(self.setting.bundle, self.weights), {}
        for case in self.setting.tests:
            key = segmenter.set_case(**sequences_of(case))
            answer = segmenter.segment(report=case_report(case))
            segmenter.forget(key)
            found = region_dice(answer.label, read_truth(case).label)
            scores[case["case"]] = {m: found[f"dice_{m}"] for m in MEASURES}
            watch()
        return scores


def collect(setting: Setting, seeds: Sequence[int], strategies: Sequence[str], rounds: int) -> list[dict]:
    """Return a row per finished seed, strategy and round: number of ``labels``, ``dice_R`` as means over the test
    cases, ``chosen`` cases and ``seconds``. Each strategy includes the shared start."""
    rows = []
    for seed in seeds:
        for strategy in strategies:
            for number in range(rounds + 1):
                record = Round(setting, seed, strategy, number).record()
                if record is None:
                    break
                means = {f"dice_{m}": float(np.mean([d[m] for d in record["dice"].values()])) for m in MEASURES}
                row = {"seed": seed, "strategy": strategy, "labels": len(record["labelled"]), **means}
                row |= {"seconds": sum(record["seconds"].values()), "chosen": " ".join(record["chosen"])}
                rows.append(row)
    return rows


def prepare(args: argparse.Namespace) -> Setting:
    """Find the cases, and check that the content of the output folder belongs to this simulation.

    Raises:
        InputError: if there are too few cases, or the folder holds a simulation with other settings.
    """
    args.output = args.output.expanduser().resolve()
    overrides = _overrides(args.words, args.pretrained)
    if args.phantoms is not None:
        args.cases = args.output / "patients"
        command = [sys.executable, str(MAKE_PHANTOMS), "--output", str(args.cases)]
        subprocess.run([*command, "--count", str(args.phantoms), *PHANTOM_GRID], check=True)
    if args.datalist is not None:
        sections = [labelled_cases(None, args.dataset_dir, args.datalist, s) for s in ("training", "testing")]
    else:
        found = sorted(labelled_cases(args.cases, args.dataset_dir), key=lambda case: case["case"])
        found = [found[i] for i in draws(0, "tests").permutation(len(found))]
        sections = [found[args.tests :], found[: args.tests]]
    pool, tests = {case["case"]: case for case in sections[0]}, sections[1]
    if len(pool) < args.labels or not tests:
        raise InputError("cases", f"{len(pool)} to choose from", f"at least --labels {args.labels}, besides the tests")
    setting = Setting(pool, tests, overrides, args.pretrained, args.start, args.batch, args.steps, args.output)
    record = {"pool": sorted(pool), "tests": sorted(case["case"] for case in tests), "overrides": overrides}
    record |= {"start": args.start, "batch": args.batch, "steps": args.steps}
    record["pretrained"] = None if args.pretrained is None else sha256_of(args.pretrained)
    record = json.loads(json.dumps(record))
    path = args.output / "settings.json"
    if path.is_file() and (other := describe_differences(read_json(path), record)):
        raise InputError(args.output, f"a simulation with other settings ({other})", "another --output")
    write_json(path, record)
    _write_bundle(setting)
    return setting


def _overrides(words: Sequence[str], pretrained: Path | None) -> dict[str, object]:
    """Return the overrides of train.json: the defaults of a small training, then those given as ``--name value``."""
    given = read_overrides(words, [CONFIGS / "train.json"], dict.fromkeys(OWN, OWN_OPTION))
    small = SMALL_NETWORK | SMALL_TRAINING if pretrained is None else {}
    return QUIET | small | {name: DefaultParseValue(value) for name, value in given.items()}


def _write_bundle(setting: Setting) -> None:
    """Write an inference.json with the overrides of the settings that it shares with train.json."""
    parser = ConfigParser()
    parser.read_config(CONFIGS / "inference.json")
    shared = {name: v for name, v in setting.overrides.items() if name.split("#")[0] in parser.config}
    parser.update(shared)
    content = {key: value for key, value in parser.config.items() if key != "_meta_"}
    write_json(setting.bundle / "configs" / "inference.json", content)
    if not (setting.bundle / "models").exists():
        (setting.bundle / "models").mkdir()
        shutil.copytree(BUNDLE / "models" / "clip", setting.bundle / "models" / "clip")
