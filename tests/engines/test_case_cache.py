"""The cache key of a case depends on its entries and files, and on nothing else."""

from __future__ import annotations

import os

import pytest

from brats_clip.engines import hash_case

TEXT = "A large mass in the left frontal lobe with marked oedema and a thick, irregular, enhancing rim. " * 8


@pytest.fixture
def case(tmp_path) -> dict:
    for name in ("t1.nii.gz", "seg.nii.gz", "report.txt", "all.nii.gz"):
        (tmp_path / name).write_text(name)
    return {
        "case": "p1",
        "t1": str(tmp_path / "t1.nii.gz"),
        "t2": f"{tmp_path / 'all.nii.gz'}#3",
        "label": str(tmp_path / "seg.nii.gz"),
        "report_path": str(tmp_path / "report.txt"),
        "fold": 1,
    }


def test_key_does_not_depend_on_the_order_of_entries(case):
    assert hash_case(case) == hash_case(dict(reversed(case.items())))


@pytest.mark.parametrize("name", ["report.txt", "seg.nii.gz", "t1.nii.gz", "all.nii.gz"])
@pytest.mark.parametrize("how", ["longer", "of equal length"])
def test_edited_file_changes_the_key(case, tmp_path, name, how):
    before = hash_case(case)
    path = tmp_path / name
    if how == "longer":
        path.write_text("an edited report")
    else:
        path.write_text(path.read_text()[::-1])
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert hash_case(case) != before


def test_changed_entries_change_the_key(case):
    keys = {hash_case(case), hash_case({**case, "case": "p2"}), hash_case({**case, "fold": 2})}
    keys |= {hash_case({k: v for k, v in case.items() if k != "report_path"}), hash_case({**case, "report_path": ""})}
    assert len(keys) == 5


@pytest.mark.parametrize("text", [TEXT, TEXT.replace(" ", ""), "No tumour.\nNone at all.", "", "nul\0byte"])
def test_report_text_is_part_of_the_key(case, text):
    key = hash_case({**case, "report": text})
    assert key == hash_case({**case, "report": text}) != hash_case({**case, "report": text + "!"})


def test_folder_named_like_an_entry_does_not_change_the_key(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = hash_case({**case, "report": ""})
    (tmp_path / "p1").mkdir()  # the case id; and "" is the working folder itself
    os.utime(tmp_path / "p1", ns=(1, 1))
    assert hash_case({**case, "report": ""}) == before


def test_hash_sign_in_a_folder_name_is_not_a_channel(tmp_path):
    folder = tmp_path / "brats #2"
    folder.mkdir()
    (folder / "t1.nii.gz").write_text("a")
    before = hash_case({"t1": str(folder / "t1.nii.gz")})
    (folder / "t1.nii.gz").write_text("edited")
    assert hash_case({"t1": str(folder / "t1.nii.gz")}) != before
