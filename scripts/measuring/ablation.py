"""The runs of an ablation, one per network and seed, each in its own folder; and the table of results."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from rich.console import Console

from brats_clip.cases import SECTIONS, load_datalist
from brats_clip.errors import BratsClipError, InputError
from brats_clip.evaluation import MEASURES, sha256_of
from brats_clip.evaluation.plots import COLOURS, SOFT, new_figure, plain, save_figure
from brats_clip.images import atomic_write

from .bundle_run import (
    BUNDLE,
    CONFIGS,
    HARMLESS,
    RunFailed,
    as_words,
    describe_differences,
    epochs_done,
    flat,
    lock_folder,
    run_or_fail,
)
from .command import OWN_OPTION, make_progress, read_json, read_overrides, write_json
from .shared import render, spread

FULL = "full"
# Settings that come from the options of the script.
OWN = ("dataset_dir", "datalist", "epochs", "seed", "output_dir", "ckpt_dir", "checkpoint", "curves_file")
OWN += ("use_reports", "section", "resume", "bundle_root")
REFUSED = dict.fromkeys(OWN, OWN_OPTION) | {"pretrained": "networks that start afresh: the weights of one fit no other"}


def ablate(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Run all unfinished runs, and update the table after each; return the failed runs with their reasons."""
    runs, output, failures = plan(args), args.output, {}
    todo = [run for run in runs if not run.finished]
    with make_progress(console) as progress:
        bar = progress.add_task("runs", total=len(runs), completed=len(runs) - len(todo))
        for number, run in enumerate(todo, start=len(runs) - len(todo)):

            def watch(run: Run = run, number: int = number) -> None:
                done, epochs = epochs_done(run.folder / "training"), run.settings["epochs"]
                stage = f"{run.name}: epoch {done} of {epochs}"
                progress.update(bar, description=stage, completed=number + 0.95 * min(1, done / epochs))

            try:
                run.execute(watch)
                write_results(runs, failures, command, output)
            except Exception as reason:  # a failed run must not stop the others
                kind = "" if isinstance(reason, RunFailed | BratsClipError) else f"{type(reason).__name__}: "
                failures[run.name] = kind + str(reason).split("\n")[0]
            console.print(f"{run.name}: {'failed' if run.name in failures else 'done'}")
            progress.update(bar, description="runs", completed=number + 1)
    write_results(runs, failures, command, output)
    done = sum(run.finished for run in runs)
    table = f" Table: {output / 'ablations.md'}" if done else ""
    console.print(f"{done} of {len(runs)} runs are finished, {len(todo) - len(failures)} of them new.{table}")
    return failures


def plan(args: argparse.Namespace) -> list[Run]:
    """Return all runs, ordered by seed so that the first seed's table is ready early; all are checked in advance.

    Args:
        args: options of the command, including the ``words`` after "--"; epochs and paths are filled in.

    Raises:
        InputError: if an option or setting is invalid, or a folder holds something else.
    """
    overrides = read_overrides(args.words, [CONFIGS / "train.json", CONFIGS / "evaluate.json"], REFUSED)
    args.epochs = read_json(CONFIGS / "train.json")["epochs"] if args.epochs is None else args.epochs
    for name, least in (("epochs", [args.epochs, 1]), ("seeds", [min(args.seeds), 0])):
        if least[0] < least[1]:
            raise InputError(f"--{name}", str(least[0]), f"at least {least[1]}")
    for name in ("dataset_dir", "datalist", "output"):
        setattr(args, name, getattr(args, name).expanduser().resolve())
    for section in SECTIONS:
        load_datalist(args.datalist, args.dataset_dir, section)
    options = {"bundle_root": BUNDLE, "dataset_dir": args.dataset_dir, "datalist": args.datalist, "epochs": args.epochs}
    # No ablation changes the preprocessing of cases, so all runs share one cache.
    options |= {"cache_dir": args.output / "cache", "progress_bar": False, **overrides}
    settings = {variant: settings_of(variant, args, overrides) for variant in args.only}
    reports, runs = list(dict.fromkeys(args.report)), []
    for seed in dict.fromkeys(args.seeds):
        words = as_words(options | {"seed": seed})
        for variant in settings:
            folder = args.output / variant / f"seed{seed}"
            runs.append(Run(variant, seed, folder, words, settings[variant], reports))
    for run in runs:
        run.check()
    return runs


