"""The command ``brats-clip``: short forms of the README's commands, with the configs of the installed bundle.

Each subcommand runs the full command that it stands for, so options, messages and exit codes are the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import bundle_root

# Arguments of python -m monai.bundle run by subcommand: workflow and config files.
WORKFLOWS = {
    "segment": ("inferring", ("inference",)),
    "train": ("training", ("train",)),
    "evaluate": ("evaluating", ("train", "evaluate")),
}
SCRIPTS = {"phantoms": "make_phantoms", "serve": "serve", "doctor": "doctor"}
USAGE = """\
commands:
  segment    --dataset_dir CASES --output_dir OUT [--report TEXT]       segment a folder of cases, or one case
  train      --dataset_dir CASES --datalist FILE --output_dir OUT       train or, with --pretrained, fine-tune
  evaluate   --dataset_dir CASES --datalist FILE --output_dir OUT       score labelled cases
  phantoms   --output OUT --count N                                     make synthetic patients
  serve      --studies CASES                                            serve cases to 3D Slicer and OHIF
  doctor     [--studies CASES]                                          check whether serve will work

segment, train and evaluate accept every setting of their config files as --name value; --with FILE adds a config file,
your own or one from the bundle (--with train_clicks.json). The other commands have their own help: brats-clip doctor -h
"""


def command_of(argv: Sequence[str]) -> list[str]:
    """Return the full command line that ``brats-clip ARGV`` stands for."""
    parser = argparse.ArgumentParser(
        "brats-clip",
        description="Report-guided brain-tumour segmentation. Research use only; not a medical device.",
        epilog=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=(*WORKFLOWS, *SCRIPTS), metavar="command", help="one of the commands below")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the command")
    args = parser.parse_args(argv)
    of_app = args.command in ("serve", "doctor") and not {"-h", "--help"} & {*args.options}
    if of_app and importlib.util.find_spec("monailabel") is None:
        parser.error(f"{args.command} needs MONAI Label: run pip install '.[app]' in the repository's folder")
    if args.command in SCRIPTS:
        script = bundle_root().parent / "scripts" / f"{SCRIPTS[args.command]}.py"
        if not script.is_file():
            parser.error(f"{args.command} needs scripts that a copied bundle does not contain; install the package")
        return [sys.executable, str(script), *args.options]
    if {"-h", "--help"} & {*args.options}:
        parser.print_help()
        parser.exit()
    own = argparse.ArgumentParser("brats-clip", add_help=False, allow_abbrev=False)
    own.add_argument("--with", nargs="+", action="extend", default=[], dest="more")
    more, options = own.parse_known_args(args.options)
    workflow, names = WORKFLOWS[args.command]
    configs = bundle_root() / "configs"
    files = [str(configs / f"{name}.json") for name in names]
    # Insert the --with configs after the first config, so that they override train.json but not evaluate.json.
    files[1:1] = [file if Path(file).is_file() else str(configs / file) for file in more.more]
    given = {option.partition("=")[0] for option in options}
    words = ["--config_file", repr(files), "--bundle_root", str(bundle_root())]
    if args.command == "train" and "--tensorboard" not in given and importlib.util.find_spec("tensorboard") is None:
        words += ["--tensorboard", "False"]
    return [sys.executable, "-m", "monai.bundle", "run", workflow, *words, *options]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Replace this process with the command that ``brats-clip ARGV`` stands for."""
    command = command_of(sys.argv[1:] if argv is None else argv)
    # A copied bundle is not installed, so the new process finds the package only through PYTHONPATH.
    path = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    os.execve(command[0], command, os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))})


if __name__ == "__main__":
    main()
