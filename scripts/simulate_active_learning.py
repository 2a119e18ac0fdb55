#!/usr/bin/env python
"""Simulate active learning: train a little, choose who is labelled next, label, repeat; Dice against labelled cases.

    python scripts/simulate_active_learning.py --phantoms 44 --output runs/active
    python scripts/simulate_active_learning.py --dataset_dir /data/BraTS2021 --datalist datalist.json \\
      --pretrained bundle/models/model.pt --output runs/active -- --spacing "[2,2,2]" --patch_size "[64,64,64]"

Each seed starts from a few labelled cases that all strategies share. Then each strategy chooses a batch from the scores
of its own network, the true labels are added, and the network is trained on with the bundle's train.json. Dice is
measured on test cases that are never trained on: those of the datalist, or a share of the folder's. Leaves
simulate_active_learning.md, .csv, _summary.csv, .png and .svg in the output folder. Type the same command again to go
on where it was interrupted, or with more seeds, labels or strategies; what is finished is not run again. What follows
"--" goes to train.json. Without --pretrained and without such settings a small network at 4 mm is trained from scratch.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "monailabel_app"))

import numpy as np
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES, read_report
from brats_clip.errors import BratsClipError, InputError
from brats_clip.evaluation import atomic_write, collect_run_info, sha256_of, write_metrics_csv
from brats_clip.evaluation.labelled import draws, labelled_cases, read_truth
from brats_clip.evaluation.metrics import crop_to_union, dice
from brats_clip.evaluation.plots import SOFT, new_figure, plain, save_figure
from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure, markdown_facts, markdown_table
from brats_clip.labels import REGIONS
from lib.active.cache import ScoreCache
from lib.active.choose import ORDERS
from lib.active.measure import measure

NAME = "simulate_active_learning"
SCRIPTS = Path(__file__).resolve().parent
BUNDLE = SCRIPTS.parent / "bundle"
MONAI = (sys.executable, "-m", "monai.bundle", "run")
MEASURES = (*REGIONS, "mean")
BASELINE = "random"
WANTED_SHARE = 0.7  # of random's labels: what the combined strategy was expected to need
PHANTOM_GRID = ("--size", "60", "60", "40", "--spacing", "4", "4", "4")
COLOURS = dict(zip(ORDERS, ("#5c6775", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00"), strict=True))

# A network that learns something within half a minute on one core: nobody clicks here, and no sequence is missing.
SMALL_NETWORK = {"network_def#widths": [8, 16, 32, 64], "network_def#head_width": 16, "network_def#clicks": False}
SMALL_TRAINING = {"spacing": [4.0, 4.0, 4.0], "patch_size": [48, 48, 48], "learning_rate": 0.002}
SMALL_TRAINING |= {"missing_sequence_share": 0.0}
QUIET = {"num_workers": 0, "val_workers": 0, "tensorboard": False, "progress_bar": False, "checkpoints#interval": 20}
# Settings that come from the options of this script.
OWN = {"dataset_dir", "datalist", "epochs", "seed", "output_dir", "cache_dir", "pretrained", "val_interval", "resume"}


class RunFailed(Exception):
    """A training that ended badly; the other strategies go on."""


@dataclass(frozen=True)
class Setting:
    """What all runs share.

    Attributes:
        pool: the cases to choose from, by name.
        tests: the cases that Dice is measured on.
        overrides: of train.json.
        pretrained: weights that every start is trained on from; None for none.
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
        """The bundle whose inference.json fits the network that is trained."""
        return self.output / "bundle"

    def epochs(self, cases: int) -> int:
        """So many that a training takes about ``steps`` iterations, however many cases there are."""
        batch = int(self.overrides.get("batch_size", 1))
        return max(1, round(self.steps / max(1, cases // batch)))


@dataclass(frozen=True)
class Round:
    """One training on the cases labelled so far, and what came of it; in a folder of its own."""

    setting: Setting
    seed: int
    strategy: str
    number: int

    @property
    def folder(self) -> Path:
        name = f"{self.strategy}/round{self.number:02d}" if self.number else "start"
        return self.setting.output / f"seed{self.seed}" / name

    @property
    def version(self) -> str:
        """Of the weights, for the cache of scores."""
        return self.folder.relative_to(self.setting.output).as_posix()

    @property
    def weights(self) -> Path:
        return self.folder / "training" / "checkpoints" / "model.pt"

    def record(self) -> dict | None:
        """``labelled``, ``chosen``, ``dice`` by test case and ``seconds``; None while it is not finished."""
        path = self.folder / "round.json"
        return _read_json(path) if path.is_file() else None

    def run(self, before: Round | None, cache: ScoreCache, watch: Callable[[], None]) -> dict:
        """Choose, label, train and measure; what is finished is not done again.

        Raises:
            RunFailed: if the training ends badly.
        """
        if (record := self.record()) is not None:
            return record
        setting, started = self.setting, time.perf_counter()
        if before is None:
            order = draws(self.seed, "start").permutation(sorted(setting.pool))
            labelled, chosen, pretrained = [], [str(name) for name in order[: setting.start]], setting.pretrained
        else:
            labelled, pretrained = before.record()["labelled"], before.weights
            chosen = before.choose(self.strategy, labelled, cache, watch)
        chosen_at = time.perf_counter()
        self._train([*labelled, *chosen], pretrained, watch)
        trained_at = time.perf_counter()
        scores = self._evaluate(watch)
        record = {"labelled": [*labelled, *chosen], "chosen": chosen, "dice": scores}
        record["seconds"] = {"choose": chosen_at - started, "train": trained_at - chosen_at}
        record["seconds"]["measure"] = time.perf_counter() - trained_at
        _write_json(self.folder / "round.json", record)
        for checkpoint in self.weights.parent.glob("checkpoint_*"):
            checkpoint.unlink()
        if before is not None and before.number:
            before.weights.unlink(missing_ok=True)
        return record

    def choose(self, strategy: str, labelled: Sequence[str], cache: ScoreCache, watch: Callable[[], None]) -> list[str]:
        """What a strategy would have labelled next, by the scores of this round's network."""
        pool, rng = self.setting.pool, draws(self.seed, strategy, f"round {self.number}")
        free = sorted(pool.keys() - set(labelled))
        if strategy == BASELINE:
            return [choice.case_id for choice in ORDERS[strategy](free, [], rng, self.setting.batch)]
        segmenter = None
        for name in sorted(pool) if self.number == 0 else free:  # the descriptor of the first ones is wanted, too
            if cache.get(self.version, name) is None:
                segmenter = segmenter or Segmenter(self.setting.bundle, self.weights)
                files = {s: pool[name][s] for s in SEQUENCES}
                cache.put(measure(segmenter, name, files, read_report(pool[name].get("report")), self.version))
                watch()
        scores = cache.scores(self.version)
        known = cache.latest(set(labelled), self.version)  # CLIP's view of a case does not change with the weights
        descriptors = [known[name].descriptor for name in labelled]
        chosen = ORDERS[strategy]({name: scores[name] for name in free}, descriptors, rng, self.setting.batch)
        return [choice.case_id for choice in chosen]

    def _train(self, labelled: Sequence[str], pretrained: Path | None, watch: Callable[[], None]) -> None:
        cases = [self.setting.pool[name] for name in labelled]
        epochs = self.setting.epochs(len(cases))
        # Validated once, after the last epoch, whose weights are taken: nothing is chosen by it, so that no labelled
        # case has to be spent on it.
        _write_json(self.folder / "datalist.json", {"training": cases, "validation": cases[:1]})
        options = {"bundle_root": BUNDLE, "dataset_dir": "/", "datalist": self.folder / "datalist.json"}
        options |= {"output_dir": self.folder / "training", "cache_dir": self.setting.output / "cache"}
        options |= {"epochs": epochs, "val_interval": epochs, "seed": 1000 * self.seed + self.number}
        options |= {} if pretrained is None else {"pretrained": pretrained}
        options |= self.setting.overrides
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        command = [*MONAI, "training", "--config_file", str(BUNDLE / "configs" / "train.json"), *words]
        log = self.folder / "log.txt"
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    watch()
                    try:
                        process.wait(timeout=0.5)
                    except subprocess.TimeoutExpired:
                        continue
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if process.returncode or not self.weights.is_file():
            said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
            reason = next((s for s in reversed(said) if s.startswith("Error: ")), (said or ["no message"])[-1])
            raise RunFailed(f"training ended with code {process.returncode}: {reason} (see {log})")

    def _evaluate(self, watch: Callable[[], None]) -> dict[str, dict[str, float]]:
        segmenter, scores = Segmenter(self.setting.bundle, self.weights), {}
        for case in self.setting.tests:
            key = segmenter.set_case(**{s: case[s] for s in SEQUENCES})
            answer = segmenter.segment(report=read_report(case.get("report")))
            segmenter.forget(key)
            scores[case["case"]] = dice_of(answer.label, read_truth(case).label)
            watch()
        return scores


def dice_of(answer: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Dice per region, and their mean."""
    answer, truth = crop_to_union(answer, truth)
    values = {region: dice(np.isin(answer, v), np.isin(truth, v)) for region, v in REGIONS.items()}
    return values | {"mean": sum(values.values()) / len(values)}


# Summing up


def collect(setting: Setting, seeds: Sequence[int], strategies: Sequence[str], rounds: int) -> list[dict]:
    """A row per seed, strategy and round that is finished: number of ``labels``, ``dice_R`` as means over the test
    cases, ``chosen`` cases and ``seconds``. The shared start is in the rows of every strategy."""
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


def labels_to_reach(curve: Mapping[int, float], target: float) -> float | None:
    """How many labels a curve needs to reach ``target`` for the first time, on straight lines between its points; None
    if it never does."""
    points = sorted(curve.items())
    for (labels, value), (less, below) in zip(points, [points[0], *points], strict=False):
        if value >= target:
            return float(labels) if below >= target else less + (labels - less) * (target - below) / (value - below)
    return None


def summarise(rows: Sequence[dict]) -> list[dict]:
    """A row per strategy.

    ``final_R`` is the Dice at the end, ``curve`` the mean Dice over all rounds but the shared start, ``gain`` its
    difference to that of random with the same seed. ``share``: labels needed to reach random's final mean Dice, as a
    share of the labels random had then, over the seeds that get there; ``never`` counts the others, of ``seeds``.
    ``_sd`` are over seeds. Only seeds that are finished by a strategy and by random count.
    """
    curves: dict[tuple[str, int], dict[int, dict]] = {}
    for row in rows:
        curves.setdefault((row["strategy"], row["seed"]), {})[row["labels"]] = row
    most = max(row["labels"] for row in rows)
    curves = {key: curve for key, curve in curves.items() if max(curve) == most}
    lines = []
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        mine = {seed: curve for (name, seed), curve in curves.items() if name == strategy}
        if not mine:
            continue
        line: dict = {"strategy": strategy, "seeds": len(mine)}
        for measure_ in MEASURES:
            end = statistics(curve[most][f"dice_{measure_}"] for curve in mine.values())
            line |= {f"final_{measure_}": end["mean"], f"final_{measure_}_sd": end["std"]}
        over = {seed: _over_rounds(curve) for seed, curve in mine.items()}
        paired = [seed for seed in mine if (BASELINE, seed) in curves]
        gains = statistics(over[seed] - _over_rounds(curves[BASELINE, seed]) for seed in paired)
        shares = []
        for seed in paired:
            target = curves[BASELINE, seed][most]["dice_mean"]
            needed = labels_to_reach({n: row["dice_mean"] for n, row in mine[seed].items()}, target)
            shares.append(None if needed is None else needed / most)
        share, curve = statistics(shares), statistics(over.values())
        line |= {"curve": curve["mean"], "curve_sd": curve["std"], "gain": gains["mean"], "gain_sd": gains["std"]}
        line |= {"share": share["mean"], "share_sd": share["std"], "never": len(shares) - share["n"]}
        lines.append(line)
    return lines


def _over_rounds(curve: Mapping[int, dict]) -> float:
    return float(np.mean([curve[labels]["dice_mean"] for labels in sorted(curve)[1:] or curve]))


def in_short(summary: Sequence[dict]) -> list[str]:
    """What the figures come to, in sentences."""
    by_name = {line["strategy"]: line for line in summary}
    # Repeat for repeat where there is random to compare with: not all strategies may have finished the same ones.
    best = max(summary, key=lambda line: line["curve"] if line["gain"] is None else line["gain"])
    said = [f"Highest mean Dice over the rounds: {best['strategy']}, {figure(best['curve'], best['curve_sd'])}."]
    for name, line in by_name.items():
        if name != BASELINE and line["gain"] is not None:
            spread = line["gain_sd"]
            sure = "" if spread is None else " (more than one sd)" if abs(line["gain"]) > spread else " (within one sd)"
            said.append(f"{name} against random: mean Dice over the rounds {figure(line['gain'], spread, '+')}{sure}.")
    wanted = by_name.get("combined")
    if wanted is not None and BASELINE in by_name:
        got = wanted["share"]
        if got is None:
            said.append(f"combined never reaches random's final Dice; expected with {WANTED_SHARE:.0%} of its labels.")
        else:
            held = got <= WANTED_SHARE and not wanted["never"]
            said.append(
                f"combined reaches random's final Dice with {got:.0%} of its labels in "
                f"{wanted['seeds'] - wanted['never']} of {wanted['seeds']} repeats; expected was {WANTED_SHARE:.0%} at "
                f"most: {'held' if held else 'not held'}."
            )
    return said


def to_markdown(rows: Sequence[dict], summary: Sequence[dict], run: Mapping, failures: Mapping[str, str]) -> str:
    """The tables, what they come to, and what their figures mean nothing without."""
    labels = sorted({row["labels"] for row in rows})
    dices: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        dices.setdefault((row["strategy"], row["labels"]), []).append(row["dice_mean"])
    curves = []
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        cells = [statistics(dices.get((strategy, n), [])) for n in labels]
        curves.append([strategy, *(figure(cell["mean"], cell["std"]) for cell in cells)])
    ends = [
        [
            line["strategy"],
            line["seeds"],
            *(figure(line[f"final_{m}"], line[f"final_{m}_sd"]) for m in MEASURES),
            "-" if line["strategy"] == BASELINE else figure(line["gain"], line["gain_sd"], "+"),
            figure(line["share"], line["share_sd"], digits=2),
            line["never"],
        ]
        for line in summary
    ]
    head = ["strategy", "repeats", *(f"final Dice {m}" for m in MEASURES), "gain", "share of labels", "never"]
    return "\n".join(
        [
            "# Simulated active learning\n",
            "## Mean Dice against labelled cases\n",
            *markdown_table(["strategy", *(f"{n} labels" for n in labels)], curves),
            "\nMean of the three regions over the test cases; mean ± standard deviation over repeats. All strategies "
            "share the first column's network within a repeat.\n",
            "## At the end\n",
            *markdown_table(head, ends),
            "\nGain: of the mean Dice over all rounds to that of random in the same repeat. Share of labels: needed to "
            "reach random's final Dice for the first time, of the labels random had at its end; never: repeats that do "
            "not get there. Random's own share is below 1 where its curve was up there before: that much is noise.\n",
            *(f"- {sentence}" for sentence in in_short(summary)),
            f"\n![Dice against labelled cases]({NAME}.svg)\n",
            *markdown_facts(run),
            *(f"- failed: {name}: {reason}" for name, reason in failures.items()),
            "",
        ]
    )


def draw(rows: Sequence[dict], summary: Sequence[dict], stem: Path) -> None:
    """Curves: mean and standard deviation over repeats; and how many labels each repeat needed."""
    picture = new_figure(12, 4.6)
    left, right = picture.subplots(1, 2, width_ratios=(3, 2))
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    for place, strategy in enumerate(strategies):
        mine = [row for row in rows if row["strategy"] == strategy]
        labels = sorted({row["labels"] for row in mine})
        found = [statistics(row["dice_mean"] for row in mine if row["labels"] == n) for n in labels]
        mean, sd = (np.array([cell[key] or 0.0 for cell in found]) for key in ("mean", "std"))
        style = {"color": COLOURS[strategy], "ls": "--" if strategy == BASELINE else "-"}
        left.fill_between(labels, mean - sd, mean + sd, color=COLOURS[strategy], alpha=0.08, lw=0)
        left.plot(labels, mean, lw=2, marker="o", ms=3.5, label=strategy, **style)
        line = next((line for line in summary if line["strategy"] == strategy), None)
        if line is not None and line["share"] is not None:
            bar = {"fmt": "o", "color": COLOURS[strategy], "ms": 6, "capsize": 3}
            right.errorbar(line["share"], place, xerr=line["share_sd"] or 0.0, **bar)
        if line is not None and line["never"]:
            right.annotate(f"never in {line['never']} of {line['seeds']}", (1.02, place), fontsize=8, va="center")
    plain(left, "Dice, mean of the three regions", "both")
    left.set_xlabel("labelled cases", fontsize=9)
    left.legend(frameon=False, fontsize=8, loc="lower right")
    plain(right, "labels needed, as a share of random's", "x")
    right.set_yticks(range(len(strategies)), strategies)
    right.set_ylim(len(strategies) - 0.5, -0.5)
    right.set_xlim(0, 1.35)
    for share in (WANTED_SHARE, 1.0):
        right.axvline(share, color=SOFT, lw=0.9, ls=":")
    repeats = len({row["seed"] for row in rows})
    spread = "mean ± sd over repeats" if repeats > 1 else "no spread"
    picture.suptitle(f"{repeats} repeat{'s' * (repeats > 1)}: {spread}", fontsize=9)
    save_figure(picture, stem)


# The command


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--phantoms", type=int, help="make so many synthetic patients at 4 mm in OUTPUT/patients and use those")
    add("--cases", type=Path, help="folder of cases; those with a label are taken")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py; chooses from training, measures on testing")
    add("--tests", type=int, default=12, help="test cases of a folder (default: %(default)s)")
    add("--output", type=Path, default=Path(f"runs/{NAME}"), help="folder for the results (default: %(default)s)")
    add("--strategies", nargs="+", choices=ORDERS, default=list(ORDERS), metavar="NAME", help=f"of {', '.join(ORDERS)}")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one repeat each (default: 0 1 2)")
    add("--start", type=int, default=2, help="labelled cases at first (default: %(default)s)")
    add("--batch", type=int, default=2, help="cases labelled per round (default: %(default)s)")
    add("--labels", type=int, default=12, help="labelled cases at the end (default: %(default)s)")
    add("--steps", type=int, default=100, help="iterations per training, about (default: %(default)s)")
    add("--pretrained", type=Path, help="weights to start from (default: none)")
    cut = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:cut])
    args.words = list(argv[cut + 1 :])
    if min(args.start, args.batch, args.steps, args.tests) < 1 or min(args.seeds) < 0:
        parser.error("--start, --batch, --steps and --tests must be at least 1, --seeds at least 0")
    if args.labels < args.start + args.batch:
        parser.error(f"--labels must be at least --start and --batch together, {args.start + args.batch}")
    return args


def _overrides(words: Sequence[str], pretrained: Path | None) -> dict[str, object]:
    """What train.json gets: the defaults of a small training, and over them what was given as ``--name value``."""
    known = {name.lstrip("+") for name in _read_json(BUNDLE / "configs" / "train.json")}
    given, rest = {}, list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            equals, value = "=", rest.pop(0)
        top = name.removeprefix("--").split("#")[0].split("::")[0]
        if not name.startswith("--") or not equals:
            raise InputError("after --", repr(name), "--name value")
        if top not in known or top in OWN:
            hint = "this script's own option before the --" if top in OWN else "a setting of train.json"
            raise InputError("after --", name, hint)
        given[name.removeprefix("--")] = DefaultParseValue(value)
    return QUIET | (SMALL_NETWORK | SMALL_TRAINING if pretrained is None else {}) | given


def _prepare(args: argparse.Namespace) -> Setting:
    """Find the cases, and make sure that what lies in the output folder belongs to this simulation.

    Raises:
        InputError: if there are too few cases, or the folder holds a simulation with other settings.
    """
    args.output = args.output.expanduser().resolve()
    overrides = _overrides(args.words, args.pretrained)
    if args.phantoms is not None:
        args.cases = args.output / "patients"
        command = [sys.executable, str(SCRIPTS / "make_phantoms.py"), "--output", str(args.cases)]
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
    if path.is_file() and (other := [k for k, v in _read_json(path).items() if v != record.get(k)]):
        raise InputError(args.output, f"a simulation with other settings ({', '.join(other)})", "another --output")
    _write_json(path, record)
    _write_bundle(setting)
    return setting


def _write_bundle(setting: Setting) -> None:
    """An inference.json that fits: the settings it shares with train.json."""
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / "inference.json")
    shared = {name: v for name, v in setting.overrides.items() if name.split("#")[0] in parser.config}
    parser.update(shared)
    content = {key: value for key, value in parser.config.items() if key != "_meta_"}
    _write_json(setting.bundle / "configs" / "inference.json", content)
    if not (setting.bundle / "models").exists():
        (setting.bundle / "models").mkdir()
        shutil.copytree(BUNDLE / "models" / "clip", setting.bundle / "models" / "clip")


def _simulate(setting: Setting, args: argparse.Namespace, command: str, console: Console) -> dict[str, str]:
    """Run what is not finished, and write what is known after each strategy; returns which runs failed, and why."""
    rounds = (args.labels - args.start) // args.batch
    seeds, strategies = list(dict.fromkeys(args.seeds)), [s for s in ORDERS if s in args.strategies]
    run = collect_run_info(command, args.pretrained, pool=len(setting.pool), tests=len(setting.tests))
    run["training"] = f"about {args.steps} iterations per round, each going on from the weights before"
    cache, failures = ScoreCache(args.output / "scores"), {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(seeds) * (1 + len(strategies) * rounds))
        for seed in seeds:
            folder = setting.output / f"seed{seed}"
            folder.mkdir(exist_ok=True)
            with (folder / ".lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    failures[f"seed {seed}"] = "another process is at it"
                    continue
                for strategy in (None, *strategies):
                    name = f"seed {seed}, {strategy or 'start'}"
                    try:
                        before = None if strategy is None else Round(setting, seed, "start", 0)
                        for number in range(1, rounds + 1) if strategy else [0]:
                            current = Round(setting, seed, strategy or "start", number)
                            progress.update(bar, description=f"{name}: round {number} of {rounds}")
                            current.run(before, cache, progress.refresh)
                            progress.advance(bar)
                            before = current
                    except (RunFailed, BratsClipError) as reason:
                        failures[name] = str(reason)
                        if strategy is None:
                            break
                    _write_results(setting, seeds, strategies, rounds, run, failures)
    if _write_results(setting, seeds, strategies, rounds, run, failures):
        summary = summarise(collect(setting, seeds, strategies, rounds))
        console.print("\n".join([*in_short(summary), f"Wrote {args.output / NAME}.md, .csv, .png and .svg."]))
    return failures


def _write_results(setting: Setting, seeds: list, strategies: list, rounds: int, run: dict, failures: dict) -> bool:
    rows = collect(setting, seeds, strategies, rounds)
    if not rows or max(row["labels"] for row in rows) <= setting.start:
        return False
    summary, stem = summarise(rows), setting.output / NAME
    write_metrics_csv([{"case": "", **row} for row in rows], stem.with_name(f"{NAME}.csv"))
    write_metrics_csv([{"case": "", **line} for line in summary], stem.with_name(f"{NAME}_summary.csv"))
    draw(rows, summary, stem)
    with atomic_write(stem.with_name(f"{NAME}.md")) as draft:
        draft.write_text(to_markdown(rows, summary, run, failures), encoding="utf-8")
    return True


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise InputError(path, f"malformed JSON ({reason})", "a file as it was written") from reason


def _write_json(path: Path, content: object) -> None:
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a run failed, 2 when the input is of no use."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _arguments(argv)
    command = shlex.join(["python", f"scripts/{NAME}.py", *argv])
    try:
        failures = _simulate(_prepare(args), args, command, Console(soft_wrap=True, markup=False, highlight=False))
    except BratsClipError as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return 2
    for name, reason in failures.items():
        sys.stderr.write(f"{NAME}: {name}: {reason}\n")
    return int(bool(failures))


if __name__ == "__main__":
    # So that a training does not outlive this process.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(f"{NAME}: interrupted; type the same command to go on")
