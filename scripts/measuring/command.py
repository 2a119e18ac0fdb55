"""What the commands that measure have in common: options, the progress bar, and how they end."""

from __future__ import annotations

import shlex
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from brats_clip.errors import BratsClipError


def run_command(
    name: str,
    argv: Sequence[str] | None,
    read_arguments: Callable[[list[str]], Namespace],
    work: Callable[[Namespace, Console, str], dict[str, str]],
) -> int:
    """Run a command; returns its exit code: 0, 1 when something failed, 2 when the input is of no use.

    Args:
        name: of the script, without its ending.
        argv: its arguments; None for those of this process.
        read_arguments: turns them into options.
        work: takes the options, a console, and the command as it was typed; returns what failed, and why.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    args = read_arguments(argv)
    command = shlex.join(["python", f"scripts/{name}.py", *argv])
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


def add_case_options(parser: ArgumentParser) -> None:
    """Options that say which labelled cases are measured, for ``labelled_cases``."""
    add = parser.add_argument
    add("--cases", type=Path, help="folder of cases; those with a label are taken")
    add("--dataset_dir", type=Path, help="folder that the datalist is relative to")
    add("--datalist", type=Path, help="JSON of scripts/prepare_brats.py, instead of --cases")
    add("--section", nargs="+", default=["testing"], help="of the datalist (default: testing)")


def check_device(parser: ArgumentParser, device: str) -> None:
    """Refuse a device that this machine does not have."""
    import torch  # late, so that --help need not wait for it

    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        parser.error("--device must be cpu, or cuda where there is a GPU")
