"""The process that trains: ``python -m brats_label.training.run`` with a job, as JSON, on its standard input.

A process of its own, so that its thread count, its priority and its memory are not the server's. It ends by itself when
the process that started it is gone.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from brats_clip.engines import plain_message

from ..end_with import end_with
from ..errors import ClientError
from .fine_tuning import FineTuning
from .progress import ProgressFile

logger = logging.getLogger(__name__)

BUSY = 75  # exit status: another training has the workspace
NICENESS = 10


def main() -> int:
    """Run the job on standard input; returns the exit status."""
    job = json.load(sys.stdin)
    end_with(job["parent"])
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=5):
            return _run(job, folder)
    except Timeout:
        return BUSY


def _run(job: dict[str, Any], folder: Path) -> int:
    _temporary_files_in(folder / "tmp")
    file = ProgressFile(folder, job["run"])
    file.update(left_out=job["left_out"])
    try:
        FineTuning(job, folder, file).run()
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            logger.exception("training failed")
            reason = f"an error of the program ({type(error).__name__}); the log has the details"
        file.update(status="failed", sentence=f"The training failed: {reason}")
        return 1
    return 0


def _reason(error: Exception) -> str | None:
    """What went wrong, in words for who started the training; None for an error of ours."""
    if isinstance(error, ClientError):
        return error.sentence
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU has too little memory left; a smaller patch_size or batch_size needs less."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk of the workspace is full."
    return plain_message(error)


def _temporary_files_in(folder: Path) -> None:
    """Have temporary files where the cache is: MONAI moves them there, and only within one disk is that a rename."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tempfile.tempdir = str(folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="[%(levelname)s] (%(name)s) %(message)s")
    sys.exit(main())
