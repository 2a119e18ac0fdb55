"""A report given on the command line replaces the one beside the images."""

from __future__ import annotations

import pytest

from brats_clip.cases import load_cases
from brats_clip.errors import InputError, ReportError
from brats_clip.transforms import LoadCased
from tests.cases.case_files import write_case


def test_report_text_overrides_the_report_beside_the_images(tmp_path):
    write_case(tmp_path, report="A lesion.")
    (case,) = load_cases(tmp_path, report="No lesion.")
    loaded = LoadCased()(case)
    assert loaded["report"] == "No lesion." and loaded["report_path"] == ""


def test_report_path_is_read_and_recorded(tmp_path):
    write_case(tmp_path / "cases")
    path = tmp_path / "mine.txt"
    path.write_text("A lesion on the left.")
    loaded = LoadCased()(load_cases(tmp_path / "cases", report_path=str(path))[0])
    assert loaded["report"] == "A lesion on the left." and loaded["report_path"] == str(path)


def test_path_given_as_report_text_is_refused_naming_report_path(tmp_path):
    write_case(tmp_path)
    with pytest.raises(ReportError, match="report_path"):
        load_cases(tmp_path, report=str(tmp_path / "mine.txt"))
    with pytest.raises(InputError, match="one of the two"):
        load_cases(tmp_path, report="No lesion.", report_path=tmp_path / "mine.txt")


def test_one_report_for_several_cases_is_refused(tmp_path):
    write_case(tmp_path, "BraTS2021_00000")
    write_case(tmp_path, "BraTS2021_00001")
    with pytest.raises(InputError, match="one report for 2 cases"):
        load_cases(tmp_path, report="No lesion.")
    with pytest.raises(InputError, match="one report for 2 cases"):
        load_cases(tmp_path, report_path=tmp_path / "mine.txt")
