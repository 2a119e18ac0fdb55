"""Folds of a cross-validation: assignment of patients, training, and scores of cases that training did not see."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from fire.parser import DefaultParseValue
from rich.console import Console

from brats_clip.cases import patient_of
from brats_clip.errors import BratsClipError, CaseError, InputError
from brats_clip.evaluation import (
    collect_run_info,
    note_training_cases,
    refuse_training_cases,
    sha256_of,
    summarise,
    write_summary,
)
from brats_clip.evaluation.labelled import labelled_cases
from brats_clip.images import atomic_write
from brats_clip.labels import REGIONS

from .bundle_run import (
    BUNDLE,
    CONFIGS,
    HARMLESS,
    RunFailed,
    as_words,
    check_trained,
    describe_differences,
    drop_checkpoints,
    epochs_done,
    flat,
    lock_folder,
    run_or_fail,
)
from .command import OWN_OPTION, make_progress, read_json, read_overrides, write_json
from .shared import write_page

# Settings that come from the options of the script.
OWN = ("dataset_dir", "datalist", "epochs", "seed", "output_dir", "ckpt_dir", "checkpoint", "pretrained", "section")
# Settings of --set that also apply to later stages, besides those of the network; the stages define the others.
SHARED = ("patch_size", "min_size", "spacing", "batch_size", "clip_source", "augment", "num_workers", "synthetic_share")
SHARED += ("tensorboard", "mlflow", "amp", "slices_per_plane")
OWN += ("resume", "bundle_root", "synthetic_share")


@dataclass(frozen=True)
class Fold:
    """One training, and the cases that are scored with its weights.

    Args:
        name: "0", "1" and so on, or "all" for a training on all cases that scores none.
        folder: holds datalist.json, log.txt, training/, evaluation/ (and evaluation_NAME/), and fold.json when trained.
        sections: ``training``, ``validation`` and ``testing`` of the datalist.
        stages: training commands by the name of their folder; each starts from the weights of the stage before.
        scoring: the command that scores.
        score_name: name of the scoring; "" for the default.
        checkpoint: weights to score with; those of the training by default.
    """

    name: str
    folder: Path
    sections: Mapping[str, Sequence[dict]]
    stages: Mapping[str, Sequence[object]]
    scoring: Sequence[object]
    score_name: str = ""
    checkpoint: Path | None = None

    @property
    def weights(self) -> Path:
        return self.checkpoint or _weights(self.folder / [*self.stages][-1])

    @property
    def metrics(self) -> Path:
        name = f"evaluation_{self.score_name}" if self.score_name else "evaluation"
        return self.folder / name / "metrics.csv"

    @property
    def trained(self) -> bool:
        return self.weights.is_file() and (self.checkpoint is not None or (self.folder / "fold.json").is_file())

    @property
    def finished(self) -> bool:
        return self.trained and (not self.sections["testing"] or self.metrics.is_file())

    def execute(self, watch: Callable[[], None]) -> None:
        """Train and score, skipping finished steps; ``watch`` is called about once a second.

        Raises:
            RunFailed: if a command fails, or another process holds this fold.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        log, datalist = self.folder / "log.txt", self.folder / "datalist.json"
        common = ["--bundle_root", BUNDLE, "--dataset_dir", "/", "--datalist", datalist]
        with lock_folder(self.folder) as lock:  # the child inherits it, since it may outlive this process
            write_json(datalist, self.sections)
            if not self.trained:
                before: Path | None = None
                for name, stage in self.stages.items():  # a finished stage trains nothing
                    words = [*stage, *common, "--output_dir", self.folder / name]
                    run_or_fail([*words, "--pretrained", before] if before else words, log, watch, [lock])
                    before = _weights(self.folder / name)
                    check_trained(before, log)
                record = {"epochs": epochs_done(self.folder / "training")}
                write_json(self.folder / "fold.json", record | {"weights": str(before.relative_to(self.folder))})
                drop_checkpoints(self.folder)
            if self.sections["testing"] and not self.metrics.is_file():
                words = [*self.scoring, *common, "--output_dir", self.metrics.parent, "--checkpoint", self.weights]
                run_or_fail(words, log, watch, [lock])


def _weights(folder: Path) -> Path:
    return folder / "checkpoints" / "model.pt"


