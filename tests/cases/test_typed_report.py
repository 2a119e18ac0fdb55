"""A report given with the command, in place of the one beside the images."""

from __future__ import annotations

import pytest

from brats_clip.cases import load_cases
from brats_clip.errors import InputError
from brats_clip.transforms import LoadCased
from tests.cases.case_files import write_case


def test_typed_text_wins_over_the_report_beside_the_images(tmp_path):
    write_case(tmp_path, report="A lesion.")
    (case,) = load_cases(tmp_path, report="No lesion.")
    loaded = LoadCased()(case)
    assert loaded["report"] == "No lesion." and loaded["report_source"] == ""


def test_a_path_is_read_and_remembered(tmp_path):
    write_case(tmp_path / "cases")
    path = tmp_path / "mine.txt"
    path.write_text("A lesion on the left.")
    loaded = LoadCased()(load_cases(tmp_path / "cases", report=str(path))[0])
    assert loaded["report"] == "A lesion on the left." and loaded["report_source"] == str(path)


def test_one_report_for_several_cases_is_refused(tmp_path):
    write_case(tmp_path, "BraTS2021_00000")
    write_case(tmp_path, "BraTS2021_00001")
    with pytest.raises(InputError, match="one report for 2 cases"):
        load_cases(tmp_path, report="No lesion.")
