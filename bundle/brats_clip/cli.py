"""The command ``brats-clip``: the commands of the README by short names, with the configs of the installed bundle.

Each of them becomes the command that it stands for, so options, messages and exit codes are the same.
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

# Workflow and configs of python -m monai.bundle run, by command.
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
  doctor     [--studies CASES]                                          check this installation

segment, train and evaluate take every setting of their config files as --name value; --with FILE adds a config file,
of one's own or of the bundle (--with train_clicks.json). The others explain themselves: brats-clip phantoms -h
"""


def command_of(argv: Sequence[str]) -> list[str]:
    """The command line that ``brats-clip ARGV`` stands for."""
    parser = argparse.ArgumentParser(
        "brats-clip",
        description="Report-guided brain-tumour segmentation. Research use only; not a medical device.",
        epilog=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=(*WORKFLOWS, *SCRIPTS), metavar="command", help="one of those below")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of the command")
    args = parser.parse_args(argv)
    if args.command in SCRIPTS:
        script = bundle_root().parent / "scripts" / f"{SCRIPTS[args.command]}.py"
        if not script.is_file():
            parser.error(f"{args.command} is not part of a bundle that was copied alone; install the package")
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
    # Configs of one's own change the training, and what is evaluated with it; evaluate.json has the last word.
    files[1:1] = [file if Path(file).is_file() else str(configs / file) for file in more.more]
    given = {option.partition("=")[0] for option in options}
    words = ["--config_file", repr(files), "--bundle_root", str(bundle_root())]
    if args.command == "train" and "--tensorboard" not in given and importlib.util.find_spec("tensorboard") is None:
        words += ["--tensorboard", "False"]
    return [sys.executable, "-m", "monai.bundle", "run", workflow, *words, *options]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Become the command that ``brats-clip ARGV`` stands for."""
    command = command_of(sys.argv[1:] if argv is None else argv)
    # A bundle that was copied is not on the path of the command.
    path = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    os.execve(command[0], command, os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))})


if __name__ == "__main__":
    main()
