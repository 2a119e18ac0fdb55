"""Case discovery: which files form a case, the naming schemes, and reports on files that are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brats_clip.cases import SEQUENCES, find_cases, parse_name, patient_of, split_channel, survey
from brats_clip.errors import CaseError, InputError
from tests.cases.case_files import make_label, write_case, write_msd_case, write_nifti, write_t1s


@pytest.mark.parametrize(
    ("case", "naming", "extension", "folder"),
    [
        ("Brats18_TCIA01_131_1", "2021", ".nii.gz", "HGG"),
        ("BraTS19_CBICA_AAB_1", "2021", ".nii.gz", "LGG"),
        ("BraTS20_Training_001", "2021", ".nii", "MICCAI_BraTS2020_TrainingData"),
        ("BraTS2021_00000", "2021", ".nii.gz", ""),
        ("BraTS-GLI-00005-100", "2023", ".nii.gz", "ASNR/Training"),
    ],
)
def test_every_naming_scheme_is_found(tmp_path, case, naming, extension, folder):
    written = write_case(tmp_path / folder, case, naming, extension, report="A lesion.")
    assert find_cases(tmp_path) == [written]


def problems(root: Path) -> list:
    return [left_out.error for left_out in survey(root).left_out]


def test_finds_msd_cases_as_channels_of_their_4d_file(tmp_path):
    labelled, unlabelled = write_msd_case(tmp_path), write_msd_case(tmp_path, "BRATS_485", labelled=False)
    (tmp_path / "imagesTr" / "BRATS_001_report.txt").write_text("A lesion.")
    labelled["report_path"] = str(tmp_path / "imagesTr" / "BRATS_001_report.txt")
    assert find_cases(tmp_path) == [labelled, unlabelled]
    assert labelled["t1ce"].endswith("BRATS_001.nii.gz#2")
    assert problems(tmp_path) == []


def test_root_may_be_a_single_case_folder(tmp_path):
    written = write_case(tmp_path)
    assert find_cases(tmp_path / written["case"]) == [written]


def test_stray_label_of_brats_2020_case_355_belongs_to_its_folder(tmp_path):
    written = write_case(tmp_path, "BraTS20_Training_355", extension=".nii", label=False)
    stray = write_nifti(tmp_path / "BraTS20_Training_355" / "W39_1998.09.19_Segm.nii", make_label())
    assert find_cases(tmp_path) == [written | {"label": str(stray)}]


def test_textbrats_report_is_found(tmp_path):
    write_case(tmp_path)
    report = tmp_path / "BraTS2021_00000" / "BraTS2021_00000_flair_text.txt"
    report.write_text("A lesion.")
    assert find_cases(tmp_path)[0]["report_path"] == str(report)


def test_cases_are_sorted_by_id(tmp_path):
    for folder, case in (("a", "BraTS2021_00002"), ("b", "BraTS2021_00000"), ("c", "BraTS2021_00001")):
        write_case(tmp_path / folder, case)
    assert [case["case"][-1] for case in find_cases(tmp_path)] == ["0", "1", "2"]


def test_hidden_files_are_ignored(tmp_path):
    write_case(tmp_path)
    (tmp_path / "BraTS2021_00000" / "._BraTS2021_00000_t1.nii.gz").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "BraTS2021_00000_t1.nii.gz").write_bytes(b"x")
    assert len(find_cases(tmp_path)) == 1
    assert problems(tmp_path) == []


def test_symlinked_folders_are_followed_without_looping(tmp_path):
    write_case(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    assert len(find_cases(tmp_path / "data")) == 1


def test_missing_sequence_is_reported_with_the_file_name_expected(tmp_path):
    write_case(tmp_path, "BraTS2021_00001")
    incomplete = write_case(tmp_path, "BraTS2021_00002")
    for sequence in ("t1ce", "flair"):
        Path(incomplete[sequence]).unlink()
    assert [case["case"] for case in find_cases(tmp_path)] == ["BraTS2021_00001"]
    (problem,) = problems(tmp_path)
    assert "BraTS2021_00002" in problem.where
    assert problem.found == "case BraTS2021_00002 without t1ce, flair"
    assert "BraTS2021_00002_t1ce.nii.gz, BraTS2021_00002_flair.nii.gz" in problem.expected


def test_two_files_of_one_kind_are_reported(tmp_path):
    write_case(tmp_path, "BraTS2021_00001")
    write_case(tmp_path, "BraTS2021_00002")
    write_case(tmp_path, "BraTS2021_00002", extension=".nii")
    (problem,) = problems(tmp_path)
    assert "both BraTS2021_00002_flair.nii and BraTS2021_00002_flair.nii.gz" in problem.found


def test_label_without_images_is_left_out(tmp_path):
    write_case(tmp_path)
    write_nifti(tmp_path / "predictions" / "BraTS2021_00000_seg.nii.gz", make_label())
    found = survey(tmp_path)
    assert len(found.cases) == 1
    assert [left_out.has_images for left_out in found.left_out] == [False]


def test_folder_with_only_incomplete_cases_is_an_error(tmp_path):
    Path(write_case(tmp_path)["t2"]).unlink()
    with pytest.raises(InputError, match="case BraTS2021_00000 without t2"):
        find_cases(tmp_path)


def test_empty_folder_error_lists_the_expected_names(tmp_path):
    with pytest.raises(InputError) as caught:
        find_cases(tmp_path)
    for expected in (str(tmp_path), "CASE_t1ce.nii.gz", "CASE-t1c.nii.gz", "imagesTr/BRATS_001.nii.gz"):
        assert expected in str(caught.value)


@pytest.mark.parametrize(("name", "found"), [("nowhere", "no such folder"), ("file.txt", "a file")])
def test_root_that_is_not_a_folder_is_an_error(tmp_path, name, found):
    (tmp_path / "file.txt").touch()
    with pytest.raises(InputError, match=found):
        find_cases(tmp_path / name)


def test_duplicate_id_error_names_both_folders(tmp_path):
    write_case(tmp_path / "a")
    write_case(tmp_path / "b")
    with pytest.raises(CaseError) as caught:
        find_cases(tmp_path)
    assert str(tmp_path / "a" / "BraTS2021_00000") in str(caught.value)
    assert str(tmp_path / "b" / "BraTS2021_00000") in str(caught.value)


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("BraTS-GLI-00005-100", "BraTS-GLI-00005"),
        ("Brats18_TCIA01_131_1", "Brats18_TCIA01_131"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00000", "BraTS2021_00000"),
        ("BRATS_001", "BRATS_001"),
    ],
)
def test_patient_is_derived_from_the_case_id(case, patient):
    assert patient_of(case) == patient


@pytest.mark.parametrize("name", ["notes.txt", "_t1.nii.gz", "CASE_t1.nii.bak", "CASE_t1.txt", "CASE_report.nii.gz"])
def test_parse_name_ignores_other_files(name):
    assert parse_name(name) is None


def test_channel_suffix_is_distinguished_from_a_hash_in_a_path():
    assert split_channel("a#1/BRATS_001.nii.gz#3") == ("a#1/BRATS_001.nii.gz", 3)
    assert split_channel("a#1/x_t1.nii.gz") == ("a#1/x_t1.nii.gz", None)


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    "names",
    [
        ("T1.nii.gz", "T1_post.nii.gz", "T2.nii.gz", "FLAIR.nii.gz"),
        ("ax T1 pre.nii", "ax T1 post Gd.nii", "ax T2 TSE.nii", "ax FLAIR.nii"),
        ("P7_T1.nii.gz", "P7_T1_post.nii.gz", "P7_T2.nii.gz", "P7_FLAIR.nii.gz"),
        ("t1.nii.gz", "t1c.nii.gz", "t2.nii.gz", "fla.nii.gz"),
    ],
    ids=lambda names: names[0],
)
def test_free_file_names_form_a_case_named_after_the_folder(tmp_path, names):
    touch(tmp_path / "exam", *names, "report.txt", "notes.pdf")
    (case,) = find_cases(tmp_path)
    assert case["case"] == "exam"
    assert [Path(case[s]).name for s in SEQUENCES] == list(names)
    assert Path(case["report_path"]).name == "report.txt"


def test_incomplete_case_with_free_names_is_left_out_as_partial(tmp_path):
    touch(tmp_path / "exam", "T1.nii.gz", "T2.nii.gz", "FLAIR.nii.gz")
    found = survey(tmp_path)
    assert not found.cases and "without t1ce" in str(found.left_out[0].error)
    assert set(found.left_out[0].partial) == {"case", "t1", "t2", "flair"}


def test_two_free_names_for_one_sequence_are_an_error(tmp_path):
    touch(tmp_path / "exam", "T1.nii.gz", "T1 again.nii.gz", "T1_post.nii.gz", "T2.nii.gz", "FLAIR.nii.gz")
    with pytest.raises(InputError, match="both fit t1"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    "names", [("T1_post.nii.gz", "T1_gd.nii.gz"), ("T1_a.nii.gz", "T1_b.nii.gz")], ids=lambda n: n[0]
)
def test_ambiguous_t1_and_t1ce_are_resolved_by_enhancement_and_noted(tmp_path, names):
    touch(tmp_path / "exam", "T2.nii.gz", "FLAIR.nii.gz")
    for t1, t1ce in (names, names[::-1]):
        write_t1s(tmp_path / "exam", t1, t1ce)
        (case,) = find_cases(tmp_path)
        assert (Path(case["t1"]).name, Path(case["t1ce"]).name) == (t1, t1ce)
        assert case["note"] == f"t1ce is {t1ce} and t1 {t1} by the enhancement that they show"
    write_t1s(tmp_path / "exam", names[0], "other.nii.gz")
    write_t1s(tmp_path / "exam", names[1], "other.nii.gz")
    with pytest.raises(InputError, match="both fit t1"):
        find_cases(tmp_path)


def test_ucsf_pdgm_bias_corrected_images_and_other_masks_are_ignored(tmp_path):
    case = "UCSF-PDGM-0004"
    ends = ("T1", "T1c", "T2", "FLAIR", "T1_bias", "T1c_bias", "T2_bias", "FLAIR_bias", "SWI", "DWI", "ADC", "ASL")
    masks = ("tumor_segmentation", "brain_segmentation", "brain_parenchyma_segmentation")
    touch(tmp_path / f"{case}_nifti", *(f"{case}_{end}.nii.gz" for end in (*ends, *masks)))
    (found,) = find_cases(tmp_path)
    names = {key: Path(value).name for key, value in found.items() if key != "case"}
    assert names == {
        "t1": f"{case}_T1.nii.gz",
        "t1ce": f"{case}_T1c.nii.gz",
        "t2": f"{case}_T2.nii.gz",
        "flair": f"{case}_FLAIR.nii.gz",
        "label": f"{case}_tumor_segmentation.nii.gz",
    }


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_nnunet_channels_are_read_from_dataset_json(tmp_path, key):
    root = tmp_path / "Dataset042_BraTS"
    touch(root / "imagesTr", *(f"case_{i}_000{c}.nii.gz" for i in (1, 2) for c in range(4)))
    touch(root / "labelsTr", "case_1.nii.gz")
    channels = {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    (root / "dataset.json").write_text(json.dumps({key: channels}))
    first, second = find_cases(root)
    assert first["case"] == "case_1" and Path(first["label"]).name == "case_1.nii.gz" and "label" not in second
    assert [Path(second[s]).name for s in SEQUENCES] == [f"case_2_000{c}.nii.gz" for c in range(4)]
