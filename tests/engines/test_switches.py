from __future__ import annotations

import pytest

from brats_clip.engines import check_switches
from brats_clip.errors import InputError


def test_true_and_false_pass():
    check_switches(resume=True, mlflow=False)


@pytest.mark.parametrize("value", ["false", "True", 1, None])
def test_anything_else_is_named(value):
    with pytest.raises(InputError, match=r"--resume.*True or False"):
        check_switches(mlflow=False, resume=value)
