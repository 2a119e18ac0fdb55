"""inference.json on batches: failed cases, output folders that are refused, and preprocessing."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigParser

from brats_clip.cases import Preparation
from brats_clip.engines import plain_message, run_batch
from brats_clip.errors import CaseError, InputError
from brats_clip.geometry import Grid
from brats_clip.images import read_volume
from brats_clip.labels import REGIONS
from brats_clip.semantics import load_clip
from tests.interactive.conftest import GRIDS, NAME, arrays, draw, write

OTHER, THIRD = "BraTS2021_00001", "BraTS2021_00002"


@pytest.fixture(scope="module")
def infer(bundle):
    clip = load_clip(bundle / "models" / "clip")

    def run(folder, out, **options) -> None:
        parser = ConfigParser()
        parser.read_config(bundle / "configs" / "inference.json")
        paths = {"bundle_root": str(bundle), "dataset_dir": str(folder), "output_dir": str(out)}
        parser.update({**paths, "device": torch.device("cpu"), "clip": clip, "progress_bar": False, **options})
        run_batch(*(parser.get_parsed_content(name) for name in ("evaluator", "dataloader")), out)

    return run


def done(out) -> list[str]:
    return sorted(path.parent.name for path in out.rglob("*.json"))


def test_bad_case_does_not_end_a_batch_and_skip_done_completes_it(infer, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    write(data, name=NAME)
    bad = write(data, name=OTHER)
    write(data, name=THIRD)
    path = Path(bad["t2"])
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(CaseError, match=rf"1 of 3 cases.*{OTHER} \(.*_t2\.nii\.gz: found a truncated"):
        infer(data, out)
    assert done(out) == [NAME, THIRD]
    first = (out / NAME / f"{NAME}.json").stat().st_mtime_ns
    path.write_bytes(sound)
    infer(data, out, skip_done=True)
    assert done(out) == [NAME, OTHER, THIRD]
    assert (out / NAME / f"{NAME}.json").stat().st_mtime_ns == first
    table = pd.read_csv(out / "results.csv")
    assert sorted(table["case"]) == [NAME, OTHER, THIRD] and table["expected_dice_mean"].is_monotonic_increasing
    facts = json.loads((out / NAME / f"{NAME}.json").read_text())
    row = table.set_index("case").loc[NAME]
    assert [row[f"expected_dice_{r}"] for r in REGIONS] == pytest.approx([*facts["expected_dice"].values()])
    infer(data, out, skip_done="true")  # nothing is left to do


def test_invalid_label_does_not_stop_inference(infer, tmp_path):
    paths = write(tmp_path / "data")
    label = np.full(GRIDS["aligned"][1], 9, np.uint8)
    nib.save(nib.Nifti1Image(label, GRIDS["aligned"][0]), paths["t1"].replace("_t1.", "_seg."))
    infer(tmp_path / "data", tmp_path / "out")
    assert done(tmp_path / "out") == [NAME]


@pytest.mark.parametrize("where", [".", NAME, "results/of/today"])
def test_output_folder_inside_the_data_set_is_refused(infer, tmp_path, where):
    paths = write(tmp_path / "data")
    truth = paths["t1"].replace("_t1.", "_seg.")
    nib.save(nib.Nifti1Image(np.ones(GRIDS["aligned"][1], np.uint8), GRIDS["aligned"][0]), truth)
    with pytest.raises(RuntimeError) as raised:  # MONAI wraps the package's error
        infer(tmp_path / "data", tmp_path / "data" / where)
    assert "outside" in plain_message(raised.value)
    assert (read_volume(truth).array == 1).all()


def test_output_folder_around_a_single_case_is_refused(infer, tmp_path):
    write(tmp_path / "data")
    with pytest.raises(RuntimeError) as raised:
        infer(tmp_path / "data" / NAME, tmp_path / "data")
    assert "outside the data set" in plain_message(raised.value)
    assert not list((tmp_path / "data").rglob("*.json"))


def test_paths_may_contain_a_hash_sign(infer, tmp_path):
    write(tmp_path / "set #1")
    infer(tmp_path / "set #1", tmp_path / "out #1")
    assert done(tmp_path / "out #1") == [NAME] and not (tmp_path / "out ::1").exists()


def test_preprocessing_notes_are_in_the_json_and_in_the_answer(infer, segmenter, tmp_path):
    paths = write(tmp_path / "data")
    clean = arrays()
    image, affine = clean["flair"]
    nib.save(nib.Nifti1Image(np.where(image > 0, image, -1), affine), paths["flair"])
    infer(tmp_path / "data", tmp_path / "out")
    facts = json.loads((tmp_path / "out" / NAME / f"{NAME}.json").read_text())
    assert facts["notes"] == ["flair: the value -1 around the brain set to 0"] and facts["native_files"] == {}
    segmenter.set_case(**paths)
    answer = segmenter.segment()
    assert list(answer.notes) == facts["notes"] and answer.preparation is None
    assert answer.on("t2")[0] is answer.label
    segmenter.set_case(**clean)
    # The brain was shifted by 1 together with the background: to the network it is the same image.
    assert (answer.label != segmenter.segment().label).mean() < 1e-4


def test_sequence_in_another_orientation_gets_its_own_native_mask(infer, segmenter, tmp_path):
    paths = write(tmp_path / "data")
    segmenter.set_case(**paths)
    expected = segmenter.segment().label
    t2 = nib.load(paths["t2"])
    nib.save(nib.as_closest_canonical(t2), paths["t2"])
    infer(tmp_path / "data", tmp_path / "out")
    folder = tmp_path / "out" / NAME
    assert np.array_equal(read_volume(folder / f"{NAME}_seg.nii.gz").array, expected)
    native = nib.load(folder / f"{NAME}_t2_seg.nii.gz")
    turned = nib.load(paths["t2"])
    assert Grid(native.shape, native.affine).same_as(Grid(turned.shape, turned.affine))
    assert np.array_equal(nib.as_closest_canonical(nib.Nifti1Image(expected, t2.affine)).dataobj, native.dataobj)
    facts = json.loads((folder / f"{NAME}.json").read_text())
    assert facts["native_files"] == {f"{NAME}_t2_seg.nii.gz": "t2"}
    segmenter.set_case(**paths)
    answer = segmenter.segment()
    assert isinstance(answer.preparation, Preparation) and np.array_equal(answer.on("t2")[0], native.dataobj)
    with pytest.raises(InputError, match="t1, t1ce, t2, flair"):
        answer.on("swi")


def test_images_without_positive_voxels_are_segmented(segmenter):
    images = {s: (np.where(image > 0, image - 900, 0), GRIDS["aligned"][0]) for s, image in draw().items()}
    assert all(image.max() == 0 for image, _ in images.values())
    segmenter.set_case(**arrays())
    expected = segmenter.segment().label
    segmenter.set_case(**images)
    assert (segmenter.segment().label != expected).mean() < 1e-3
