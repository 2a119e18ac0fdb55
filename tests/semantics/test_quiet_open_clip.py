from __future__ import annotations

import logging

from brats_clip.semantics import load_clip
from brats_clip.semantics.quiet import quiet_open_clip


def test_loading_logs_nothing_and_keeps_the_root_logger_unchanged(caplog):
    with caplog.at_level(logging.INFO):
        load_clip()
        logging.info("of another")
    assert [record.getMessage() for record in caplog.records] == ["of another"]
    assert logging.getLogger().filters == []


def test_other_records_and_warnings_are_not_suppressed(caplog):
    with caplog.at_level(logging.INFO), quiet_open_clip():
        logging.info("of another")
        logging.warning("a warning")
    assert [record.getMessage() for record in caplog.records] == ["of another", "a warning"]
