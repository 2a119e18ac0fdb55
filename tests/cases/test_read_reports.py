"""Reading the reports of a data set, report encodings, and telling report paths from report text."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_clip.cases import find_cases, looks_like_path, read_report, read_reports
from brats_clip.errors import ReportError
from tests.cases.case_files import write_case


def test_read_reports_keeps_order_and_skips_cases_without_report(tmp_path):
    for i, report in enumerate(("A lesion.\n", None, "\ufeffNo lesion.")):
        write_case(tmp_path, f"BraTS2021_0000{i}", report=report)
    assert read_reports(find_cases(tmp_path)) == ["A lesion.", "No lesion."]


def test_read_reports_includes_report_text():
    assert read_reports([{"case": "a", "report": "Typed."}, {"case": "b", "report": ""}, {"case": "c"}]) == ["Typed."]
    assert read_reports([]) == []


def test_unreadable_report_error_names_its_source(tmp_path):
    case = write_case(tmp_path, report="A lesion.")
    Path(case["report_path"]).write_bytes(b"\x00\x01")
    with pytest.raises(ReportError, match=r"_report\.txt"):
        read_reports(find_cases(tmp_path))
    with pytest.raises(ReportError, match="report of case p7"):
        read_reports([{"case": "p7", "report": "a \x00 b"}])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_common_report_encodings_are_read(tmp_path, encoding):
    path = tmp_path / "report.txt"
    path.write_bytes("L\u00e4sion links, \u00d6dem \u2013 3 cm".encode(encoding))
    assert read_report(path=path) == "L\u00e4sion links, \u00d6dem \u2013 3 cm"


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", b"\xfe\xff\x00", b"A \x81 lesion"])
def test_undecodable_report_is_refused(tmp_path, content):
    path = tmp_path / "report.txt"
    path.write_bytes(content)
    with pytest.raises(ReportError, match="Windows-1252"):
        read_report(path=path)


def test_report_text_is_never_opened_as_a_path(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("Of another patient.")
    assert read_report(path=str(secret)) == "Of another patient."
    assert read_report(str(secret)) == str(secret)
    assert read_report("A mass, see report.txt") == "A mass, see report.txt"
    assert read_report("") == ""


@pytest.mark.parametrize("text", ["report.txt", "/my cases/A_report.TXT", "C:\\data\\report.txt", "../report.txt\n"])
def test_looks_like_path_accepts_paths(text):
    assert looks_like_path(text)


@pytest.mark.parametrize("text", ["A mass, see report.txt", "Compared with 3/4, see report.txt", "", None, "A/B mass."])
def test_looks_like_path_rejects_report_text(text):
    assert not looks_like_path(text)
