"""Wrong input is reported to the user in one line, without a traceback."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from monai.data import DataLoader, Dataset
from monai.transforms import Compose

from brats_clip.engines import one_line_errors, plain_message
from brats_clip.errors import CaseError, InputError
from brats_clip.transforms import LoadCased

BUNDLE = Path(__file__).parents[2] / "bundle"
OURS = CaseError("p1_t2.nii.gz", "no file", "a NIfTI image")


def caught(cause: BaseException | None, context: BaseException | None = None) -> RuntimeError:
    """Return the error that is caught after raising it from ``cause`` or while handling ``context``."""
    try:
        try:
            if context is not None:
                raise context
        finally:
            raise RuntimeError("applying transform failed") from cause if cause else RuntimeError("failed")
    except RuntimeError as error:
        return error


def test_plain_message_of_a_package_error_is_its_text():
    assert plain_message(OURS) == "p1_t2.nii.gz: found no file; expected a NIfTI image."


def test_package_error_is_found_in_the_exception_chain():
    outer = RuntimeError("outer")
    outer.__cause__ = RuntimeError("inner")
    outer.__cause__.__context__ = OURS
    assert plain_message(outer) == str(OURS)
    assert plain_message(caught(OURS)) == str(OURS)


def test_unrelated_error_has_no_plain_message():
    loop = RuntimeError("one")
    loop.__cause__ = ValueError("two")
    loop.__cause__.__context__ = loop  # a cyclic chain
    for error in (KeyError("t2"), loop, RuntimeError("CaseError: found no file; expected more")):
        assert plain_message(error) is None


@pytest.mark.parametrize("workers", [0, 1])
def test_package_error_raised_in_a_data_loader_is_found(tmp_path, workers):
    case = {"case": "p1", **{s: str(tmp_path / f"p1_{s}.nii.gz") for s in ("t1", "t1ce", "t2", "flair")}}
    loader = DataLoader(Dataset([case], Compose([LoadCased()])), num_workers=workers)
    with pytest.raises(Exception) as error:  # which one depends on torch and MONAI
        next(iter(loader))
    message = plain_message(error.value)
    assert message is not None and "p1_t1" in message and "found no file" in message and "\n" not in message


def run(code: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(BUNDLE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", *arguments, *(["-c", code] if code else [])]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


FAIL = """
from brats_clip.engines.command_line import one_line_errors
from brats_clip.errors import CaseError
one_line_errors()
try:
    raise CaseError("p1_t2.nii.gz", "no file", "a NIfTI image")
except CaseError as error:
    raise RuntimeError("applying transform") from error
"""


@pytest.mark.slow
def test_command_ends_with_one_line_and_status_1(tmp_path):
    result = run(FAIL, tmp_path)
    assert result.returncode == 1
    assert result.stderr == "Error: p1_t2.nii.gz: found no file; expected a NIfTI image.\n"


@pytest.fixture
def one_line_errors_installed(monkeypatch):
    """Install ``one_line_errors`` for the duration of a test."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    factory = logging.getLogRecordFactory()
    one_line_errors()
    yield
    logging.setLogRecordFactory(factory)


def test_other_errors_keep_their_traceback(one_line_errors_installed, capsys):
    sys.excepthook(KeyError, KeyError("t2"), None)
    assert "KeyError: 't2'" in capsys.readouterr().err
    sys.excepthook(InputError, InputError("a", "b", "c"), None)
    assert capsys.readouterr().err == "Error: a: found b; expected c.\n"


def test_log_records_of_package_errors_are_one_line_and_others_unchanged(one_line_errors_installed, caplog):
    logger = logging.getLogger("some.engine")
    try:
        raise caught(OURS)
    except RuntimeError:
        logger.exception("Exception: %s", "with a traceback")
    from_worker = (
        "Caught RuntimeError in worker 0.\nTraceback (most recent call last):\nbrats_clip.errors.CaseError: one."
    )
    logger.error(from_worker)
    logger.error("%d of %d failed", 1, 2)
    try:
        raise KeyError("t2")
    except KeyError:
        logger.exception("unrelated")
    assert [r.getMessage() for r in caplog.records] == [str(OURS), "one.", "1 of 2 failed", "unrelated"]
    assert [bool(r.exc_info) for r in caplog.records] == [False, False, False, True]


ENGINE = """
import logging, sys
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import StatsHandler
from monai.transforms import Compose
from brats_clip.engines import one_line_errors
from brats_clip.transforms import LoadCased
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
one_line_errors()
case = {"case": "p1", **{s: f"p1_{s}.nii.gz" for s in ("t1", "t1ce", "t2", "flair")}}
loader = DataLoader(Dataset([case], Compose([LoadCased()])), num_workers=int(sys.argv[1]))
SupervisedEvaluator("cpu", loader, torch.nn.Identity(), val_handlers=[StatsHandler(iteration_log=False)]).run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_engine_that_logs_its_errors_shows_no_traceback(tmp_path, workers):
    (tmp_path / "command.py").write_text(ENGINE)
    result = run("", tmp_path, "command.py", str(workers))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: p1_t1") and "found no file" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("config", ["train", "evaluate", "inference"])
def test_bundle_command_without_data_ends_with_one_line(tmp_path, config):
    files = ["train", "evaluate"] if config == "evaluate" else [config]
    result = run(
        "",
        tmp_path,
        *("-m", "monai.bundle", "run"),
        *("--config_file", str([str(BUNDLE / "configs" / f"{name}.json") for name in files])),
        *("--bundle_root", str(BUNDLE), "--dataset_dir", str(tmp_path / "nowhere")),
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and "nowhere" in last, result.stderr[-2000:]
    assert "Traceback" not in result.stderr + result.stdout
