"""Which networks an ablation compares, and all runs that this takes."""

from __future__ import annotations

import argparse
import json

from fire.parser import DefaultParseValue

from brats_clip.cases import SECTIONS, load_datalist
from brats_clip.errors import InputError
from brats_clip.evaluation import sha256_of

from .ablation_runs import FULL, Run
from .bundle_run import BUNDLE, CONFIGS, as_words
from .json_files import read_json
from .overrides import OWN_OPTION, read_overrides

VARIANTS = (FULL, *sorted(path.stem for path in (CONFIGS / "ablations").glob("*.json")))

# Settings that come from the options of the script.
OWN = ("dataset_dir", "datalist", "epochs", "seed", "output_dir", "ckpt_dir", "checkpoint", "curves_file")
OWN += ("use_reports", "section", "resume", "bundle_root")
REFUSED = dict.fromkeys(OWN, OWN_OPTION) | {"pretrained": "networks that start afresh: the weights of one fit no other"}
# Settings that leave the figures alone, so that another value does not make it another run.
HARMLESS = {"cache_dir", "progress_bar", "tensorboard", "mlflow", "mlflow_uri"}


def plan(args: argparse.Namespace) -> list[Run]:
    """All runs, seed by seed, so that a table of the first seed is there early; checked before any of them starts.

    Args:
        args: options of the command, ``words`` after its "--" among them; epochs and paths are filled in.

    Raises:
        InputError: for options and settings of no use, and for a folder that holds something else.
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
    # No part that is ablated changes how cases are prepared, so one cache serves all.
    options |= {"cache_dir": args.output / "cache", "progress_bar": False, **overrides}
    settings = {variant: settings_of(variant, args, overrides) for variant in VARIANTS if variant in args.only}
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
    """All that the figures of a network depend on: the configs with the overrides in place, without nesting."""
    ablation = {} if variant == FULL else read_json(CONFIGS / "ablations" / f"{variant}.json")
    content = read_json(CONFIGS / "train.json") | ablation
    content |= {name: DefaultParseValue(value) for name, value in overrides.items()}
    content |= {"dataset_dir": str(args.dataset_dir), "datalist": sha256_of(args.datalist)[:16], "epochs": args.epochs}
    content = {name: value for name, value in content.items() if name not in HARMLESS | {"seed"}}
    content["evaluate.json"] = read_json(CONFIGS / "evaluate.json")
    return json.loads(json.dumps(_flat(content), default=str))


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}#{key}" if name else key).items()}
