"""Cases from a studies folder."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from app_folders import FREE, as_brats, as_four_d, as_free, tiny_case, tiny_image, voxels

from brats_clip.cases import SEQUENCES, survey
from brats_clip.errors import InputError
from brats_label.errors import NotFound, Refused
from brats_label.settings import Settings
from brats_label.studies import folder as module
from brats_label.studies.folder import FolderSource
from brats_label.studies.sequences import sequence_of
from tests.cases.case_files import write_t1s


@pytest.fixture
def open_source(studies, tmp_path):
    return lambda **settings: FolderSource(studies, Settings(**settings), tmp_path / "cache")


def names_of(source: FolderSource, case_id: str) -> dict[str, str]:
    return {sequence: image.name for sequence, image in source.cases()[case_id].images.items()}


def test_one_phantom_is_the_same_case_in_every_layout(tiny_data_set, studies, open_source):
    phantom = tiny_data_set.folder / tiny_data_set.cases[0]
    as_brats(phantom, studies, "BRATS")
    as_free(phantom, studies, "patient seven")
    as_four_d(phantom, studies / "stacks" / "FOUR.nii.gz")
    source = open_source()
    cases = source.cases()
    assert list(cases) == ["BRATS", "FOUR", "patient_seven"]
    wanted = {s: phantom / f"{phantom.name}_{s}.nii.gz" for s in SEQUENCES}
    for case in cases.values():
        files = source.native_files(case)
        assert (tuple(files), case.reference, case.missing) == (SEQUENCES, "t1ce", ())
        for sequence, path in files.items():
            np.testing.assert_array_equal(voxels(path), voxels(wanted[sequence]), f"{case.case_id} {sequence}")
            np.testing.assert_allclose(nib.load(path).affine, nib.load(wanted[sequence]).affine)
    assert source.problems() == []


def test_folder_source_finds_the_cases_of_the_bundle_survey(studies, open_source):
    tiny_case(studies / "a" / "BraTS20_Training_001", "BraTS20_Training_001")
    tiny_case(studies / "flat", "X1")
    tiny_case(studies / "flat", "X2", sequences=("t1", "flair"))
    for ending in ("t1n", "t1c", "t2w", "t2f"):
        tiny_image(studies / "BraTS-GLI-00002-001" / f"BraTS-GLI-00002-001-{ending}.nii.gz")
    tiny_image(studies / "Task01" / "imagesTr" / "BRATS_007.nii.gz", (4, 5, 6, 4))
    tiny_image(studies / "Task01" / "labelsTr" / "BRATS_007.nii.gz")
    cases = open_source().cases()
    seen = survey(studies)
    partial = [left_out.partial for left_out in seen.left_out if left_out.partial]
    assert sorted(cases) == sorted(case["case"] for case in seen.cases + partial)
    for case in seen.cases + partial:
        assert set(cases[case["case"]].images) == set(case) & set(SEQUENCES)
    assert cases["X2"].missing == ("t1ce", "t2")
    assert cases["X2"].reference == "flair"
    assert cases["BraTS-GLI-00002-001"].patient == "BraTS-GLI-00002"
    assert cases["BRATS_007"].info["label_file"] == "BRATS_007.nii.gz"


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("T1.nii.gz", "t1"),
        ("t1w.nii", "t1"),
        ("T1_pre.nii.gz", "t1"),
        ("p9-T1-no-contrast.nii.gz", "t1"),
        ("T1c.nii.gz", "t1ce"),
        ("T1Gd.nii.gz", "t1ce"),
        ("t1ce.nii.gz", "t1ce"),
        ("T1_post.nii.gz", "t1ce"),
        ("AX T1 +C.nii.gz", "t1ce"),
        ("axT1.post.nii.gz", "t1ce"),
        ("T2.nii.gz", "t2"),
        ("sub-1_T2w.nii.gz", "t2"),
        ("FLAIR.nii.gz", "flair"),
        ("T2_FLAIR.nii.gz", "flair"),
        ("T2-flair.nii.gz", "flair"),
        ("T2_star.nii.gz", None),
        ("T1_seg.nii.gz", None),
        ("T1_T2.nii.gz", None),
        ("ADC.nii.gz", None),
    ],
)
def test_common_file_names_map_to_sequences(name, sequence):
    assert sequence_of(name) == sequence


def test_folder_name_within_a_file_name_is_ignored(studies, open_source):
    for sequence, name in FREE.items():
        tiny_image(studies / "T2 trial" / f"T2 trial_{name}", seed=SEQUENCES.index(sequence))
    assert set(names_of(open_source(), "T2_trial")) == set(SEQUENCES)


def test_patterns_choose_among_files_of_one_patient(studies, open_source):
    for name in ("scan_A.nii.gz", "scan_B.nii.gz", "T2.nii.gz", "Flair.nii.gz", "localizer.nii.gz"):
        tiny_image(studies / "P1" / name)
    source = open_source(pattern_t1="*_a.nii*", pattern_t1ce="SCAN_*")
    assert names_of(source, "P1") == {
        "t1": "scan_A.nii.gz",
        "t1ce": "scan_B.nii.gz",
        "t2": "T2.nii.gz",
        "flair": "Flair.nii.gz",
    }
    case = source.cases()["P1"]
    assert [left_out.name for left_out in case.left_out] == ["localizer.nii.gz"]
    assert case.images["t1"].reason == "fits the pattern *_a.nii*"


def test_two_files_for_one_sequence_leave_only_that_case_out(studies, open_source):
    for name in ("x1.nii.gz", "x2.nii.gz", "T2.nii.gz"):
        tiny_image(studies / "P1" / name)
    tiny_image(studies / "P2" / "x1.nii.gz")
    tiny_image(studies / "P3" / "FLAIR.nii.gz")
    tiny_image(studies / "P3" / "FLAIR_2.nii.gz")
    source = open_source(pattern_t1="x*.nii.gz")
    assert list(source.cases()) == ["P2"]
    problems = " ".join(source.problems())
    assert "P1: x1.nii.gz and x2.nii.gz both fit t1" in problems
    assert "FLAIR.nii.gz and FLAIR_2.nii.gz both fit flair" in problems
    with pytest.raises(NotFound, match=r"x1.nii.gz and x2.nii.gz both fit t1"):
        source.resolve("P1")


def test_two_t1_with_equivalent_names_are_assigned_by_image_with_the_reason(studies, open_source):
    for name in ("T2.nii.gz", "FLAIR.nii.gz"):
        tiny_image(studies / "P1" / name)
    write_t1s(studies / "P1", "T1_gd.nii.gz", "T1_post.nii.gz")
    images = open_source().cases()["P1"].images
    assert (images["t1"].name, images["t1ce"].name) == ("T1_gd.nii.gz", "T1_post.nii.gz")
    assert images["t1"].reason == images["t1ce"].reason == "by the enhancement that it shows"
    assert images["t2"].reason == "by the words in its name"


def test_label_beside_the_images_is_not_an_image_and_is_not_read(studies, open_source):
    tiny_case(studies / "A", "A")
    (studies / "A" / "A_seg.nii.gz").write_text("no image at all")
    for sequence, name in FREE.items():
        tiny_image(studies / "P1" / name, seed=SEQUENCES.index(sequence))
    (studies / "P1" / "tumour mask.nii.gz").write_text("no image at all")
    source = open_source()
    assert not source.problems()
    for case_id, label in (("A", "A_seg.nii.gz"), ("P1", "tumour mask.nii.gz")):
        case = source.cases()[case_id]
        assert set(source.native_files(case)) == set(SEQUENCES) and case.info["label_file"] == label


def test_patterns_do_not_break_a_flat_folder_of_brats_cases(studies, open_source):
    tiny_case(studies, "A")
    tiny_case(studies, "B")
    assert list(open_source(pattern_t1="*_t1.nii.gz").cases()) == ["A", "B"]


def test_files_written_by_the_app_are_not_cases(studies, tmp_path):
    tiny_case(studies / "A", "A")
    tiny_image(studies / "A" / "A_seg.nii.gz")
    tiny_case(studies / "labels" / "final", "A")
    tiny_image(studies / "labels" / "final" / "B.nii.gz", (4, 5, 6, 4))
    tiny_case(studies / ".brats_clip", "C")
    tiny_case(studies / "cache", "D")
    tiny_image(studies / "A" / "probabilities_seg.nii.gz", (4, 5, 6, 4))
    source = FolderSource(studies, Settings(), studies / "cache")
    assert list(source.cases()) == ["A"]
    assert source.cases()["A"].info["label_file"] == "A_seg.nii.gz"
    assert source.label_file(source.cases()["A"]) == studies / "A" / "A_seg.nii.gz"
    assert str(studies) not in repr(source.cases())


def test_cases_with_the_same_name_get_distinct_ids(studies, open_source):
    tiny_case(studies / "site1" / "CASE", "CASE")
    tiny_case(studies / "site2" / "CASE", "CASE")
    tiny_case(studies / "site2" / "OTHER", "OTHER")
    tiny_image(studies / "p1" / "stack.nii.gz", (4, 5, 6, 4))
    tiny_image(studies / "p2" / "stack.nii.gz", (4, 5, 6, 4))
    cases = open_source().cases()
    assert list(cases) == ["OTHER", "p1__stack", "p2__stack", "site1__CASE", "site2__CASE"]
    assert cases["site1__CASE"].patient == cases["site2__CASE"].patient
    assert cases["p1__stack"].patient != cases["p2__stack"].patient


def test_ids_are_safe_as_file_names(studies, open_source):
    tiny_case(studies / "x", "Zoë @ 1%")
    tiny_case(studies / "y", "Zoë @ 1#")
    for case_id in open_source().cases():
        assert set(case_id) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
        assert not case_id.startswith(".")
    assert len(open_source().cases()) == 2


def test_broken_files_do_not_hide_other_cases(studies, open_source):
    tiny_case(studies / "GOOD", "GOOD")
    (studies / "stack.nii.gz").write_bytes(b"\x1f\x8bnothing")
    (studies / "empty.nii").write_bytes(b"")
    (studies / "BAD").mkdir()
    for sequence in SEQUENCES:
        (studies / "BAD" / f"BAD_{sequence}.nii.gz").write_bytes(b"<html>")
    source = open_source()
    assert list(source.cases()) == ["BAD", "GOOD"]
    assert len(source.problems()) == 2
    assert str(studies.parent) not in " ".join(source.problems())
    with pytest.raises(Refused, match=r"Case BAD, t1 \(BAD_t1.nii.gz\): found a file without a NIfTI header"):
        source.native_files(source.cases()["BAD"])


def test_a_folder_that_cannot_be_opened_is_named(studies, open_source, monkeypatch):
    tiny_case(studies / "GOOD", "GOOD")
    (studies / "SHUT").mkdir()
    scandir = os.scandir

    def refuse(path):  # root can open every folder, so permissions would test nothing
        if Path(path).name == "SHUT":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("brats_label.studies.folder_files.os.scandir", refuse)
    source = open_source()
    assert list(source.cases()) == ["GOOD"]
    assert source.problems() == ["SHUT: a folder that cannot be opened (Permission denied)."]


def test_symlink_loop_ends(studies, open_source):
    tiny_case(studies / "A", "A")
    (studies / "A" / "up").symlink_to(studies, target_is_directory=True)
    assert list(open_source().cases()) == ["A"]


def test_indistinguishable_images_are_reported(studies, open_source):
    for name in ("1.nii.gz", "2.nii.gz"):
        tiny_image(studies / "P1" / name)
    source = open_source()
    assert source.cases() == {}
    assert "--conf pattern_t1" in source.problems()[0]


def test_listing_opens_no_image_of_complete_cases(studies, open_source, monkeypatch):
    tiny_case(studies / "A", "A")
    monkeypatch.setattr("brats_label.studies.folder_files.read_header", lambda path: pytest.fail(f"{path} was opened"))
    assert list(open_source().cases()) == ["A"]


def test_an_id_resolves_to_the_sequence_it_shows(studies, open_source):
    tiny_case(studies / "A", "A")
    tiny_case(studies / "B", "B", sequences=("t2", "flair"))
    source = open_source()
    assert [source.resolve(i)[1] for i in ("A", "A@t1", "B", "B@t2")] == ["t1ce", "t1", "flair", "t2"]
    assert source.cases()["A"].images["flair"].image_id == "A@flair"
    with pytest.raises(NotFound, match=r"Case B has no t1; it has t2, flair\."):
        source.resolve("B@t1")
    assert open_source(reference="t2").resolve("A")[1] == "t2"


@pytest.mark.parametrize(
    "image_id",
    ["", "..", "../A", "/etc/passwd", "A/../A", "A\\B", "A\0", "A@", "A@seg", "@flair", "A@flair@t1", "x" * 10**6],
)
def test_invalid_ids_are_not_found_without_revealing_paths(studies, open_source, image_id):
    tiny_case(studies / "A", "A")
    with pytest.raises(NotFound) as refused:
        open_source().resolve(image_id)
    assert len(refused.value.sentence) < 300
    assert str(studies.parent) not in refused.value.sentence
    assert refused.value.sentence.isprintable()


def test_unknown_id_is_answered_with_similar_ids(studies, open_source):
    tiny_case(studies / "A", "BraTS20_Training_001")
    with pytest.raises(NotFound, match="BraTS20_Training_001"):
        open_source().resolve("BraTS20_Training_01")


def test_listing_reflects_added_and_removed_files(studies, open_source, monkeypatch):
    tiny_case(studies / "A", "A")
    source = open_source()
    assert list(source.cases()) == ["A"]
    tiny_case(studies / "deep" / "B", "B")
    source.refresh()
    assert list(source.cases()) == ["A", "B"]
    monkeypatch.setattr(module, "_CHECK_EVERY_S", 0.0)
    tiny_case(studies / "deep" / "B", "C")
    assert list(source.cases()) == ["A", "B", "C"]
    for path in (studies / "A").iterdir():
        path.unlink()
    assert list(source.cases()) == ["B", "C"]


def test_an_unchanged_folder_is_not_listed_again(studies, open_source, monkeypatch):
    tiny_case(studies / "A", "A")
    time.sleep(0.06)  # changes within one clock tick are indistinguishable
    monkeypatch.setattr(module, "_CHECK_EVERY_S", 0.0)
    source = open_source()
    source.cases()
    monkeypatch.setattr("brats_label.studies.folder_files.os.scandir", lambda path: pytest.fail("listed again"))
    assert list(source.cases()) == ["A"]


def test_concurrent_threads_see_complete_cases_while_files_are_added(studies, open_source, monkeypatch):
    monkeypatch.setattr(module, "_CHECK_EVERY_S", 0.0)
    tiny_case(studies / "A0", "A0")
    source, wrong, done = open_source(), [], threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                if source.resolve("A0")[1] != "t1ce":
                    wrong.append("reference")
            except Exception as problem:
                wrong.append(problem)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 6):
        tiny_case(studies / f"A{number}", f"A{number}")
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    source.refresh()
    assert len(source.cases()) == 6


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("A/A_report.txt", "Ring-enhancing mass."),
        ("A/other_report.txt", "Ring-enhancing mass."),
        ("A/A_report.json", {"report": "Ring-enhancing mass."}),
        ("A/my-reports.json", {"text": "Ring-enhancing mass."}),
        ("A/reports.json", {"B": "no", "A": "Ring-enhancing mass."}),
        ("reports.json", {"B": "no", "A": {"report": "Ring-enhancing mass."}}),
    ],
)
def test_a_report_is_found_beside_the_images(studies, open_source, file, content):
    tiny_case(studies / "A", "A")
    (studies / file).write_text(content if isinstance(content, str) else json.dumps(content))
    source = open_source()
    assert source.report(source.cases()["A"]) == "Ring-enhancing mass."


def test_report_of_another_case_is_not_used(studies, open_source):
    tiny_case(studies, "A")
    tiny_case(studies, "B")
    (studies / "A_report.txt").write_text("About A.")
    (studies / "reports.json").write_text(json.dumps({"report": "About nobody."}))
    source = open_source()
    assert [source.report(source.cases()[i]) for i in "AB"] == ["About A.", ""]


@pytest.mark.parametrize(
    ("name", "content"), [("A_report.txt", b"\x00\xff"), ("A_report.txt", b""), ("A_report.json", b"{secret")]
)
def test_an_unreadable_report_is_refused_without_its_text(studies, open_source, name, content):
    tiny_case(studies / "A", "A")
    (studies / "A" / name).write_bytes(content)
    source = open_source()
    with pytest.raises(Refused, match=name) as refused:
        source.report(source.cases()["A"])
    assert "secret" not in refused.value.sentence
    assert str(studies) not in refused.value.sentence


def test_missing_studies_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        FolderSource(tmp_path / "none", Settings(), tmp_path / "cache")


@pytest.mark.real
@pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR names no folder of real cases")
def test_real_cases_are_found(tmp_path):
    source = FolderSource(Path(os.environ["BRATS_DIR"]), Settings(), tmp_path)
    assert source.cases()
    for case in source.cases().values():
        assert set(source.native_files(case)) == set(SEQUENCES)


@pytest.mark.parametrize("alone", [True, False])
def test_nrrd_volumes_are_reported_as_not_used(studies, open_source, alone):
    (studies / "A").mkdir()
    if not alone:
        tiny_case(studies / "A", "A")
    (studies / "A" / "T1.nrrd").write_bytes(b"NRRD0004")
    assert "T1.nrrd: not used" in open_source().problems()[0]


def test_a_read_only_folder_is_refused_with_the_option_that_helps(tmp_path):
    from brats_label.studies.open import _writable

    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="--conf workspace DIR"):
        _writable(tmp_path / "file")
