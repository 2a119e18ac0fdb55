"""Raw images are registered to one grid and brain-extracted; labels are mapped back to every native series."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from raw_exam import AFFINE, BRAIN, GRID, MOTIONS, SHAPE, brain_of, head, series
from scipy import ndimage

from brats_clip.cases import SEQUENCES, CaseContent, Preparation, find_cases, prepare, read_case, read_volume
from brats_clip.errors import CaseError, InputError
from brats_clip.geometry import Grid, resample
from brats_clip.images import Volume, write_image

cases_prepare = importlib.import_module("brats_clip.cases.prepare")  # its function has the same name


@pytest.fixture(scope="module")
def exam() -> dict[str, Volume]:
    return {sequence: series(sequence) for sequence in SEQUENCES}


@pytest.fixture(scope="module")
def case(exam, tmp_path_factory) -> dict[str, str]:
    """The exam as files, with a brain mask on T1 and a label that fills the whole FLAIR volume."""
    folder = tmp_path_factory.mktemp("exam")
    brain = brain_of("t1", exam["t1"].grid).astype(np.uint8)
    label = np.full(exam["flair"].array.shape, 2, np.uint8)
    arrays = {s: (v.array, v.affine) for s, v in exam.items()}
    arrays |= {"brain_mask": (brain, exam["t1"].affine), "label": (label, exam["flair"].affine)}
    for name, (array, affine) in arrays.items():
        write_image(folder / f"{name}.nii.gz", array, affine)
    return {name: str(folder / f"{name}.nii.gz") for name in arrays}


@pytest.fixture(scope="module")
def content(case) -> CaseContent:
    return read_case(case, preprocess="auto")


@pytest.fixture(scope="module")
def prepared(content) -> tuple[dict[str, Volume], Preparation]:
    return content.volumes, content.preparation


def test_registration_error_is_below_2_mm(prepared):
    surface = np.argwhere(BRAIN & ~ndimage.binary_erosion(BRAIN))
    points = np.c_[surface, np.ones(len(surface))] @ AFFINE.T
    for sequence, motion in prepared[1].motions.items():
        errors = np.linalg.norm((points @ (motion - MOTIONS[sequence]).T)[:, :3], axis=1)
        assert np.median(errors) < 1.0 and errors.max() < 2.0, (sequence, errors.max())


def test_prepared_volumes_share_a_1_mm_grid_with_0_outside_the_brain(prepared):
    volumes, preparation = prepared
    assert preparation.reference == "t1ce" and np.allclose(preparation.working.spacing, 1)
    truth = resample(BRAIN.astype(np.float32), GRID, preparation.working) > 0.5
    for volume in volumes.values():
        assert volume.grid.same_as(preparation.working)
        mask = volume.array != 0
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.96
    assert any("brain_mask.nii.gz" in note for note in preparation.notes)
    assert sum("registered to t1" in note for note in preparation.notes) == 3


def test_labels_are_mapped_to_every_native_series_and_back(prepared, exam):
    _, preparation = prepared
    label = np.zeros(preparation.working.shape, np.uint8)
    x, y, z = (n // 2 for n in label.shape)
    label[x - 12 : x + 12, y - 15 : y + 15, z - 10 : z + 10] = 2
    preparation = Preparation.from_json(preparation.to_json())
    assert preparation.resampled_sequences == list(SEQUENCES)
    for sequence in SEQUENCES:
        native = preparation.to_native(label, sequence)
        assert native.shape == exam[sequence].array.shape and native.dtype == np.uint8
        ml = native.astype(bool).sum() * exam[sequence].grid.voxel_ml
        assert ml == pytest.approx(label.astype(bool).sum() / 1000, rel=0.15)
        back = preparation.from_native(native, sequence)
        assert 2 * ((back > 0) & (label > 0)).sum() / ((back > 0).sum() + (label > 0).sum()) > 0.85


def test_stripped_images_on_one_grid_are_returned_unchanged():
    given = {s: Volume(head(s, stripped=True), AFFINE, s) for s in SEQUENCES}
    volumes, preparation = prepare(given, "auto")
    assert preparation is None and all(volumes[s] is given[s] for s in SEQUENCES)


def test_permuted_axes_are_reordered_without_interpolation():
    given = {s: Volume(head(s, stripped=True), AFFINE, s) for s in SEQUENCES}
    turn = ornt_transform(io_orientation(AFFINE), axcodes2ornt("SAR"))
    array = apply_orientation(given["t2"].array, turn)
    turned = Volume(array, AFFINE @ inv_ornt_aff(turn, SHAPE), "t2")
    volumes, preparation = prepare({**given, "t2": turned}, "auto")
    assert np.array_equal(volumes["t2"].array, given["t2"].array)
    assert all(volumes[s] is given[s] for s in ("t1", "t1ce", "flair"))
    assert "t2: axes turned" in preparation.notes[0] and preparation.resampled_sequences == ["t2"]
    label = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
    assert np.array_equal(preparation.to_native(label, "t2"), apply_orientation(label, turn))


def test_preprocess_never_returns_raw_images_unchanged(exam):
    volumes, preparation = prepare(exam, "never")
    assert preparation is None and all(volumes[s] is exam[s] for s in SEQUENCES)
    with pytest.raises(InputError, match="auto, always, never"):
        prepare(exam, "sometimes")


def test_series_that_does_not_cover_the_brain_is_refused(exam):
    brain = exam["t1"]._replace(array=(exam["t1"].array > 0).astype(np.float32))
    far = exam["t2"].affine.copy()
    far[2, 3] += 400
    leg = Volume(np.random.default_rng(0).uniform(1, 9, (8, 9, 7)).astype(np.float32), far, "leg.nii.gz")
    with pytest.raises(CaseError, match=r"leg\.nii\.gz: found .*% of the brain"):
        prepare({"t1": exam["t1"], "t2": leg}, "auto", brain)


def test_series_that_cannot_be_registered_is_refused(exam):
    noise = np.random.default_rng(1).uniform(1, 9, exam["t2"].array.shape).astype(np.float32)
    given = {"t1": exam["t1"], "t2": exam["t2"]._replace(array=noise, path="noise.nii.gz")}
    brain = exam["t1"]._replace(array=brain_of("t1", exam["t1"].grid).astype(np.float32))
    with pytest.raises(CaseError, match=r"noise\.nii\.gz: found .*cannot be registered"):
        prepare(given, "auto", brain)


def extracting(monkeypatch, masks: dict[str, np.ndarray]) -> None:
    """Let the brain extractor return these masks, by the file name of the series."""
    monkeypatch.setattr(cases_prepare, "extract_brain", lambda volume: masks[Path(volume.path).name.split(".")[0]])


def brains(exam) -> dict[str, np.ndarray]:
    return {s: brain_of(s, exam[s].grid) for s in ("t1", "t1ce")}


def covered(volumes, preparation) -> tuple[float, float]:
    """Share of the brain that is kept, and volume kept outside relative to the brain."""
    truth = resample(
        BRAIN.astype(np.float32), Grid(SHAPE, MOTIONS[preparation.reference] @ AFFINE), preparation.working
    )
    mask, truth = volumes["t1"].array != 0, truth > 0.5
    return (mask & truth).sum() / truth.sum(), (mask & ~truth).sum() / truth.sum()


@pytest.mark.parametrize("wrong", ["t1", "t1ce"])
def test_brain_is_the_mean_of_the_masks_of_t1_and_t1ce(exam, monkeypatch, wrong):
    masks = brains(exam)
    half = (np.arange(masks[wrong].shape[0]) > masks[wrong].shape[0] // 2)[:, None, None]
    masks[wrong] = masks[wrong] | (half & ndimage.binary_dilation(masks[wrong], iterations=3))
    extracting(monkeypatch, masks)
    volumes, preparation = prepare({s: exam[s] for s in ("t1", "t1ce")}, "auto")
    kept, outside = covered(volumes, preparation)
    assert kept > 0.97 and outside < 0.06
    assert any("extracted from t1 and t1ce" in note for note in preparation.notes)


def test_brain_of_t1_is_kept_where_t1ce_shows_nothing(exam, monkeypatch):
    masks, shorter = brains(exam), exam["t1ce"]
    rows = int(0.8 * np.flatnonzero(masks["t1ce"].any((0, 1)))[-1])  # the top of the brain is not imaged
    shorter = shorter._replace(array=shorter.array[:, :, :rows])
    extracting(monkeypatch, masks | {"t1ce": masks["t1ce"][:, :, :rows]})
    volumes, preparation = prepare({"t1": exam["t1"], "t1ce": shorter}, "always")
    assert covered(volumes, preparation)[0] > 0.97


def test_brain_of_t1_alone_is_used_with_a_note_if_that_of_t1ce_differs(exam, monkeypatch):
    masks = brains(exam)
    masks["t1ce"] = masks["t1ce"] & (np.arange(masks["t1ce"].shape[1]) < masks["t1ce"].shape[1] // 2)[:, None]
    extracting(monkeypatch, masks)
    volumes, preparation = prepare({s: exam[s] for s in ("t1", "t1ce")}, "auto")
    assert covered(volumes, preparation)[0] > 0.97
    assert any("that of t1ce differs" in note and "check the images" in note for note in preparation.notes)


def test_prepare_reports_its_steps_and_accepts_a_reference(exam):
    steps = []
    brain = exam["t1"]._replace(array=brain_of("t1", exam["t1"].grid).astype(np.float32))
    given = {s: exam[s] for s in ("t1", "t2")}
    _, preparation = prepare(given, "auto", brain, reference="t2", on_step=steps.append)
    assert steps == ["find the brain", "register t2", "resample"]
    assert preparation.reference == "t2" and np.array_equal(preparation.motions["t2"], np.eye(4))


def test_empty_or_misplaced_brain_mask_is_refused(exam):
    empty = exam["t1"]._replace(array=np.zeros_like(exam["t1"].array), path="mask.nii.gz")
    with pytest.raises(CaseError, match=r"mask\.nii\.gz: found an empty brain mask"):
        prepare(exam, "auto", empty)
    with pytest.raises(CaseError, match="on a grid of its own"):
        prepare(exam, "auto", Volume(np.ones((5, 5, 5), np.float32), np.eye(4), "mask.nii.gz"))


def test_label_of_one_series_is_resampled_to_the_working_grid(content, case):
    assert content.label.shape == content.preparation.working.shape and (content.label == 2).mean() > 0.8
    with pytest.raises(CaseError, match="grid"):
        read_case(case)


RAW = Path(os.environ.get("BRATS_DIR", "/nowhere")).parent / "raw" / "TCGA-FG-6692"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not RAW.is_dir(), reason="BRATS_DIR is not set, or no raw exam beside it")
def test_brain_mask_of_a_real_exam_agrees_with_hd_bet():
    names = {"t1": "t1", "t1ce": "t1c", "t2": "t2", "flair": "fla"}
    content = read_case({s: str(RAW / f"{name}.nii.gz") for s, name in names.items()}, preprocess="auto")
    mask = np.any([volume.array != 0 for volume in content.volumes.values()], axis=0).astype(np.uint8)
    for sequence, least in {"t1": 0.97, "t1ce": 0.95, "t2": 0.92, "flair": 0.92}.items():
        other = read_volume(RAW / f"{names[sequence]}_hdbet_mask.nii.gz").array > 0
        native = content.preparation.to_native(mask, sequence) > 0
        assert 2 * (native & other).sum() / (native.sum() + other.sum()) >= least, sequence
    assert not any("doubtful" in note for note in content.notes)


def test_exam_with_free_file_names_is_found_as_a_case(tmp_path):
    for name in ("T1", "T1_post", "T2", "FLAIR"):
        write_image(tmp_path / "exam" / f"{name}.nii.gz", np.ones((2, 2, 2), np.uint8), np.eye(4))
    (case,) = find_cases(tmp_path)
    assert case["case"] == "exam" and case["t1ce"].endswith("T1_post.nii.gz") and case["t1"].endswith("T1.nii.gz")
