"""What a command writes: bars and log lines apart, no line twice, none that says nothing."""

from __future__ import annotations

import logging

from brats_clip.engines import tidy_console
from brats_clip.engines.command_line import is_wanted
from brats_clip.errors import CaseError

ENGINE = "ignite.engine.engine.SupervisedEvaluator"


def record(name: str, level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, (), None)


def test_a_fresh_start_is_not_called_resuming():
    start = "Engine run resuming from iteration {}, epoch {} until 5 epochs"
    assert not is_wanted(record(ENGINE, logging.INFO, start.format(0, 0)))
    assert is_wanted(record(ENGINE, logging.INFO, start.format(12, 3)))
    assert is_wanted(record(ENGINE, logging.INFO, "Epoch[1] Metrics -- val_mean_dice: 0.7"))


def test_an_error_that_ends_the_command_in_one_line_is_not_logged_before():
    lines = []
    for error in (CaseError("p1", "no file", "one"), KeyError("t2")):
        try:
            try:
                raise error
            except Exception as reason:
                raise RuntimeError("applying transform <object at 0x7f>") from reason
        except RuntimeError:
            lines.append(is_wanted(record(ENGINE, logging.ERROR, "Current run is terminating")))
    assert lines == [False, True]
    assert is_wanted(record("some.handler", logging.ERROR, "a failure that goes on"))


def test_a_program_keeps_its_logging():
    root = logging.getLogger()
    before = list(root.handlers), [list(handler.filters) for handler in root.handlers]
    tidy_console()
    assert (root.handlers, [handler.filters for handler in root.handlers]) == before
