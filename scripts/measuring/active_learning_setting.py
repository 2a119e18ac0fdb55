"""What a simulation of active learning starts from: its cases and its settings."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from brats_clip.errors import InputError
from brats_clip.evaluation import sha256_of
from brats_clip.evaluation.labelled import draws, labelled_cases

from .active_learning_rounds import Setting
from .bundle_run import BUNDLE, CONFIGS
from .json_files import read_json, write_json
from .overrides import OWN_OPTION, read_overrides

MAKE_PHANTOMS = Path(__file__).resolve().parents[1] / "make_phantoms.py"
PHANTOM_GRID = ("--size", "60", "60", "40", "--spacing", "4", "4", "4")

# A network that learns something within half a minute on one core: nobody clicks here, and no sequence is missing.
SMALL_NETWORK = {"network_def#widths": [8, 16, 32, 64], "network_def#head_width": 16, "network_def#clicks": False}
SMALL_TRAINING = {"spacing": [4.0, 4.0, 4.0], "patch_size": [48, 48, 48], "learning_rate": 0.002}
SMALL_TRAINING |= {"missing_sequence_share": 0.0}
QUIET = {"num_workers": 0, "val_workers": 0, "tensorboard": False, "progress_bar": False, "checkpoints#interval": 20}
# Settings that come from the options of the script.
OWN = ("dataset_dir", "datalist", "epochs", "seed", "output_dir", "cache_dir", "pretrained", "val_interval", "resume")


def prepare(args: argparse.Namespace) -> Setting:
    """Find the cases, and make sure that what lies in the output folder belongs to this simulation.

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
    if path.is_file() and (other := [k for k, v in read_json(path).items() if v != record.get(k)]):
        raise InputError(args.output, f"a simulation with other settings ({', '.join(other)})", "another --output")
    write_json(path, record)
    _write_bundle(setting)
    return setting


def _overrides(words: Sequence[str], pretrained: Path | None) -> dict[str, object]:
    """What train.json gets: the defaults of a small training, and over them what was given as ``--name value``."""
    given = read_overrides(words, [CONFIGS / "train.json"], dict.fromkeys(OWN, OWN_OPTION))
    small = SMALL_NETWORK | SMALL_TRAINING if pretrained is None else {}
    return QUIET | small | {name: DefaultParseValue(value) for name, value in given.items()}


def _write_bundle(setting: Setting) -> None:
    """An inference.json that fits: the settings it shares with train.json."""
    parser = ConfigParser()
    parser.read_config(CONFIGS / "inference.json")
    shared = {name: v for name, v in setting.overrides.items() if name.split("#")[0] in parser.config}
    parser.update(shared)
    content = {key: value for key, value in parser.config.items() if key != "_meta_"}
    write_json(setting.bundle / "configs" / "inference.json", content)
    if not (setting.bundle / "models").exists():
        (setting.bundle / "models").mkdir()
        shutil.copytree(BUNDLE / "models" / "clip", setting.bundle / "models" / "clip")
