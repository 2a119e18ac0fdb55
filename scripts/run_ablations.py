#!/usr/bin/env python
"""The ablation table of arXiv:2507.09966 over seeds: the full network, and without each part of the method.

python scripts/run_ablations.py --dataset_dir /data/BraTS2021 --datalist datalist.json --output runs/ablations

Trains and evaluates each network of bundle/configs/ablations, and the full one, once per seed. Leaves ablations.md,
ablations.csv and ablations.svg in the output folder, and each run in NETWORK/seedK below it. Type the same command
again to go on where it was interrupted; what is finished is not run again. What follows "--" goes to train.json:

python scripts/run_ablations.py ... --epochs 40 -- --patch_size "[96,96,96]" --batch_size 2
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import reprlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import matplotlib
import numpy as np
import pandas as pd
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from brats_clip.cases import SECTIONS, load_datalist
from brats_clip.errors import BratsClipError, InputError
from brats_clip.evaluation import atomic_write, sha256_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
CONFIGS = BUNDLE / "configs"
FULL = "full"
VARIANTS = (FULL, *sorted(path.stem for path in (CONFIGS / "ablations").glob("*.json")))
COLOURS = {"WT": "#0072b2", "TC": "#b57f00", "ET": "#c8420a", "mean": "#1b2430"}  # of the columns, as in report.html
MONAI = (sys.executable, "-m", "monai.bundle", "run")

# Settings that come from the options of this script.
OWN = {"dataset_dir", "datalist", "epochs", "seed", "output_dir", "ckpt_dir", "checkpoint", "curves_file"}
OWN |= {"use_reports", "section", "resume", "bundle_root"}
# Settings that leave the figures alone, so that another value does not make it another run.
HARMLESS = {"cache_dir", "progress_bar", "tensorboard", "mlflow", "mlflow_uri"}


class RunFailed(Exception):
    """A training or an evaluation that ended badly; the others go on."""


@dataclass(frozen=True)
class Run:
    """One network with one seed, in a folder of its own.

    Args:
        folder: holds run.json, log.txt, training/ and report_true/ or report_none/.
        options: what the commands of training and evaluation are given alike.
        settings: what the figures depend on, apart from network and seed; setting to value.
        reports: how it is evaluated: "true", each case with its own report, "none", or both.
    """

    variant: str
    seed: int
    folder: Path
    options: Sequence[str]
    settings: dict
    reports: Sequence[str]

    @property
    def name(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether it is trained and evaluated; metrics.csv is written when every case has been seen."""
        return "parameters" in self.record() and all(self.metrics(report).is_file() for report in self.reports)

    def metrics(self, report: str) -> Path:
        return self.folder / f"report_{report}" / "metrics.csv"

    def record(self) -> dict:
        """What run.json holds: settings, code, and the number of parameters once it is trained."""
        path = self.folder / "run.json"
        return _read_json(path) if path.is_file() else {}

    def check(self) -> None:
        """Make sure that what lies in the folder, if anything does, is this run.

        Raises:
            InputError: naming the settings that differ, or a metrics.csv that cannot be read.
        """
        if not list(self.folder.glob("[!.]*")):
            return
        expected = "the same settings; use another --output, or remove the folder"
        old, new = self.record().get("settings"), self.settings
        if old is None:
            raise InputError(self.folder, "files of an unknown run", expected)
        other = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        if other:
            shown = [f"{name} {reprlib.repr(old.get(name))}, now {reprlib.repr(new.get(name))}" for name in other[:4]]
            more = f"; and {len(other) - 4} more" if len(other) > 4 else ""
            raise InputError(self.folder, f"a run with other settings ({'; '.join(shown)}{more})", expected)
        for path in filter(Path.is_file, map(self.metrics, self.reports)):
            read_dice(path)

    def execute(self, watch: Callable[[], None]) -> None:
        """Train and evaluate, as far as that is not done; ``watch`` is called about once a second.

        Raises:
            RunFailed: if a command ends badly, or another process is at this run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFailed("another process is at it") from None
            record = self.record()
            record |= {"settings": self.settings, "code": sorted({*record.get("code", ()), code_version()})}
            self._write(record)
            training = self.folder / "training"
            if "parameters" not in record:
                self._command(["training", *self._configs(), "--output_dir", training], lock, watch)
                self._write(record | {"parameters": self._count_parameters()})
            for report in self.reports:
                if not self.metrics(report).is_file():
                    command = ["evaluating", *self._configs("evaluate"), "--output_dir", self.metrics(report).parent]
                    command += ["--checkpoint", training / "checkpoints" / "model.pt"]
                    command += ["--curves_file", training / "curves.csv", "--use_reports", report == "true"]
                    self._command(command, lock, watch)

    def epochs_done(self) -> int:
        curves = self.folder / "training" / "curves.csv"
        return max(0, len(curves.read_text().splitlines()) - 1) if curves.is_file() else 0

    def _configs(self, *more: str) -> list[str]:
        names = ["train", *([] if self.variant == FULL else [f"ablations/{self.variant}"]), *more]
        return ["--config_file", repr([str(CONFIGS / f"{name}.json") for name in names])]

    def _count_parameters(self) -> int:
        """Trainable parameters; those of the frozen CLIP do not count."""
        parser = ConfigParser()
        parser.read_config(DefaultParseValue(self._configs()[1]))
        pairs = zip(self.options[::2], self.options[1::2], strict=True)
        parser.update({name.removeprefix("--"): DefaultParseValue(value) for name, value in pairs})
        network = parser.get_parsed_content("network_def")
        return sum(p.numel() for p in network.parameters() if p.requires_grad)

    def _write(self, record: dict) -> None:
        with atomic_write(self.folder / "run.json") as draft:
            draft.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def _command(self, arguments: Sequence, lock, watch: Callable[[], None]) -> None:
        log = self.folder / "log.txt"
        with log.open("ab") as output:
            start = output.tell()
            command = [*MONAI, *map(str, arguments), *self.options]
            pipes = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            # The child holds the lock, too: it may outlive this process.
            process = subprocess.Popen(command, pass_fds=[lock.fileno()], **pipes)
            try:
                while process.poll() is None:
                    watch()
                    try:
                        process.wait(timeout=1)
                    except subprocess.TimeoutExpired:
                        continue
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if process.returncode:
            said = log.read_bytes()[start:].decode(errors="replace").split("\n")
            lines = [line.strip() for line in said if line.strip()] or ["no message"]
            reason = next((line for line in lines if line.startswith("Error: ")), lines[-1]).removeprefix("Error: ")
            raise RunFailed(f"{arguments[0]} ended with code {process.returncode}: {reason} (see {log})")


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise InputError(path, f"malformed JSON ({reason})", "a file as it was written") from reason


def code_version() -> str:
    """A short hash of the package and its CLIP: runs of different ones do not belong in one table."""
    files = sorted([*(BUNDLE / "brats_clip").rglob("*.py"), *(BUNDLE / "models" / "clip").glob("*")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def parse_overrides(words: Sequence[str]) -> dict[str, str]:
    """Read ``--name value`` and ``--name=value``.

    Raises:
        InputError: for a name that neither train.json nor evaluate.json has, which MONAI would silently ignore, and
            for one that this script sets.
    """
    known = {name.lstrip("+") for config in ("train", "evaluate") for name in _read_json(CONFIGS / f"{config}.json")}
    overrides, rest = {}, list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            equals, value = "=", rest.pop(0)
        if not name.startswith("--") or not equals:
            raise InputError("after --", repr(name), "--name value")
        top = name.removeprefix("--").split("#")[0].split("::")[0]
        if top == "pretrained":
            raise InputError("after --", name, "networks that start afresh: the weights of one fit no other")
        if top in OWN or top not in known:
            hint = "this script's own option before the --" if top in OWN else "a setting of train.json"
            raise InputError("after --", name, hint)
        overrides[name.removeprefix("--")] = value
    return overrides


def settings_of(variant: str, args: argparse.Namespace, overrides: dict[str, str]) -> dict:
    """All that the figures of a network depend on: the configs with the overrides in place, without nesting."""
    ablation = {} if variant == FULL else _read_json(CONFIGS / "ablations" / f"{variant}.json")
    content = _read_json(CONFIGS / "train.json") | ablation
    content |= {name: DefaultParseValue(value) for name, value in overrides.items()}
    content |= {"dataset_dir": str(args.dataset_dir), "datalist": sha256_of(args.datalist)[:16], "epochs": args.epochs}
    content = {name: value for name, value in content.items() if name not in HARMLESS | {"seed"}}
    content["evaluate.json"] = _read_json(CONFIGS / "evaluate.json")
    return json.loads(json.dumps(_flat(content), default=str))


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}#{key}" if name else key).items()}


def read_dice(path: Path) -> pd.DataFrame:
    """Dice by case, in the columns WT, TC, ET and mean.

    Raises:
        InputError: if the file is no metrics.csv of an evaluation.
    """
    names = {f"dice_{column}": column for column in COLOURS}
    try:
        table = pd.read_csv(path, usecols=["case", *names], dtype={"case": str} | dict.fromkeys(names, float))
    except ValueError as reason:
        raise InputError(path, str(reason).splitlines()[0], "the metrics.csv of an evaluation") from reason
    return table.set_index("case").rename(columns=names)


def tabulate(runs: Sequence[Run]) -> pd.DataFrame:
    """A row per network and way of evaluating, from the runs that are finished.

    ``dice_R`` and ``dice_R_sd``, for R in WT, TC, ET and mean, are over seeds, of means over cases; ``difference_R``
    and ``difference_R_sd`` over the pairs of this network and the full one on the same case with the same seed.
    Standard deviations are those of samples: empty where there is one value.
    """
    rows = []
    finished = [run for run in runs if run.finished]
    for report in runs[0].reports:
        dice = {(run.variant, run.seed): read_dice(run.metrics(report)) for run in finished}
        for variant in dict.fromkeys(run.variant for run in finished):
            mine = {seed: table for (name, seed), table in dice.items() if name == variant}
            seeds = pd.DataFrame([table.mean() for table in mine.values()])
            pairs = [t - dice[FULL, seed] for seed, t in mine.items() if variant != FULL and (FULL, seed) in dice]
            differences = pd.concat(pairs).dropna() if pairs else pd.DataFrame(columns=list(COLOURS), dtype=float)
            row = {"report": report, "network": variant}
            row["parameters"] = next(run.record()["parameters"] for run in finished if run.variant == variant)
            row |= {"seeds": len(mine), "cases": max(map(len, mine.values())), "pairs": len(differences)}
            for kind, table in (("dice", seeds), ("difference", differences)):
                for c in COLOURS:
                    row |= {f"{kind}_{c}": table[c].mean(), f"{kind}_{c}_sd": table[c].std()}
            rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, runs: Sequence[Run], failures: dict[str, str], command: str) -> str:
    """The table, and under it what its figures mean nothing without."""

    def text(row: pd.Series, name: str, sign: str = "") -> str:
        mean, sd = row[name], row[f"{name}_sd"]
        return "-" if np.isnan(mean) else f"{mean:{sign}.3f}" + ("" if np.isnan(sd) else f" ± {sd:.3f}")

    def line(*cells: object) -> str:
        return f"| {' | '.join(map(str, cells))} |"

    dice = [f"Dice {column}" for column in COLOURS]
    lines = [line("report", "network", "parameters (M)", "seeds", *dice, "difference to full")]
    lines.append(line("---", "---", *["---:"] * (len(dice) + 3)))
    for _, row in table.iterrows():
        cells = [*(text(row, f"dice_{column}") for column in COLOURS), text(row, "difference_mean", "+")]
        lines.append(line(row["report"], row["network"], f"{row['parameters'] / 1e6:.2f}", row["seeds"], *cells))
    finished = [run for run in runs if run.finished]
    summaries = [run.metrics(report).with_name("summary.json") for run in finished for report in run.reports]
    facts = [_read_json(path)["run"] for path in summaries if path.is_file()]

    def distinct(key: str) -> str:
        return "; ".join(sorted({str(f[key]) for f in facts if key in f})) or "unknown"

    codes = sorted({code for run in finished for code in run.record()["code"]})
    changed = " (**changed between runs: rows do not compare**)" if len(codes) > 1 else ""
    epochs = sorted({run.epochs_done() for run in finished})
    trained = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else epochs[0]
    missing = {run.name: failures.get(run.name, "not run yet") for run in runs if not run.finished}
    return "\n".join(
        [
            "# Ablations\n",
            *lines,
            "\nDice: mean ± standard deviation over seeds of the mean over cases. Difference: of the mean Dice to that "
            "of the full network on the same case with the same seed, mean ± standard deviation over these pairs; "
            "ablations.csv has it per region. Report: evaluated with each case's own (true) or without (none).",
            "\n![Dice, and difference to the full network](ablations.svg)\n",
            f"- Command: `{command}`",
            f"- Hardware: {distinct('hardware')}",
            f"- Cases: {table['cases'].max()} of the section testing",
            f"- Epochs: at most {runs[0].settings['epochs']}, trained {trained}; the best by validation is evaluated",
            f"- Seeds: {', '.join(map(str, dict.fromkeys(run.seed for run in runs)))}",
            f"- Date: {datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC')}",
            f"- Versions: brats_clip {distinct('brats_clip')}, MONAI {distinct('monai')}, torch {distinct('torch')}; "
            f"code {', '.join(codes)}{changed}",
            *(f"- Missing: {name}: {reason}" for name, reason in missing.items()),
            "",
        ]
    )


def draw(table: pd.DataFrame, path: Path) -> None:
    """Dice with its spread over seeds, and the differences with theirs over pairs; a row per row of the table."""
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(11, 1.2 + 0.6 * len(table)), layout="constrained")
    rows = np.arange(len(table))
    titles = ("Dice (± over seeds)", "difference to full (± over cases and seeds)")
    for ax, kind, title in zip(axes, ("dice", "difference"), titles, strict=True):
        for place, (column, colour) in enumerate(COLOURS.items()):
            mean, sd = table[f"{kind}_{column}"], table[f"{kind}_{column}_sd"].fillna(0)
            ax.errorbar(mean, rows + 0.17 * (place - 1.5), xerr=sd, fmt="o", ms=4, color=colour, label=column)
        ax.set_title(title, fontsize=10)
        ax.grid(axis="x", color="#d9dee5")
    reports = [f", report: {report}" if table["report"].nunique() > 1 else "" for report in table["report"]]
    axes[0].set_yticks(rows, [name + report for name, report in zip(table["network"], reports, strict=True)])
    axes[0].invert_yaxis()
    axes[1].axvline(0, color="#5c6775", lw=1)
    axes[1].legend(fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def write_results(runs: Sequence[Run], failures: dict[str, str], command: str, output: Path) -> None:
    """Write the table as CSV and Markdown, and the picture; nothing while no run is finished."""
    if not any(run.finished for run in runs):
        return
    table = tabulate(runs)
    with atomic_write(output / "ablations.csv") as draft:
        table.to_csv(draft, index=False, float_format="%.6g")
    with atomic_write(output / "ablations.svg") as draft:
        draw(table, draft)
    with atomic_write(output / "ablations.md") as draft:
        draft.write_text(markdown(table, runs, failures, command), encoding="utf-8")


def plan(args: argparse.Namespace, overrides: dict[str, str]) -> list[Run]:
    """All runs, seed by seed, so that a table of the first seed is there early; checked before any of them starts."""
    args.epochs = _read_json(CONFIGS / "train.json")["epochs"] if args.epochs is None else args.epochs
    for name, least in (("epochs", [args.epochs, 1]), ("seeds", [min(args.seeds), 0])):
        if least[0] < least[1]:
            raise InputError(f"--{name}", str(least[0]), f"at least {least[1]}")
    for name in ("dataset_dir", "datalist", "output"):
        setattr(args, name, getattr(args, name).expanduser().resolve())
    for section in SECTIONS:
        load_datalist(args.datalist, args.dataset_dir, section)
    options = {"bundle_root": BUNDLE, "dataset_dir": args.dataset_dir, "datalist": args.datalist, "epochs": args.epochs}
    # No part that is ablated changes how cases are prepared, so one cache serves all.
    options |= {"cache_dir": args.output / "cache", "progress_bar": False, **overrides}
    settings = {variant: settings_of(variant, args, overrides) for variant in VARIANTS if variant in args.only}
    reports, runs = list(dict.fromkeys(args.report)), []
    for seed in dict.fromkeys(args.seeds):
        words = [str(word) for name, value in (options | {"seed": seed}).items() for word in (f"--{name}", value)]
        for variant in settings:
            folder = args.output / variant / f"seed{seed}"
            runs.append(Run(variant, seed, folder, words, settings[variant], reports))
    for run in runs:
        run.check()
    return runs


def run_all(runs: Sequence[Run], output: Path, command: str) -> int:
    """Run what is not finished, and write the table after each; 1 if any failed, else 0."""
    todo = [run for run in runs if not run.finished]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console, failures = Console(soft_wrap=True, markup=False, highlight=False), {}
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("runs", total=len(runs), completed=len(runs) - len(todo))
        for number, run in enumerate(todo, start=len(runs) - len(todo)):

            def watch(run: Run = run, number: int = number) -> None:
                done, epochs = run.epochs_done(), run.settings["epochs"]
                stage = f"{run.name}: epoch {done} of {epochs}"
                progress.update(bar, description=stage, completed=number + 0.95 * min(1, done / epochs))

            try:
                run.execute(watch)
                write_results(runs, failures, command, output)
            except Exception as reason:  # one bad run must not cost the others
                kind = "" if isinstance(reason, RunFailed | BratsClipError) else f"{type(reason).__name__}: "
                failures[run.name] = kind + str(reason).split("\n")[0]
            console.print(f"{run.name}: {'failed' if run.name in failures else 'done'}")
            progress.update(bar, description="runs", completed=number + 1)
    write_results(runs, failures, command, output)
    done = sum(run.finished for run in runs)
    table = f" Table: {output / 'ablations.md'}" if done else ""
    console.print(f"{done} of {len(runs)} runs are finished, {len(todo) - len(failures)} of them new.{table}")
    for name, reason in failures.items():
        sys.stderr.write(f"run_ablations: {name}: {reason}\n")
    return 1 if failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when a run failed, 2 for bad input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, type=Path, help="folder that the datalist is relative to")
    parser.add_argument("--datalist", required=True, type=Path, help="JSON of scripts/prepare_brats.py")
    parser.add_argument("--output", required=True, type=Path, help="folder for the runs, the table and the cache")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one training each (default: 0 1 2)")
    some = f"some of {', '.join(VARIANTS)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="NETWORK", help=some)
    parser.add_argument("--epochs", type=int, help="per training (default: those of train.json)")
    how = "evaluate with each case's own report, with none, or both (default: true)"
    parser.add_argument("--report", nargs="+", choices=("true", "none"), default=["true"], help=how)
    args = parser.parse_args(argv[:cut])
    try:
        runs = plan(args, parse_overrides(argv[cut + 1 :]))
        return run_all(runs, args.output, shlex.join(["python", "scripts/run_ablations.py", *argv]))
    except BratsClipError as error:
        sys.stderr.write(f"run_ablations: {error}\n")
        return 2


if __name__ == "__main__":
    # So that a training does not outlive this process.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("run_ablations: interrupted; type the same command to go on")
