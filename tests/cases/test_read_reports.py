"""The reports of a whole data set, for those who need other patients' reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_clip.cases import find_cases, looks_like_path, read_report, read_reports
from brats_clip.errors import ReportError
from tests.cases.case_files import write_case


def test_reports_come_in_order_and_cases_without_one_are_passed_over(tmp_path):
    for i, report in enumerate(("A lesion.\n", None, "\ufeffNo lesion.")):
        write_case(tmp_path, f"BraTS2021_0000{i}", report=report)
    assert read_reports(find_cases(tmp_path)) == ["A lesion.", "No lesion."]


def test_typed_reports_count_and_no_cases_have_none():
    assert read_reports([{"case": "a", "report": "Typed."}, {"case": "b", "report": ""}, {"case": "c"}]) == ["Typed."]
    assert read_reports([]) == []


def test_a_report_that_cannot_be_read_is_named(tmp_path):
    case = write_case(tmp_path, report="A lesion.")
    Path(case["report_path"]).write_bytes(b"\x00\x01")
    with pytest.raises(ReportError, match=r"_report\.txt"):
        read_reports(find_cases(tmp_path))
    with pytest.raises(ReportError, match="report of case p7"):
        read_reports([{"case": "p7", "report": "a \x00 b"}])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_reports_are_read_in_the_encodings_of_report_systems(tmp_path, encoding):
    path = tmp_path / "report.txt"
    path.write_bytes("L\u00e4sion links, \u00d6dem \u2013 3 cm".encode(encoding))
    assert read_report(path=path) == "L\u00e4sion links, \u00d6dem \u2013 3 cm"


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", b"\xfe\xff\x00", b"A \x81 lesion"])
def test_what_is_text_in_none_of_these_is_refused(tmp_path, content):
    path = tmp_path / "report.txt"
    path.write_bytes(content)
    with pytest.raises(ReportError, match="Windows-1252"):
        read_report(path=path)


def test_a_text_that_others_typed_is_no_path(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("Of another patient.")
    assert read_report(path=str(secret)) == "Of another patient."
    assert read_report(str(secret)) == str(secret)
    assert read_report("A mass, see report.txt") == "A mass, see report.txt"
    assert read_report("") == ""


@pytest.mark.parametrize("text", ["report.txt", "/my cases/A_report.TXT", "C:\\data\\report.txt", "../report.txt\n"])
def test_a_path_given_as_text_is_told_from_a_report(text):
    assert looks_like_path(text)


@pytest.mark.parametrize("text", ["A mass, see report.txt", "Compared with 3/4, see report.txt", "", None, "A/B mass."])
def test_a_text_that_ends_like_a_path_or_has_a_slash_is_a_report(text):
    assert not looks_like_path(text)