def settings_of(variant: str, args: argparse.Namespace, overrides: dict[str, str]) -> dict:
    """Return all settings that the scores of a network depend on: the configs with overrides, flattened."""
    ablation = {} if variant == FULL else read_json(CONFIGS / "ablations" / f"{variant}.json")
    content = read_json(CONFIGS / "train.json") | ablation
    content |= {name: DefaultParseValue(value) for name, value in overrides.items()}
    content |= {"dataset_dir": str(args.dataset_dir), "datalist": sha256_of(args.datalist)[:16], "epochs": args.epochs}
    content = {name: value for name, value in content.items() if name not in HARMLESS | {"seed"}}
    content["evaluate.json"] = read_json(CONFIGS / "evaluate.json")
    return json.loads(json.dumps(flat(content), default=str))


@dataclass(frozen=True)
class Run:
    """One network with one seed, in its own folder.

    Args:
        folder: holds run.json, log.txt, training/ and report_true/ or report_none/.
        options: options that training and evaluation share.
        settings: settings that the scores depend on, apart from network and seed, with their values.
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
        """Whether the run is trained and evaluated; metrics.csv is written after the last case."""
        return "parameters" in self.record() and all(self.metrics(report).is_file() for report in self.reports)

    def metrics(self, report: str) -> Path:
        return self.folder / f"report_{report}" / "metrics.csv"

    def dice(self, report: str) -> pd.DataFrame:
        """Return Dice by case, in the columns WT, TC, ET and mean.

        Raises:
            InputError: if the file is not the metrics.csv of an evaluation.
        """
        path, names = self.metrics(report), {f"dice_{column}": column for column in MEASURES}
        try:
            table = pd.read_csv(path, usecols=["case", *names], dtype={"case": str} | dict.fromkeys(names, float))
        except ValueError as reason:
            raise InputError(path, str(reason).splitlines()[0], "the metrics.csv of an evaluation") from reason
        return table.set_index("case").rename(columns=names)

    def record(self) -> dict:
        """Return the content of run.json: settings, code, and the number of parameters once trained."""
        path = self.folder / "run.json"
        return read_json(path) if path.is_file() else {}

    def check(self) -> None:
        """Check that the folder is empty or holds this run.

        Raises:
            InputError: if the settings differ or are unknown, or a metrics.csv cannot be read.
        """
        if not list(self.folder.glob("[!.]*")):
            return
        expected = "the same settings; use another --output, or remove the folder"
        old = self.record().get("settings")
        if old is None:
            raise InputError(self.folder, "files of an unknown run", expected)
        if other := describe_differences(old, self.settings):
            raise InputError(self.folder, f"a run with other settings ({other})", expected)
        for report in self.reports:
            if self.metrics(report).is_file():
                self.dice(report)

    def execute(self, watch: Callable[[], None]) -> None:
        """Train and evaluate, skipping finished steps; ``watch`` is called about once a second.

        Raises:
            RunFailed: if a command fails, or another process holds this run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.folder) as lock:
            record = self.record()
            record |= {"settings": self.settings, "code": sorted({*record.get("code", ()), code_version()})}
            write_json(self.folder / "run.json", record)
            training = self.folder / "training"
            if "parameters" not in record:
                self._command(["training", *self._configs(), "--output_dir", training], lock, watch)
                write_json(self.folder / "run.json", record | {"parameters": self._count_parameters()})
            for report in self.reports:
                if not self.metrics(report).is_file():
                    command = ["evaluating", *self._configs("evaluate"), "--output_dir", self.metrics(report).parent]
                    command += ["--checkpoint", training / "checkpoints" / "model.pt"]
                    command += ["--curves_file", training / "curves.csv", "--use_reports", report == "true"]
                    self._command(command, lock, watch)

    def _configs(self, *more: str) -> list[str]:
        names = ["train", *([] if self.variant == FULL else [f"ablations/{self.variant}"]), *more]
        return ["--config_file", repr([str(CONFIGS / f"{name}.json") for name in names])]

    def _count_parameters(self) -> int:
        """Return the number of trainable parameters, without those of the frozen CLIP."""
        parser = ConfigParser()
        parser.read_config(DefaultParseValue(self._configs()[1]))
        pairs = zip(self.options[::2], self.options[1::2], strict=True)
        parser.update({name.removeprefix("--"): DefaultParseValue(value) for name, value in pairs})
        network = parser.get_parsed_content("network_def")
        return sum(p.numel() for p in network.parameters() if p.requires_grad)

    def _command(self, arguments: Sequence, lock: int, watch: Callable[[], None]) -> None:
        log = self.folder / "log.txt"
        # The child inherits the lock, since it may outlive this process.
        run_or_fail([*arguments, *self.options], log, watch, keep_open=[lock])


