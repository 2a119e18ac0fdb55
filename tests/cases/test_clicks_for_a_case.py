"""Clicks given on the command line apply to a single case."""

from __future__ import annotations

import pytest

from brats_clip.cases import find_cases, load_cases
from brats_clip.errors import InputError
from tests.cases.case_files import write_case

CLICKS = {"ET": [[10, 11, 12]]}


def test_clicks_are_added_to_the_only_case(tmp_path):
    write_case(tmp_path, report="A lesion.")
    (found,) = find_cases(tmp_path)
    assert load_cases(tmp_path, clicks=CLICKS) == [{**found, "clicks": CLICKS}]
    assert load_cases(tmp_path, report="No lesion.", clicks=CLICKS) == [
        {**found, "clicks": CLICKS, "report": "No lesion."}
    ]


def test_ordered_clicks_are_added_to_the_only_case(tmp_path):
    write_case(tmp_path)
    pairs = [["ET", [10, 11, 12]], ["background", [10, 11, 12]]]
    assert load_cases(tmp_path, clicks=pairs)[0]["clicks"] == pairs


@pytest.mark.parametrize("clicks", [None, {}, []])
def test_case_is_unchanged_without_clicks(tmp_path, clicks):
    write_case(tmp_path)
    assert load_cases(tmp_path, clicks=clicks, report="  ") == find_cases(tmp_path)


def test_clicks_for_several_cases_are_refused(tmp_path):
    for i in range(2):
        write_case(tmp_path, f"BraTS2021_0000{i}")
    with pytest.raises(InputError, match="clicks: found clicks for 2 cases; expected a folder with one case"):
        load_cases(tmp_path, clicks=CLICKS)
    with pytest.raises(InputError, match="report and clicks: found one report and clicks for 2 cases"):
        load_cases(tmp_path, report="No lesion.", clicks=CLICKS)
    assert len(load_cases(tmp_path, clicks={})) == 2
