"""Boolean options as given on the command line."""

from __future__ import annotations

import pytest

from brats_clip.errors import InputError
from brats_clip.switches import read_switch


@pytest.mark.parametrize("value", [True, "true", "True", " TRUE "])
def test_true_values_are_read_as_true(value):
    assert read_switch("resume", value) is True


@pytest.mark.parametrize("value", [False, "false", "False", "FALSE\n"])
def test_false_values_are_read_as_false(value):
    assert read_switch("resume", value) is False


@pytest.mark.parametrize("value", ["yes", "0", "", "truee", 0, 1, None, [], 1.0])
def test_other_values_are_refused_naming_the_option(value):
    with pytest.raises(InputError, match=r"--resume: found .*; expected True or False"):
        read_switch("resume", value)
