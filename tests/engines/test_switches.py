from __future__ import annotations

import pytest

from brats_clip.engines import read_switches
from brats_clip.errors import InputError


def test_booleans_and_words_are_read():
    assert read_switches(resume="true", mlflow="False", progress_bar=True, amp=False) == {
        "resume": True,
        "mlflow": False,
        "progress_bar": True,
        "amp": False,
    }


@pytest.mark.parametrize("value", ["yes", "perhaps", 1, None])
def test_other_values_are_refused_naming_the_switch(value):
    with pytest.raises(InputError, match=r"--resume.*True or False"):
        read_switches(mlflow=False, resume=value)
