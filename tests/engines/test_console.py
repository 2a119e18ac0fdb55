"""Console logging: redundant and misleading records are dropped; the logging of other programs is unchanged."""

from __future__ import annotations

import logging

from brats_clip.engines import tidy_console
from brats_clip.engines.command_line import is_wanted
from brats_clip.errors import CaseError

ENGINE = "ignite.engine.engine.SupervisedEvaluator"


def record(name: str, level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, (), None)


def test_resuming_message_of_a_fresh_start_is_dropped():
    start = "Engine run resuming from iteration {}, epoch {} until 5 epochs"
    assert not is_wanted(record(ENGINE, logging.INFO, start.format(0, 0)))
    assert is_wanted(record(ENGINE, logging.INFO, start.format(12, 3)))
    assert is_wanted(record(ENGINE, logging.INFO, "Epoch[1] Metrics -- val_mean_dice: 0.7"))


def test_record_of_an_error_reported_in_one_line_is_dropped():
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


def test_tidy_console_leaves_other_programs_unchanged():
    root = logging.getLogger()
    before = list(root.handlers), [list(handler.filters) for handler in root.handlers]
    tidy_console()
    assert (root.handlers, [handler.filters for handler in root.handlers]) == before
