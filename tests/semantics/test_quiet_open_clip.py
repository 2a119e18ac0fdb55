from __future__ import annotations

import logging

from brats_clip.semantics import load_clip
from brats_clip.semantics.quiet import quiet_open_clip


def test_loading_says_nothing_at_info_and_leaves_the_root_logger_as_it_was(caplog):
    with caplog.at_level(logging.INFO):
        load_clip()
        logging.info("of another")
    assert [record.getMessage() for record in caplog.records] == ["of another"]
    assert logging.getLogger().filters == []


def test_others_and_warnings_are_heard_meanwhile(caplog):
    with caplog.at_level(logging.INFO), quiet_open_clip():
        logging.info("of another")
        logging.warning("a warning")
    assert [record.getMessage() for record in caplog.records] == ["of another", "a warning"]
