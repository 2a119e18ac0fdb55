"""The datalist: paths are written relative and read absolute; errors name the problem."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brats_clip.cases import find_cases, load_cases, load_datalist, make_datalist, write_datalist
from brats_clip.errors import CaseError, InputError
from tests.cases.case_files import write_case, write_msd_case


@pytest.fixture
def dataset(tmp_path) -> Path:
    root = tmp_path / "dataset"
    for i in range(4):
        write_case(root, f"BraTS2021_0000{i}", report="A lesion.")
    write_case(root, "BraTS2021_00009", label=False)
    return root


@pytest.fixture
def datalist(dataset, tmp_path) -> Path:
    path = tmp_path / "lists" / "datalist.json"
    write_datalist(make_datalist(find_cases(dataset), dataset), path)
    return path


def test_written_paths_are_relative_with_forward_slashes(datalist):
    content = json.loads(datalist.read_text())
    case = content["training"][0]
    assert case["t1ce"] == f"{case['case']}/{case['case']}_t1ce.nii.gz"
    assert case["report_path"] == f"{case['case']}/{case['case']}_report.txt"


def test_metadata_describes_the_list(datalist):
    content = json.loads(datalist.read_text())
    assert content["sequences"] == ["t1", "t1ce", "t2", "flair"]
    assert content["name"] == "dataset" and content["seed"] == 0 and content["labels"]["4"] == "ET"
    assert sum(content["number"].values()) == 5 and content["number"]["unlabeled"] == 1


def test_round_trip_gives_the_cases_found(dataset, datalist):
    cases = load_datalist(datalist, dataset, ["training", "validation", "testing", "unlabeled"])
    assert sorted(({k: v for k, v in case.items() if k != "fold"} for case in cases), key=lambda c: c["case"]) == (
        find_cases(dataset)
    )


def test_case_without_label_goes_to_unlabeled(dataset, datalist):
    (case,) = load_datalist(datalist, dataset, "unlabeled")
    assert case["case"] == "BraTS2021_00009" and "fold" not in case


def test_folds_cover_training_and_validation_only(dataset, datalist):
    assert all(0 <= case["fold"] < 5 for case in load_datalist(datalist, dataset, ["training", "validation"]))
    assert all("fold" not in case for case in load_datalist(datalist, dataset, "testing"))
    without = make_datalist(find_cases(dataset), dataset, folds=0)
    assert all("fold" not in case for case in without["training"])
    with pytest.raises(InputError, match="folds"):
        make_datalist(find_cases(dataset), dataset, folds=-1)


def test_time_points_of_a_patient_stay_together(tmp_path):
    cases = [
        {
            "case": f"BraTS-GLI-{patient:05d}-{time}",
            "label": "x.nii.gz",
            **dict.fromkeys(("t1", "t1ce", "t2", "flair"), "x"),
        }
        for patient in range(40)
        for time in (100, 101, 102)
    ]
    datalist = make_datalist(cases, tmp_path)
    places: dict[str, set] = {}
    for section in ("training", "validation", "testing"):
        for case in datalist[section]:
            places.setdefault(case["case"][:-4], set()).add((section, case.get("fold")))
    assert len(places) == 40 and all(len(place) == 1 for place in places.values())


def test_msd_channels_round_trip(tmp_path):
    write_msd_case(tmp_path)
    datalist = make_datalist(find_cases(tmp_path), tmp_path)
    assert datalist["training"][0]["t1ce"] == "imagesTr/BRATS_001.nii.gz#2"
    write_datalist(datalist, tmp_path / "datalist.json")
    (case,) = load_datalist(tmp_path / "datalist.json", tmp_path, "training")
    assert case["t1ce"] == str(tmp_path / "imagesTr" / "BRATS_001.nii.gz#2")


def test_report_text_is_not_changed(dataset, datalist):
    content = json.loads(datalist.read_text())
    content["training"][0]["report"] = "A lesion in the left frontal lobe."
    datalist.write_text(json.dumps(content))
    assert load_datalist(datalist, dataset, "training")[0]["report"] == "A lesion in the left frontal lobe."


def test_report_path_in_a_datalist_of_an_earlier_version_is_read(dataset, datalist):
    expected = load_datalist(datalist, dataset, "training")[0]
    content = json.loads(datalist.read_text())
    content["training"][0]["report"] = content["training"][0].pop("report_path")
    datalist.write_text(json.dumps(content))
    assert load_datalist(datalist, dataset, "training")[0] == expected


def test_failed_write_keeps_the_old_datalist(datalist, monkeypatch):
    before = datalist.read_text()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_datalist({}, datalist)
    assert datalist.read_text() == before
    assert list(datalist.parent.iterdir()) == [datalist]


def test_missing_datalist_is_an_error(dataset, tmp_path):
    with pytest.raises(InputError, match="no file"):
        load_datalist(tmp_path / "none.json", dataset, "training")


@pytest.mark.parametrize(("text", "found"), [('{"training": [}', "line 1, column 15"), ("[1]", "a JSON list")])
def test_file_that_is_not_a_datalist_is_an_error(dataset, datalist, text, found):
    datalist.write_text(text)
    with pytest.raises(InputError, match=found):
        load_datalist(datalist, dataset, "training")


def test_unknown_section_error_lists_the_sections(dataset, datalist):
    with pytest.raises(InputError, match=r"no section 'test'.*testing \(1\)"):
        load_datalist(datalist, dataset, "test")


def test_empty_section_is_an_error(dataset, datalist):
    write_datalist(make_datalist(find_cases(dataset), dataset, (1, 0, 0)), datalist)
    with pytest.raises(InputError, match="no case in 'testing'"):
        load_datalist(datalist, dataset, "testing")
    assert load_datalist(datalist, dataset, ["training", "testing"])


def test_missing_files_are_counted(dataset, datalist):
    for path in dataset.glob("*/*_t2.nii.gz"):
        path.unlink()
    with pytest.raises(CaseError, match=r"_t2\.nii\.gz: found no file \(2 files are missing\)"):
        load_datalist(datalist, dataset, "training")


def test_missing_dataset_dir_is_an_error(tmp_path, datalist):
    with pytest.raises(InputError, match="no such folder"):
        load_datalist(datalist, tmp_path / "nowhere", "training")


def test_case_without_named_sequences_is_an_error(dataset, datalist):
    datalist.write_text(json.dumps({"training": [{"image": ["a", "b"], "label": "c"}]}))
    with pytest.raises(CaseError, match="case with image, label without t1, t1ce, t2, flair"):
        load_datalist(datalist, dataset, "training")


def test_load_cases_returns_every_case(dataset):
    assert load_cases(dataset) == find_cases(dataset)


def test_load_cases_names_all_incomplete_cases(dataset):
    (dataset / "BraTS2021_00001" / "BraTS2021_00001_t2.nii.gz").unlink()
    (dataset / "BraTS2021_00003" / "BraTS2021_00003_t1.nii.gz").unlink()
    problems = {case["case"]: str(case["problem"]) for case in load_cases(dataset) if "problem" in case}
    assert list(problems) == ["BraTS2021_00001", "BraTS2021_00003"]
    assert "case BraTS2021_00001 without t2" in problems["BraTS2021_00001"]
    assert "case BraTS2021_00003 without t1" in problems["BraTS2021_00003"]


def test_load_cases_ignores_predictions(dataset):
    (dataset / "eval").mkdir()
    (dataset / "eval" / "BraTS2021_00001_seg.nii.gz").write_bytes(b"")
    assert len(load_cases(dataset)) == 5
