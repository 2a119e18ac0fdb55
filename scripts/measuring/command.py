"""What the commands that measure have in common: options, settings of the configs, the progress bar, how they end.

Imports nothing slow, so that --help answers at once.
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
    """Run a command; returns its exit code: 0, 1 when something failed, 2 when the input is of no use.

    Args:
        name: of the script, without its ending.
        argv: its arguments; None for those of this process.
        read_arguments: turns them into options.
        work: takes the options, a console, and the command as it was typed; returns what failed, and why. By name
            ("module:function"), it is imported when the options are read, so that --help need not wait for torch.
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
    """Run ``main`` and exit with its code; however it is stopped, no training outlives this process."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; type the same command to go on")


def make_console() -> Console:
    """A console that prints lines as they are."""
    return Console(soft_wrap=True, markup=False, highlight=False)


def make_progress(console: Console) -> Progress:
    """A bar with how many are done, and the time that is left."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console)


def add_case_options(parser: ArgumentParser, name: str) -> None:
    """Options of a command that measures a ``Segmenter`` on labelled cases; see ``shared.chosen_cases``."""
    add = parser.add_argument
    add("--cases", type=Path, help="folder of cases; those with a label are taken")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py, instead of --cases")
    add("--section", nargs="+", default=["testing"], help="of the datalist (default: testing)")
    of = "output folder of cross_validate.py, instead of --cases: each case with the weights that never saw it"
    add("--cross_validation", type=Path, help=of)
    add("--output", type=Path, default=Path(f"runs/{name}"), help="folder for the results (default: %(default)s)")
    add("--checkpoint", type=Path, help="weights (default: those the bundle ships with)")
    add("--device", help="cpu or cuda (default: a GPU if there is one)")
    add("--tta", action="store_true", help="average over the mirror image")
    add("--limit", type=int, help="measure the first N cases only")
    add("--seed", type=int, default=0, help="of everything that is drawn (default: %(default)s)")


def check_case_options(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse options of no use."""
    if (args.limit is not None and args.limit < 1) or args.seed < 0:
        parser.error("--limit must be at least 1, --seed at least 0")
    if args.cross_validation and args.checkpoint:
        parser.error("--cross_validation has weights of its own: leave --checkpoint away")
    check_device(parser, args.device or "cpu")


def check_device(parser: ArgumentParser, device: str) -> None:
    """Refuse a device that this machine does not have."""
    kind = device.partition(":")[0]
    if kind == "cuda":
        import torch  # late, so that --help need not wait for it

        kind = "cpu" if torch.cuda.is_available() else ""
    if kind != "cpu":
        parser.error("--device must be cpu, or cuda where there is a GPU")


def cut_at_dashes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first "--", and those after it."""
    cut = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:cut]), list(argv[cut + 1 :])


def read_overrides(
    words: Sequence[str], configs: Sequence[Path], refused: Mapping[str, str], where: str = "after --"
) -> dict[str, str]:
    """Read ``--name value`` and ``--name=value``; ``refused`` says what is expected instead of a setting.

    Args:
        words: what was typed.
        configs: files whose settings may be overridden.
        refused: what is expected instead, by setting.
        where: the words stand, for messages.

    Raises:
        InputError: for a name that none of ``configs`` has, which MONAI would silently ignore, and for one of
            ``refused``.
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
    """What ``write_json`` wrote, or a config of the bundle.

    Raises:
        InputError: if the file is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise InputError(path, f"malformed JSON ({reason})", "a file as it was written") from reason


def write_json(path: Path, content: object) -> None:
    """Write a file that is whole or not there."""
    from brats_clip.images import atomic_write  # late, as it imports nibabel

    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
