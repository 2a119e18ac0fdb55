from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brats_clip.errors import InputError
from brats_clip.evaluation import draw_overlay
from brats_clip.evaluation.overlay import REGION_COLOURS, _choose_slices

SHAPE = (60, 70, 50)


def head() -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    return np.where((grid**2).sum(0) < 0.9, 100.0, 0.0).astype(np.float32)


def tumour(x: slice, shape=SHAPE) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[x, 25:45, 15:35] = 2
    return label


def drawn(path, colour: str) -> np.ndarray:
    """Return the pixels (row, column) near ``colour``."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere(np.abs(pixels - wanted).max(-1) < 30)


def columns_with_outlines(path, columns: int, colour: str = REGION_COLOURS["WT"]) -> list[int]:
    with Image.open(path) as picture:
        width, height = picture.size
    found = drawn(path, colour)
    found = found[found[:, 0] < height - 40]
    return sorted({int(c * columns / width) for c in found[:, 1]})


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR"])
def test_patient_right_is_drawn_on_the_left_for_every_orientation(tmp_path, orientation):
    image, label = head(), tumour(slice(40, 50))  # high x in RAS: the patient's right
    to = nib.orientations.axcodes2ornt(orientation)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), to)
    affine = np.eye(4) @ nib.orientations.inv_ornt_aff(turn, SHAPE)
    image, label = (nib.apply_orientation(v, turn) for v in (image, label))
    path = tmp_path / "case.png"
    draw_overlay(path, {"T1ce": image}, label, affine)
    with Image.open(path) as picture:
        width, height = picture.size
    outline = drawn(path, REGION_COLOURS["WT"])
    axial = outline[outline[:, 0] < height * 0.38]
    assert len(axial) > 20
    assert (axial[:, 1] > width / 2).all()  # the right one of two columns shows the prediction
    assert (axial[:, 1] < width * 0.75).all()  # in its left half


def test_truth_and_prediction_are_drawn_side_by_side(tmp_path):
    path = tmp_path / "case.png"
    images = {"FLAIR": head(), "T1ce": head()}
    nothing = np.zeros(SHAPE, np.uint8)
    draw_overlay(path, images, tumour(slice(20, 40)), np.eye(4), tumour(slice(20, 40)))
    assert columns_with_outlines(path, 4) == [0, 1, 2, 3]
    draw_overlay(path, images, nothing, np.eye(4), tumour(slice(20, 40)))
    assert columns_with_outlines(path, 4) == [0, 2]
    draw_overlay(path, images, tumour(slice(20, 40)), np.eye(4))
    assert columns_with_outlines(path, 4) == [1, 3]


def test_slices_with_most_tumour_are_shown(tmp_path):
    path = tmp_path / "case.png"
    label = np.zeros(SHAPE, np.uint8)
    label[30, 30, 20:40] = 2
    label[25:35, 25:35, 33] = 4  # ET only here: seen only if this axial slice is shown
    draw_overlay(path, {"T1ce": head()}, label, np.eye(4), label)
    assert columns_with_outlines(path, 2, REGION_COLOURS["ET"]) == [0, 1]


def test_each_attention_map_adds_a_column(tmp_path):
    widths = []
    for attention in (None, {"attention ET": np.clip(head() / 100, 0, 1)}):
        path = tmp_path / "case.png"
        draw_overlay(path, {"T1ce": head()}, tumour(slice(20, 40)), np.eye(4), attention=attention)
        with Image.open(path) as picture:
            widths.append(picture.size[0])
    assert widths[1] == widths[0] * 3 // 2


@pytest.mark.parametrize("empty_image", [False, True])
def test_case_without_tumour_is_drawn(tmp_path, empty_image):
    image = np.zeros(SHAPE, np.float32) if empty_image else head()
    draw_overlay(tmp_path / "case.png", {"T1ce": image}, np.zeros(SHAPE, np.uint8), np.eye(4), title="case")
    assert (tmp_path / "case.png").stat().st_size > 1000


def test_mismatched_shapes_are_an_error_and_leave_no_file(tmp_path):
    with pytest.raises(InputError, match="case-7"):
        draw_overlay(tmp_path / "c.png", {"T1ce": head()}, np.zeros((3, 3, 3), np.uint8), np.eye(4), title="case-7")
    assert list(tmp_path.iterdir()) == []


def test_side_of_a_slice_is_relative_to_the_centre_of_the_brain():
    volumes = {"flair": np.ones((40, 40, 40)), "prediction": np.zeros((40, 40, 40), np.uint8)}
    volumes["prediction"][30:34, 18:22, 18:22] = 2
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -500  # every voxel has x < 0, the patient's left
    captions = [s.caption for s in _choose_slices(volumes, ["flair"], affine)]
    assert next(c for c in captions if c.startswith("sagittal")).split()[1] == "R"