def code_version() -> str:
    """Return a short hash of the package and its CLIP: runs of different versions are not comparable."""
    files = sorted([*(BUNDLE / "brats_clip").rglob("*.py"), *(BUNDLE / "models" / "clip").glob("*")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def write_results(runs: Sequence[Run], failures: dict[str, str], command: str, output: Path) -> None:
    """Write the table as CSV and Markdown, and the figure; nothing until a run is finished."""
    if not any(run.finished for run in runs):
        return
    table = tabulate(runs)
    with atomic_write(output / "ablations.csv") as draft:
        table.to_csv(draft, index=False, float_format="%.6g")
    draw(table, output / "ablations")
    with atomic_write(output / "ablations.md") as draft:
        draft.write_text(markdown(table, runs, failures, command), encoding="utf-8")


def tabulate(runs: Sequence[Run]) -> pd.DataFrame:
    """Return a row per network and report setting, from the finished runs.

    For R in WT, TC, ET and mean, ``dice_R`` and ``dice_R_sd`` are over seeds, of the means over cases. ``difference_R``
    and ``difference_R_sd`` are over pairs of this network and the full one on the same case with the same seed.
    Standard deviations are those of samples, empty for a single value.
    """
    rows = []
    finished = [run for run in runs if run.finished]
    for report in runs[0].reports:
        dice = {(run.variant, run.seed): run.dice(report) for run in finished}
        for variant in dict.fromkeys(run.variant for run in finished):
            mine = {seed: table for (name, seed), table in dice.items() if name == variant}
            seeds = pd.DataFrame([table.mean() for table in mine.values()])
            pairs = [t - dice[FULL, seed] for seed, t in mine.items() if variant != FULL and (FULL, seed) in dice]
            differences = pd.concat(pairs).dropna() if pairs else pd.DataFrame(columns=list(MEASURES), dtype=float)
            row = {"report": report, "network": variant}
            row["parameters"] = next(run.record()["parameters"] for run in finished if run.variant == variant)
            row |= {"seeds": len(mine), "cases": max(map(len, mine.values())), "pairs": len(differences)}
            for kind, found in (("dice", seeds), ("difference", differences)):
                row |= {k: v for c in MEASURES for k, v in spread(f"{kind}_{c}", found[c]).items()}
            rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, runs: Sequence[Run], failures: dict[str, str], command: str) -> str:
    """Return the page: the table, and the facts that are needed to interpret it."""
    finished = [run for run in runs if run.finished]
    summaries = [run.metrics(report).with_name("summary.json") for run in finished for report in run.reports]
    found = [read_json(path)["run"] for path in summaries if path.is_file()]

    def distinct(key: str) -> str:
        return "; ".join(sorted({str(f[key]) for f in found if key in f})) or "unknown"

    codes = sorted({code for run in finished for code in run.record()["code"]})
    changed = " (**changed between runs: rows are not comparable**)" if len(codes) > 1 else ""
    epochs = sorted({epochs_done(run.folder / "training") for run in finished})
    trained = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else epochs[0]
    missing = {run.name: failures.get(run.name, "not run yet") for run in runs if not run.finished}
    facts = {
        "Command": f"`{command}`",
        "Hardware": distinct("hardware"),
        "Cases": f"{table['cases'].max()} of the section testing",
        "Epochs": f"at most {runs[0].settings['epochs']}, trained {trained}; the best by validation is evaluated",
        "Seeds": ", ".join(map(str, dict.fromkeys(run.seed for run in runs))),
        "Date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "Versions": f"brats_clip {distinct('brats_clip')}, MONAI {distinct('monai')}, torch {distinct('torch')}; "
        f"code {', '.join(codes)}{changed}",
    }
    return render("ablation", rows=table.to_dict("records"), run=facts, missing=missing)


def draw(table: pd.DataFrame, stem: Path) -> None:
    """Plot Dice with its spread over seeds, and the differences with theirs over pairs, for each row of the table."""
    picture = new_figure(11, 1.2 + 0.6 * len(table))
    axes = picture.subplots(1, 2, sharey=True)
    rows = np.arange(len(table))
    titles = ("Dice (± over seeds)", "difference to full (± over cases and seeds)")
    for ax, kind, title in zip(axes, ("dice", "difference"), titles, strict=True):
        for place, (column, colour) in enumerate(COLOURS.items()):
            mean, sd = (
                table[f"{kind}_{column}{end}"].astype(float).fillna(0 if end else np.nan) for end in ("", "_sd")
            )
            ax.errorbar(mean, rows + 0.17 * (place - 1.5), xerr=sd, fmt="o", ms=4, color=colour, label=column)
        plain(ax, title, "x")
    reports = [f", report: {report}" if table["report"].nunique() > 1 else "" for report in table["report"]]
    axes[0].set_yticks(rows, [name + report for name, report in zip(table["network"], reports, strict=True)])
    axes[0].invert_yaxis()
    axes[1].axvline(0, color=SOFT, lw=1)
    axes[1].legend(fontsize=8)
    save_figure(picture, stem)