def cross_validate(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Train and score unfinished folds, and update the table after each; return the failed ones with their reasons."""
    folds = plan(args)
    chosen = [fold for fold in folds if not args.only or fold.name in {"all", *map(str, args.only)}]
    table_folder, epochs, failures = args.output / args.name, args.epochs, {}
    run = collect_run_info(command, args.checkpoint or args.pretrained, folds=None if args.score_only else args.folds)
    scored = [case["case"] for fold in folds for case in fold.sections["testing"]]
    if warning := note_training_cases(run, scored):
        console.print(warning)
    todo = [fold for fold in chosen if not fold.finished]
    with make_progress(console) as progress:
        bar = progress.add_task("folds", total=len(chosen), completed=len(chosen) - len(todo))
        for number, fold in enumerate(todo, start=len(chosen) - len(todo)):

            def watch(fold: Fold = fold, number: int = number) -> None:
                done = epochs_done(fold.folder / "training")
                stage = "scoring" if fold.trained else f"epoch {done} of {epochs}"
                share = 0.95 if fold.trained else 0.95 * min(1, done / epochs)
                progress.update(bar, description=f"fold {fold.name}: {stage}", completed=number + share)

            try:
                fold.execute(watch)
            except (RunFailed, BratsClipError) as reason:  # a failed fold must not stop the others
                failures[f"fold {fold.name}"] = str(reason).split("\n")[0]
            progress.update(bar, description="folds", completed=number + 1)
            write_table(read_scores(folds), folds, run, table_folder)
    sentences = write_table(read_scores(folds), folds, run, table_folder)
    console.print("\n".join(sentences))
    return failures


def read_scores(folds: Sequence[Fold]) -> pd.DataFrame:
    """Return the rows of metrics.csv of all scored folds, with the fold's name in ``fold``."""
    tables = [
        pd.read_csv(fold.metrics, dtype={"case": str}).assign(fold=fold.name)
        for fold in folds
        if fold.metrics.is_file()
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def assign_folds(cases: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each case: one fold per patient, balanced, and independent of the order of cases.

    Raises:
        InputError: if there are fewer patients than folds.
    """
    order = _shuffled_patients(cases, seed)
    if len(order) < folds:
        raise InputError("cases", f"{len(order)} labelled patients", f"at least one for each of {folds} folds")
    place = {patient: number % folds for number, patient in enumerate(order)}
    return {case: place[patient_of(case)] for case in sorted(cases)}


def _shuffled_patients(cases: Iterable[str], seed: int) -> list[str]:
    patients = {patient_of(case) for case in cases}
    return sorted(patients, key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest())


def _of_patients(cases: Sequence[dict], number: int | None, seed: int) -> list[dict]:
    """Return the cases of at most ``number`` random patients; larger numbers include those of smaller ones."""
    chosen = _shuffled_patients((case["case"] for case in cases), seed)[:number]
    return [case for case in cases if patient_of(case["case"]) in chosen]


def plan(args: argparse.Namespace) -> list[Fold]:
    """Return all folds; everything is checked before any fold starts. Fills in paths and epochs of ``args``.

    Raises:
        InputError: if cases or settings are invalid, or the output folder holds something else.
    """
    for name in ("output", "pretrained", "checkpoint"):
        if getattr(args, name) is not None:
            setattr(args, name, getattr(args, name).expanduser().resolve())
    cases = _find(args.cases)
    phantoms = [{**case, "synthetic": True} for case in _find(args.phantoms, cases).values()]
    configs = [CONFIGS / "train.json", *(path.resolve() for path in args.configs)]
    if phantoms:
        configs.append(CONFIGS / "mix_phantoms.json")
    overrides = _overrides(args.set, configs, "--set")
    scoring = {"use_reports": "False", "attention": "False"} | _overrides(
        args.score, [CONFIGS / "evaluate.json", CONFIGS / "train.json"], "--score"
    )
    train = read_json(CONFIGS / "train.json")
    args.epochs = train["epochs"] if args.epochs is None else args.epochs
    validation = list(_find([args.validation], cases).values()) if args.validation else []
    place = {} if args.score_only else assign_folds(list(cases), args.folds, args.seed)
    if args.pretrained is not None:
        refuse_training_cases(args.pretrained, cases)
    _check_settings(args, _settings(args, cases, phantoms, validation, configs, overrides), place)
    _check_scoring(args, scoring)

    quiet = {"progress_bar": False, "cache_dir": args.output / "cache"}
    options = {"seed": args.seed, "epochs": args.epochs, "pretrained": args.pretrained} | quiet
    if phantoms:
        options["synthetic_share"] = args.phantom_share
    if not validation:
        # Validation runs once, after the last epoch, whose averaged weights are used; it selects nothing.
        options["val_interval"] = args.epochs
    options = {name: value for name, value in (options | overrides).items() if value is not None}
    stages = {"training": _training(configs, options)}
    for name, epochs in _later_stages(args.then).items():
        of_stage = {"epochs": epochs, "val_interval": epochs, "seed": args.seed} | quiet
        kept = {key: value for key, value in options.items() if key in SHARED or key.startswith("network_def")}
        stages[name] = _training([*configs, CONFIGS / f"{name}.json"], kept | of_stage)
    files = [CONFIGS / "train.json", *(path.resolve() for path in args.configs), CONFIGS / "evaluate.json"]
    own = {name: value for name, value in overrides.items() if name.split("#")[0] not in ("train", "synthetic_share")}
    score = ["evaluating", "--config_file", repr([str(path) for path in files]), *as_words(own | quiet | scoring)]
    if args.score_only:
        sections = {"training": [], "validation": [], "testing": list(cases.values())}
        return [Fold("all", args.output, sections, {}, score, args.name, args.checkpoint)]
    folds = []
    for number in [*range(args.folds), *([None] if args.final else [])]:
        real = [case for name, case in cases.items() if place[name] != number]
        real = _of_patients(real, args.patients, args.seed)
        test = [case for name, case in cases.items() if place[name] == number]
        first = validation or phantoms[:1] or real[:1]
        sections = {"training": [*real, *phantoms], "validation": first, "testing": test}
        name = "all" if number is None else str(number)
        folder = args.output / (name if number is None else f"fold{number}")
        folds.append(Fold(name, folder, sections, stages, score, args.name))
    return folds


def _training(configs: Sequence[Path], options: Mapping[str, object]) -> list[object]:
    return ["training", "--config_file", repr([str(path) for path in configs]), *as_words(options)]


def _later_stages(pairs: Sequence[str]) -> dict[str, int]:
    """Return the epochs by the name of a config, from ``NAME=EPOCHS``.

    Raises:
        InputError: if the text is malformed, or the name is not a config of the bundle.
    """
    stages = {}
    for pair in pairs:
        name, _, epochs = pair.partition("=")
        if not (CONFIGS / f"{name}.json").is_file() or not epochs.isdecimal() or int(epochs) < 1:
            raise InputError("--then", repr(pair), "NAME=EPOCHS, such as train_clicks=4, NAME a file of bundle/configs")
        stages[name] = int(epochs)
    return stages


def _find(folders: Sequence[Path], others: Collection[str] = ()) -> dict[str, dict]:
    """Return the labelled cases of several folders by name, sorted; none of them may be in ``others``.

    Raises:
        CaseError: if two folders have a case of the same name.
    """
    found: dict[str, dict] = {}
    for folder in folders:
        for case in labelled_cases(folder.expanduser().resolve()):
            if case["case"] in found or case["case"] in others:
                raise CaseError(folder, f"case {case['case']}, which another folder has, too", "each case once")
            found[case["case"]] = case
    return dict(sorted(found.items()))


def _overrides(pairs: Sequence[str], configs: Sequence[Path], where: str) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise InputError(where, repr(pair), "KEY=VALUE")
    return read_overrides([f"--{pair}" for pair in pairs], configs, dict.fromkeys(OWN, OWN_OPTION), where)


def _settings(
    args: argparse.Namespace,
    cases: Mapping[str, dict],
    phantoms: Sequence[dict],
    validation: Sequence[dict],
    configs: Sequence[Path],
    overrides: Mapping[str, str],
) -> dict:
    """Return all settings that the weights depend on, flattened, in JSON types."""
    if args.score_only:
        return {"cases": sorted(cases), "checkpoint": sha256_of(args.checkpoint)}
    content = {"cases": sorted(cases), "phantoms": [case["case"] for case in phantoms]}
    content |= {"validation": [case["case"] for case in validation], "phantom_share": args.phantom_share}
    content |= {"folds": args.folds, "seed": args.seed, "epochs": args.epochs, "patients": args.patients}
    content |= {f"then {name}": epochs for name, epochs in _later_stages(args.then).items()}
    content["pretrained"] = None if args.pretrained is None else sha256_of(args.pretrained)
    for path in configs:
        content |= {f"{path.stem}: {name}": value for name, value in flat(read_json(path)).items()}
    content |= {f"set {name}": DefaultParseValue(value) for name, value in overrides.items()}
    content = {name: value for name, value in content.items() if name.split(" ")[-1] not in HARMLESS}
    return json.loads(json.dumps(content, default=str))


def _check_settings(args: argparse.Namespace, settings: dict, place: Mapping[str, int]) -> None:
    """Record folds and settings, or check that the recorded settings are the same."""
    path = args.output / "folds.json"
    if path.is_file():
        if other := describe_differences(read_json(path)["settings"], settings):
            raise InputError(args.output, f"a run with other settings ({other})", "the same, or another --output")
    elif args.output.is_dir() and list(args.output.glob("[!.]*")):
        raise InputError(args.output, "files of an unknown run", "an empty folder, or one of this command")
    else:
        write_json(path, {"folds": place, "settings": settings})


def _check_scoring(args: argparse.Namespace, scoring: Mapping[str, str]) -> None:
    """Record the settings of the scoring, or check that the recorded ones are the same."""
    if Path(args.name).name != args.name:
        raise InputError("--name", repr(args.name), "a name without folders")
    path = args.output / args.name / "scoring.json"
    content = {"settings": dict(scoring), "config": flat(read_json(CONFIGS / "evaluate.json"))}
    if path.is_file() and (other := describe_differences(*(flat(c) for c in (read_json(path), content)))):
        raise InputError(path, f"another way of scoring ({other})", "the same, or another --name")
    write_json(path, content)


ET_ML = 1.0  # the Dice of smaller volumes is dominated by noise
SCORES = (("dice", 3), ("hd95", 1), ("lesionwise_dice", 3))  # with their decimals


def headline(scores: pd.DataFrame) -> dict[str, float | int | None]:
    """Return the scores of the model card.

    ``dice_R`` are means over all cases by the BraTS rule for empty regions; ``dice_ET_1ml`` is over the
    ``cases_ET_1ml`` with more than 1 ml of ET, and ``dice_mean_1ml`` is its mean with the Dice of WT and TC.
    ``false_ET_ml`` is the sum of predicted ET over the ``cases_without_ET``.
    """
    some = scores[scores["volume_ml_ET_truth"] > ET_ML]
    none = scores[scores["volume_ml_ET_truth"] == 0]
    found = {f"{column}_{r}": scores[f"{column}_{r}"].mean() for column, _ in SCORES for r in (*REGIONS, "mean")}
    found["dice_ET_1ml"] = some["dice_ET"].mean()
    found["dice_mean_1ml"] = (found["dice_WT"] + found["dice_TC"] + found["dice_ET_1ml"]) / 3
    found |= {"false_ET_ml": none["volume_ml_ET"].sum(), "cases": len(scores), "cases_ET_1ml": len(some)}
    return found | {"cases_without_ET": len(none)}


def write_table(scores: pd.DataFrame, folds: Sequence[Fold], run: Mapping, output: Path) -> list[str]:
    """Write metrics.csv, summary.json and table.md; return a summary in sentences.

    Nothing is written until a fold is scored.
    """
    waiting = [fold.name for fold in folds if not fold.finished]
    if scores.empty:
        return [f"No fold is scored yet; waiting: {', '.join(waiting)}."]
    scores = scores.sort_values("case")
    with atomic_write(output / "metrics.csv") as draft:
        scores.to_csv(draft, index=False, float_format="%.6g")
    figures = headline(scores)
    rows = scores.drop(columns="fold").to_dict("records")
    write_summary(summarise(rows), output / "summary.json", {**run, "headline": figures, "waiting": waiting})
    sentences = summary_sentences(figures)
    if waiting:
        sentences.append(f"Not finished, and not in the table: fold {', '.join(waiting)}.")
    some = scores[scores["volume_ml_ET_truth"] > ET_ML]
    regions = [*((r, scores, r) for r in REGIONS), (f"ET, cases with > {ET_ML:g} ml", some, "ET")]
    regions.append(("mean of WT, TC, ET", scores, "mean"))
    context = {"regions": regions, "folds": list(scores.groupby("fold")), "cases": scores.to_dict("records")}
    write_page(output / "table.md", "cross_validation", sentences=sentences, run=run, scores=SCORES, **context)
    return [*sentences, f"Table: {output / 'table.md'}"]


def summary_sentences(figures: Mapping) -> list[str]:
    """Summarise the scores in sentences."""
    dice = ", ".join(f"{r} {figures[f'dice_{r}']:.3f}" for r in (*REGIONS, "mean"))
    lesions = ", ".join(f"{r} {figures[f'lesionwise_dice_{r}']:.3f}" for r in REGIONS)
    return [
        f"Dice over {figures['cases']} cases: {dice}.",
        f"ET over the {figures['cases_ET_1ml']} cases with more than {ET_ML:g} ml: {figures['dice_ET_1ml']:.3f}; "
        f"mean of WT, TC and this ET {figures['dice_mean_1ml']:.3f}.",
        f"Lesion-wise Dice: {lesions}.",
        f"False ET in {figures['cases_without_ET']} cases without any: {figures['false_ET_ml']:.2f} ml in total.",
    ]
