from __future__ import annotations

import pytest

from brats_clip.engines import read_switches
from brats_clip.errors import InputError


def test_true_and_false_are_read_however_they_are_written():
    assert read_switches(resume="true", mlflow="False", progress_bar=True, amp=False) == {
        "resume": True,
        "mlflow": False,
        "progress_bar": True,
        "amp": False,
    }


@pytest.mark.parametrize("value", ["yes", "perhaps", 1, None])
def test_anything_else_is_named(value):
    with pytest.raises(InputError, match=r"--resume.*True or False"):
        read_switches(mlflow=False, resume=value)
