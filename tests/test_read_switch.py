"""Switches as a command line hands them over."""

from __future__ import annotations

import pytest

from brats_clip.errors import InputError
from brats_clip.switches import read_switch


@pytest.mark.parametrize("value", [True, "true", "True", " TRUE "])
def test_yes(value):
    assert read_switch("resume", value) is True


@pytest.mark.parametrize("value", [False, "false", "False", "FALSE\n"])
def test_no(value):
    assert read_switch("resume", value) is False


@pytest.mark.parametrize("value", ["yes", "0", "", "truee", 0, 1, None, [], 1.0])
def test_anything_else_is_named(value):
    with pytest.raises(InputError, match=r"--resume: found .*; expected True or False"):
        read_switch("resume", value)
