"""A 4D file as a case of four sequences."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from app_folders import as_four_d, describe, tiny_image, voxels

from brats_clip.cases import SEQUENCES
from brats_label.errors import Refused
from brats_label.settings import Settings
from brats_label.studies.folder import FolderSource

MSD = ("flair", "t1", "t1ce", "t2")
OTHER = ("t2", "t1ce", "flair", "t1")


@pytest.fixture
def open_source(studies, tmp_path):
    return lambda **settings: FolderSource(studies, Settings(**settings), tmp_path / "cache")


@pytest.fixture(scope="module")
def phantom(tiny_data_set) -> Path:
    return tiny_data_set.folder / tiny_data_set.cases[1]


def check(source: FolderSource, case_id: str, phantom: Path) -> None:
    files = source.native_files(source.cases()[case_id])
    assert tuple(files) == SEQUENCES
    for sequence, path in files.items():
        np.testing.assert_array_equal(voxels(path), voxels(phantom / f"{phantom.name}_{sequence}.nii.gz"), sequence)


def test_channels_are_in_msd_order_by_default(phantom, studies, open_source):
    as_four_d(phantom, studies / "P.nii.gz", MSD)
    check(open_source(), "P", phantom)
    assert open_source().cases()["P"].images["t1ce"].reason == "channel 2 of the 4D file, in the order of MSD Task01"


@pytest.mark.parametrize(
    "content",
    [
        {"modality": {"0": "T2w", "1": "t1gd", "2": "FLAIR", "3": "T1w"}},
        {"channel_names": {"0": "T2", "1": "T1 post contrast", "2": "T2-FLAIR", "3": "T1"}, "labels": {}},
    ],
)
def test_channels_follow_the_dataset_json_above_the_file(phantom, studies, open_source, content):
    as_four_d(phantom, studies / "imagesTr" / "P.nii.gz", OTHER)
    describe(studies, **content)
    check(open_source(), "P", phantom)


def test_channels_setting_overrides_dataset_json(phantom, studies, open_source):
    as_four_d(phantom, studies / "P.nii.gz", OTHER)
    describe(studies, modality={"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"})
    check(open_source(channels=",".join(OTHER)), "P", phantom)


def test_dataset_json_with_other_channels_leaves_the_case_out(studies, open_source):
    tiny_image(studies / "P.nii.gz", (4, 5, 6, 4))
    describe(studies, modality={"0": "FLAIR", "1": "T1w", "2": "ADC", "3": "T2w"})
    source = open_source()
    assert source.cases() == {}
    assert "found the channels FLAIR, T1w, ADC, T2w" in source.problems()[0]
    assert "--conf channels" in source.problems()[0]


@pytest.mark.parametrize("content", ["{broken", "[]", '{"modality": {"0": "CT"}}', '{"modality": "MR"}', "[" * 100_000])
def test_broken_or_unrelated_dataset_json_is_ignored(studies, open_source, content):
    tiny_image(studies / "P.nii.gz", (4, 5, 6, 4))
    (studies / "dataset.json").write_text(content)
    assert open_source().cases()["P"].images["flair"].reason.endswith("in the order of MSD Task01")


def test_only_files_of_four_channels_are_cases(studies, open_source):
    for name, shape in {"3d": (4, 5, 6), "one": (4, 5, 6, 1), "three": (4, 5, 6, 3), "four": (4, 5, 6, 4)}.items():
        tiny_image(studies / f"{name}.nii.gz", shape)
    assert list(open_source().cases()) == ["four"]


def test_the_grid_and_scaled_values_are_kept(studies, open_source):
    affine = np.array([[0, -1.1, 0.2, 3], [1, 0, 0, -40], [0, 0.3, 2.5, 7], [0, 0, 0, 1.0]])
    stack = np.random.default_rng(0).normal(size=(5, 6, 7, 4)).astype(np.float32) * 1e5
    nib.save(nib.Nifti1Image(stack, affine), studies / "P.nii.gz")
    source = open_source()
    files = source.native_files(source.cases()["P"])
    for channel, sequence in enumerate(MSD):
        np.testing.assert_array_equal(voxels(files[sequence]), stack[..., channel])
        np.testing.assert_allclose(nib.load(files[sequence]).affine, affine, atol=1e-5)


def test_a_file_is_split_once_until_it_changes(phantom, studies, open_source):
    path = as_four_d(phantom, studies / "P.nii.gz")
    source = open_source()
    case = source.cases()["P"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: source.native_files(case), range(4)))
    first = answers[0]["t1"].stat()
    assert all(answer == answers[0] for answer in answers)
    assert open_source().native_files(case)["t1"].stat().st_mtime_ns == first.st_mtime_ns
    tiny_image(path, (4, 5, 6, 4))
    again = source.native_files(case)
    assert again["t1"] != answers[0]["t1"]
    assert voxels(again["t1"]).shape == (4, 5, 6)


def test_a_split_that_fails_leaves_nothing_behind(phantom, studies, open_source, tmp_path):
    path = as_four_d(phantom, studies / "P.nii.gz")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = open_source()
    with pytest.raises(Refused, match=r"Case P, 4D file \(P.nii.gz\): found a truncated or damaged gzip file"):
        source.native_files(source.cases()["P"])
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []
    path.write_bytes(data)
    check(source, "P", phantom)


def test_deleted_file_is_refused(studies, open_source):
    path = tiny_image(studies / "P.nii.gz", (4, 5, 6, 4))
    source = open_source()
    case = source.cases()["P"]
    path.unlink()
    with pytest.raises(Refused, match=r"P.nii.gz\): found no readable file"):
        source.native_files(case)


def test_sequence_names_in_a_file_name_do_not_hide_a_4d_file(studies, open_source):
    tiny_image(studies / "P_t1_t1ce_t2_flair.nii.gz", (4, 5, 6, 4))
    assert open_source().cases()["P_t1_t1ce_t2_flair"].missing == ()


def test_headers_of_unchanged_files_are_not_read_again(studies, open_source, monkeypatch):
    tiny_image(studies / "P.nii.gz", (4, 5, 6, 4))
    source = open_source()
    source.refresh()
    monkeypatch.setattr(
        "brats_label.studies.folder_files.read_header", lambda path: pytest.fail(f"{path} was read again")
    )
    source.refresh()
    os.utime(studies)
    assert list(source.cases()) == ["P"]
