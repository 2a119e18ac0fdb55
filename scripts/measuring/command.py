"""Shared parts of the measuring commands: options, overrides of configs, progress bar, and exit codes.

Imports nothing slow, so that --help is fast.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from brats_clip.errors import BratsClipError, InputError

OWN_OPTION = "this script's own option"


def run_command(
    name: str,
    argv: Sequence[str] | None,
    read_arguments: Callable[[list[str]], Namespace],
    work: str | Callable[[Namespace, Console, str], dict[str, str]],
) -> int:
    """Run a command; return its exit code: 0, 1 if something failed, 2 if the input is invalid.

    Args:
        name: name of the script, without extension.
        argv: its arguments; None for those of this process.
        read_arguments: parses the arguments.
        work: takes the options, a console, and the command as typed; returns what failed, and why. If given by name
            ("module:function"), it is imported after the options are parsed, so that --help is fast.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    args = read_arguments(argv)
    command = shlex.join(["python", f"scripts/{name}.py", *argv])
    work = resolve_name(work) if isinstance(work, str) else work
    try:
        failures = work(args, make_console(), command)
    except BratsClipError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2
    for failed, reason in failures.items():
        sys.stderr.write(f"{name}: {failed}: {reason}\n")
    return int(bool(failures))


def exit_with_children(name: str, main: Callable[[], int]) -> NoReturn:
    """Run ``main`` and exit with its code; if it is interrupted, no training outlives this process."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; repeat the same command to resume")


def make_console() -> Console:
    """Return a console that prints lines unchanged."""
    return Console(soft_wrap=True, markup=False, highlight=False)


def make_progress(console: Console) -> Progress:
    """Return a progress bar with the number done and the remaining time."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console)


def add_case_options(parser: ArgumentParser, name: str) -> None:
    """Add the options of a command that measures a ``Segmenter`` on labelled cases; see ``shared.chosen_cases``."""
    add = parser.add_argument
    add("--cases", type=Path, help="folder of cases; labelled ones are used")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py, instead of --cases")
    add("--section", nargs="+", default=["testing"], help="sections of the datalist (default: testing)")
    of = "output folder of cross_validate.py, instead of --cases: each case with the weights that never saw it"
    add("--cross_validation", type=Path, help=of)
    add("--output", type=Path, default=Path(f"runs/{name}"), help="folder for the results (default: %(default)s)")
    add("--checkpoint", type=Path, help="weights (default: the shipped ones)")
    add("--device", help="cpu or cuda (default: a GPU if there is one)")
    add("--tta", action="store_true", help="average over the image and its mirror image")
    add("--limit", type=int, help="measure the first N cases only")
    add("--seed", type=int, default=0, help="random seed (default: %(default)s)")


def check_case_options(parser: ArgumentParser, args: Namespace) -> None:
    """Reject invalid options."""
    if (args.limit is not None and args.limit < 1) or args.seed < 0:
        parser.error("--limit must be at least 1, --seed at least 0")
    if args.cross_validation and args.checkpoint:
        parser.error("--cross_validation has its own weights: omit --checkpoint")
    check_device(parser, args.device or "cpu")


def check_device(parser: ArgumentParser, device: str) -> None:
    """Reject a device that this machine does not have."""
    kind = device.partition(":")[0]
    if kind == "cuda":
        import torch  # deferred, so that --help is fast

        kind = "cpu" if torch.cuda.is_available() else ""
    if kind != "cpu":
        parser.error("--device must be cpu, or cuda where there is a GPU")


def cut_at_dashes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first "--", and those after it."""
    cut = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:cut]), list(argv[cut + 1 :])


def read_overrides(
    words: Sequence[str], configs: Sequence[Path], refused: Mapping[str, str], where: str = "after --"
) -> dict[str, str]:
    """Read overrides of settings, given as ``--name value`` or ``--name=value``.

    Args:
        words: the words of the command line.
        configs: files whose settings may be overridden.
        refused: settings that may not be overridden, with what is expected instead.
        where: position of the words, for error messages.

    Raises:
        InputError: if a name is in none of ``configs``, which MONAI would silently ignore, or in ``refused``.
    """
    known = {name.lstrip("+") for config in configs for name in read_json(config)}
    overrides, rest = {}, list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            equals, value = "=", rest.pop(0)
        if not name.startswith("--") or not equals:
            raise InputError(where, repr(name), "--name value")
        top = name.removeprefix("--").split("#")[0].split("::")[0]
        if top in refused or top not in known:
            raise InputError(where, name, refused.get(top, f"a setting of {' or '.join(c.name for c in configs)}"))
        overrides[name.removeprefix("--")] = value
    return overrides


def read_json(path: Path) -> dict:
    """Read a file of ``write_json`` or a config of the bundle.

    Raises:
        InputError: if the file is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise InputError(path, f"malformed JSON ({reason})", "valid JSON") from reason


def write_json(path: Path, content: object) -> None:
    """Write a JSON file atomically."""
    from brats_clip.images import atomic_write  # deferred, since it imports nibabel

    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
