"""Clicks are mapped to the working grid, and applied to the label map of the case."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, DivisiblePadd, Orientationd, Spacingd

from brats_clip.clicks import KINDS
from brats_clip.errors import InputError
from brats_clip.transforms import LoadCased, LogitsToLabeld, ObeyClicksd, PlaceClicksd, clean_label
from tests.cases.case_files import AFFINE, SHAPE, write_case

WORKING = [
    Orientationd("image", axcodes="RAS", labels=None),
    Spacingd("image", pixdim=1.0),
    CropForegroundd("image", source_key="image", allow_smaller=True),
    DivisiblePadd("image", k=16),
]
LABELS = {"WT": {1, 2, 4}, "TC": {1, 4}, "ET": {4}, "NCR": {1}, "ED": {2}, "background": {0}}


def prepare(tmp_path, clicks=None, **options) -> dict:
    case = write_case(tmp_path, label=False)
    return Compose([LoadCased(), *WORKING, PlaceClicksd(**options)])({**case, "clicks": clicks})


def test_click_keeps_its_world_position(tmp_path):
    data = prepare(tmp_path, {"ET": [(5, 9, 12), (0, 27, 19)], "background": [(12, 12, 3)]})
    native = np.array([[5, 9, 12, 1], [0, 27, 19, 1], [12, 12, 3, 1]]) @ AFFINE.T
    placed = np.c_[data["clicks"].numpy(), np.ones(3)] @ data["image"].affine.numpy().T
    np.testing.assert_allclose(placed, native, atol=1e-3)
    assert data["native_clicks"].tolist() == [[5, 9, 12], [0, 27, 19], [12, 12, 3]]
    assert data["click_targets"].tolist() == [list(KINDS[k]) for k in ("ET", "ET", "background")]
    assert data["clicks"].dtype == torch.float32


def test_click_points_at_the_same_tissue_on_the_working_grid(tmp_path):
    voxel = (11, 9, 12)
    case = write_case(tmp_path, label=False)
    loaded = LoadCased()({**case, "clicks": {"ET": [voxel]}})
    loaded["image"][(slice(None), *(slice(v - 1, v + 2) for v in voxel))] = 5000
    data = PlaceClicksd()(Compose(WORKING)(loaded))
    at = tuple(data["clicks"][0].round().long().tolist())
    assert (data["image"][(slice(None), *at)] > 4500).all()


def test_world_positions_are_placed_like_voxels(tmp_path):
    voxels = [(5, 9, 12), (0, 27, 19)]
    world = [(AFFINE @ [*voxel, 1])[:3].tolist() for voxel in voxels]
    a, b = prepare(tmp_path / "a", {"NCR": voxels}), prepare(tmp_path / "b", {"NCR": world}, space="world")
    for key in ("clicks", "click_targets", "native_clicks"):
        assert torch.equal(a[key], b[key])


@pytest.mark.parametrize(
    "clicks",
    [
        {"ET": [(5, 9, 12), (0, 27.4, 19)], "background": []},
        [("ET", (5, 9, 12)), ("ET", (0, 27.4, 19))],
        {"ET": np.array([[5, 9, 12], [0, 27.4, 19]])},
    ],
    ids=["by kind", "pairs", "array"],
)
def test_clicks_are_recorded_as_given(tmp_path, clicks):
    given = json.loads(prepare(tmp_path, clicks)["clicks_given"])
    assert [click["position"] for click in given] == [[5, 9, 12], [0, 27.4, 19]]
    assert {(click["kind"], click["space"]) for click in given} == {("ET", "voxel")}


@pytest.mark.parametrize("clicks", [None, {}, {"ET": []}])
def test_missing_clicks_give_empty_lists(tmp_path, clicks):
    data = prepare(tmp_path, clicks)
    assert data["clicks"].shape == data["click_targets"].shape == data["native_clicks"].shape == (0, 3)


def test_click_outside_error_names_the_case(tmp_path):
    loaded = LoadCased()(write_case(tmp_path, label=False))
    with pytest.raises(InputError, match=r"clicks of case BraTS2021_00000.*outside"):
        PlaceClicksd()({**loaded, "clicks": {"ET": [(SHAPE[0], 0, 0)]}})


def obey(label: torch.Tensor, *clicks: tuple) -> torch.Tensor:
    voxels = torch.tensor([voxel for voxel, _ in clicks]).reshape(-1, 3)
    targets = torch.tensor([KINDS[kind] for _, kind in clicks], dtype=torch.float32).reshape(-1, 3)
    data = ObeyClicksd()({"pred": label, "native_clicks": voxels, "click_targets": targets, "case": "p1"})
    assert data["case"] == "p1"
    return data["pred"]


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("value", [0, 1, 2, 4])
def test_clicked_voxel_takes_the_nearest_label_of_its_kind(kind, value):
    label = torch.full((1, 6, 6, 6), value, dtype=torch.uint8)
    found = obey(label.clone(), ((2, 3, 4), kind))
    here = int(found[0, 2, 3, 4])
    assert here in LABELS[kind]
    if value in LABELS[kind]:
        assert here == value  # the label was correct already
    found[0, 2, 3, 4] = value
    assert torch.equal(found, label) and found.dtype == torch.uint8


@pytest.mark.parametrize(
    ("first", "second", "label"), [("ET", "background", 0), ("background", "TC", 1), ("ED", "NCR", 1), ("ET", "WT", 4)]
)
def test_last_of_contradicting_clicks_wins(first, second, label):
    found = obey(torch.zeros(1, 4, 4, 4, dtype=torch.uint8), ((1, 1, 1), first), ((1, 1, 1), second))
    assert int(found[0, 1, 1, 1]) == label


def test_label_keeps_its_geometry_and_no_clicks_have_no_effect():
    label = MetaTensor(torch.ones(1, 4, 4, 4, dtype=torch.uint8), affine=torch.from_numpy(AFFINE))
    found = obey(label, ((0, 0, 0), "background"))
    assert isinstance(found, MetaTensor) and int(found[0, 0, 0, 0]) == 0 and int(found.sum()) == 63
    np.testing.assert_allclose(found.affine.numpy(), AFFINE)
    assert torch.equal(obey(label.clone()), label)


def test_1000_clicks_take_under_5_seconds():
    label = MetaTensor(torch.zeros(1, 20, 20, 20, dtype=torch.uint8))
    clicks = [((i // 100, i // 10 % 10, i % 10), list(KINDS)[i % 6]) for i in range(1000)]
    started = time.process_time()
    found = obey(label, *clicks)
    assert time.process_time() - started < 5
    assert all(int(found[(0, *voxel)]) in LABELS[kind] for voxel, kind in clicks)


def specks() -> torch.Tensor:
    """Return regions with a tumour of 512 voxels, and one of 8 voxels at (15, 15, 15)."""
    regions = torch.zeros(3, 20, 20, 20, dtype=torch.bool)
    regions[:, 2:10, 2:10, 2:10] = True
    regions[:, 15:17, 15:17, 15:17] = True
    return regions


def clean(regions: torch.Tensor, *voxels: tuple, kind: str = "ET", **limits) -> torch.Tensor:
    return clean_label(regions, 0.001, clicks=voxels, targets=[KINDS[kind]] * len(voxels), **limits)[0]


def test_small_piece_is_kept_if_clicked():
    assert int((clean(specks(), min_lesion_ml=0.05) > 0).sum()) == 512
    assert int((clean(specks(), (16, 15, 15), min_lesion_ml=0.05) > 0).sum()) == 520
    assert int((clean(specks(), (5, 5, 5), min_lesion_ml=0.05) > 0).sum()) == 512
    assert int((clean(specks(), (12, 12, 12), min_lesion_ml=0.05) > 0).sum()) == 512  # a click on background


def test_speck_of_enhancement_becomes_core_unless_clicked():
    def regions():
        core = specks()
        core[2] = False
        core[2, 3, 3, 3:5], core[2, 6:9, 6:9, 6:9] = True, True
        return core

    assert int((clean(regions(), min_part_ml=0.02) == 4).sum()) == 27
    assert int((clean(regions(), min_part_ml=0.02) == 1).sum()) == 512 - 27  # and the speck of core far away goes
    assert int((clean(regions(), (3, 3, 4), min_part_ml=0.02) == 4).sum()) == 29
    assert int((clean(regions(), (3, 3, 4), kind="TC", min_part_ml=0.02) == 4).sum()) == 27


def test_click_keeps_only_its_own_piece():
    regions = specks()
    regions[:, 18:20, 2:4, 2:4] = True
    found = clean(regions, (15, 15, 15), min_lesion_ml=0.05)
    assert int((found > 0).sum()) == 520 and (found[18:] == 0).all()


def test_little_enhancement_is_kept_if_clicked():
    def regions():
        small = specks()
        small[2] = False
        small[2, 5, 5, 5:8] = True
        return small

    assert not (clean(regions(), min_et_ml=0.01) == 4).any()
    assert int((clean(regions(), (5, 5, 6), min_et_ml=0.01) == 4).sum()) == 3
    assert not (clean(regions(), (5, 5, 6), kind="TC", min_et_ml=0.01) == 4).any()


@pytest.mark.parametrize("voxel", [(-3, 5, 5), (25, 5, 5), (5, 5, 20)])
def test_click_outside_the_working_grid_has_no_effect(voxel):
    """The working grid ends at the brain; a click may lie in the air around it."""
    regions = specks()
    regions[:, 17:19, 5:7, 5:7] = True
    assert int((clean(regions, voxel, min_lesion_ml=0.05, min_et_ml=1.0) > 0).sum()) == 512


def logits_with_speck() -> MetaTensor:
    logits = torch.where(specks(), 1.0, -1.0)
    return MetaTensor(logits, affine=torch.eye(4))


def pred_with(kind: str, voxel: tuple) -> torch.Tensor:
    data = {
        "pred": logits_with_speck(),
        "native_clicks": torch.tensor([voxel]),
        "click_targets": torch.tensor([KINDS[kind]], dtype=torch.float32),
    }
    return LogitsToLabeld(min_lesion_ml=0.05)(data)["pred"]


@pytest.mark.parametrize("kind", ["WT", "TC", "ET", "NCR", "ED"])
def test_label_map_keeps_pieces_clicked_as_tumour(kind):
    assert int((pred_with(kind, (15, 15, 15)) > 0).sum()) == 520
    assert int((pred_with(kind, (5, 5, 5)) > 0).sum()) == 512


def test_piece_clicked_as_background_is_removed():
    assert int((pred_with("background", (15, 15, 15)) > 0).sum()) == 512
