"""Conversion of labels to regions for training, and of logits to a label map."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, DivisiblePadd, Invertd, Orientationd, Spacingd

from brats_clip.errors import InputError
from brats_clip.labels import label_to_regions
from brats_clip.transforms import LabelToRegionsd, LogitsToLabeld, PlaceClicksd

AFFINE = torch.diag(torch.tensor([-2.0, -2.0, 2.5, 1.0], dtype=torch.float64))  # 0.01 ml per voxel


def logits(et_voxels: int = 5, affine=AFFINE) -> MetaTensor:
    out = torch.full((3, 6, 6, 6), -3.0)
    out[0, 1:5], out[1, 2:4] = 3, 2
    out[2, 2].view(-1)[:et_voxels] = 1
    return MetaTensor(out, affine=affine)


def test_label_becomes_its_regions():
    label = MetaTensor(torch.tensor([0, 1, 2, 4], dtype=torch.uint8).reshape(1, 4, 1, 1), affine=AFFINE)
    data = LabelToRegionsd()({"label": label, "case": "p1"})
    assert data["case"] == "p1" and torch.equal(data["label"].as_tensor(), label_to_regions(label.as_tensor()))
    assert torch.equal(data["label"].affine, AFFINE)


def test_case_without_label_is_unchanged():
    assert LabelToRegionsd()({"image": 1}) == {"image": 1}


def test_logits_become_one_label_map_with_their_geometry():
    data = LogitsToLabeld()({"pred": logits(), "case": "p1"})
    label = data["pred"]
    assert isinstance(label, MetaTensor) and label.shape == (1, 6, 6, 6) and label.dtype == torch.uint8
    assert torch.equal(label.affine, AFFINE) and data["case"] == "p1"
    assert [int((label == value).sum()) for value in (0, 1, 2, 4)] == [72, 67, 72, 5]


@pytest.mark.parametrize("clicks", [False, True])
@pytest.mark.parametrize(("axcodes", "pixdim"), [("RAS", 2.0), ("PIL", 2.0), ("RAS", 1.5)])
def test_placed_label_equals_the_inverted_label(axcodes, pixdim, clicks):
    """Axes are flipped and permuted, volumes cropped and padded; a resampled label is inverted."""
    array = torch.zeros(1, 20, 18, 16)
    array[:, 3:16, 2:15, 4:13] = 1
    affine = torch.diag(torch.tensor([-2.0, -2.0, 2.0, 1.0], dtype=torch.float64))
    preprocessing = Compose(
        [
            Orientationd("image", axcodes, labels=None),
            Spacingd("image", [pixdim] * 3),
            CropForegroundd("image", "image", allow_smaller=True),
            DivisiblePadd("image", 16),
            PlaceClicksd(),
        ]
    )
    given = {"ET": [(8, 7, 9)], "background": [(9, 8, 6)]} if clicks else None
    image = MetaTensor(array, affine=affine, meta={"spatial_shape": (20, 18, 16), "original_affine": affine})
    data = preprocessing({"image": image, "clicks": given, "case": "p1"})
    random = torch.randn((3, *data["image"].shape[1:]), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool3d(random, 5, stride=1, padding=2)
    smooth += torch.tensor([0.1, 0.05, 0.0])[:, None, None, None]
    smooth = smooth * (data["image"] != 0).float().as_subclass(torch.Tensor)  # no tumour outside the brain
    data["pred"] = MetaTensor(smooth).copy_meta_from(data["image"], copy_attr=True)
    invert = Invertd("pred", preprocessing, "image", nearest_interp=False, to_tensor=True)
    least = {"min_lesion_ml": 0.05, "min_part_ml": 0.03}
    placed = LogitsToLabeld(**least, invert=invert)(dict(data))["pred"]
    inverted = LogitsToLabeld(**least)(invert(dict(data)))["pred"]
    assert placed.shape == (1, 20, 18, 16) and placed.any()
    assert torch.equal(placed.as_tensor(), inverted.as_tensor())
    assert torch.allclose(torch.as_tensor(placed.affine), affine)


def test_region_outside_its_enclosing_region_is_ignored():
    pred = torch.full((3, 1, 1, 4), -1.0)
    pred[2] = 9  # ET everywhere, no TC in the first half, no WT in the last voxel
    pred[1, ..., 2:], pred[0, ..., :3] = 1, 1
    label = LogitsToLabeld()({"pred": pred})["pred"]
    assert not isinstance(label, MetaTensor)
    assert label.flatten().tolist() == [2, 2, 4, 0]


def test_input_is_not_modified():
    pred = logits()
    before = pred.clone()
    LogitsToLabeld(min_et_ml=1)({"pred": pred})
    assert torch.equal(pred, before)


@pytest.mark.parametrize(("voxels", "kept"), [(9, False), (11, True)])
def test_too_little_enhancement_becomes_core(voxels, kept):
    label = LogitsToLabeld(min_et_ml=0.1)({"pred": logits(voxels)})["pred"]
    assert int((label == 4).sum()) == (voxels if kept else 0)
    assert int(((label == 1) | (label == 4)).sum()) == 72


def test_enhancement_outside_the_core_does_not_count_towards_the_threshold():
    pred = logits(5)
    pred[2, 5] = 1  # 36 voxels outside the tumour
    assert not (LogitsToLabeld(min_et_ml=0.1)({"pred": pred})["pred"] == 4).any()


def test_enhancement_of_a_lesion_that_is_dropped_does_not_count_towards_the_threshold():
    pred = torch.full((3, 12, 12, 12), -1.0)
    pred[:2, :5, :5, :5] = 1  # a lesion of 125 voxels with 5 of enhancement
    pred[2, 2, 2, :5] = 1
    pred[:, 8:11, 8:11, 8:11] = 1  # and one of 27 that enhances
    speck = LogitsToLabeld(min_lesion_ml=0.05, min_et_ml=0.02)({"pred": pred})["pred"]
    assert [int((speck == value).sum()) for value in (1, 4)] == [125, 0]
    kept = LogitsToLabeld(min_et_ml=0.02)({"pred": pred})["pred"]
    assert int((kept == 4).sum()) == 32


def test_threshold_is_in_ml_for_any_voxel_size():
    finer = AFFINE.clone()
    finer[:3, :3] /= 2  # an eighth of the volume
    label = LogitsToLabeld(min_et_ml=0.1)({"pred": logits(20, finer)})["pred"]
    assert not (label == 4).any()
    plain = LogitsToLabeld(min_et_ml=0.005)({"pred": logits(5).as_tensor()})["pred"]  # without an affine: 1 mm
    assert (plain == 4).sum() == 5


def test_threshold_0_keeps_a_single_voxel():
    assert (LogitsToLabeld()({"pred": logits(1)})["pred"] == 4).sum() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_the_same_label(dtype):
    whole, half = (LogitsToLabeld()({"pred": p})["pred"] for p in (logits(), logits().to(dtype)))
    assert torch.equal(whole.as_tensor(), half.as_tensor())


def test_nan_logits_are_an_error():
    pred = logits()
    pred[1, 3, 3, 3] = float("nan")
    with pytest.raises(InputError, match=r"pred.*NaN"):
        LogitsToLabeld()({"pred": pred})
