"""Clicks as given by a user are validated and converted to voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brats_clip.clicks import KINDS, click_targets, kind_of_label, place_clicks
from brats_clip.errors import InputError
from brats_clip.labels import REGIONS, regions_to_label

SHAPE = (20, 30, 10)
# Permuted, mirrored and anisotropic, so that world and voxel coordinates differ in every axis.
AFFINE = np.array([[0.0, 0, 2.5, -40], [-1.0, 0, 0, 90], [0, 0.5, 0, 7], [0, 0, 0, 1]])


def to_world(voxel) -> list[float]:
    return (AFFINE @ [*voxel, 1])[:3].tolist()


@pytest.mark.parametrize("value", [0, 1, 2, 4])
def test_kind_of_a_label_maps_back_to_that_label(value):
    said = torch.tensor(KINDS[kind_of_label(value)])
    assert (said != 0).all()
    assert int(regions_to_label((said > 0).float()[:, None, None, None])) == value


@pytest.mark.parametrize("region", REGIONS)
def test_region_click_includes_enclosing_regions_and_leaves_inner_ones_open(region):
    depth = list(REGIONS).index(region)
    assert list(KINDS[region]) == [1] * (depth + 1) + [0] * (2 - depth)


def test_targets_have_one_row_per_kind_in_order():
    targets = click_targets(["ED", "ET", "WT", "ED"])
    assert targets.tolist() == [list(KINDS[kind]) for kind in ("ED", "ET", "WT", "ED")]
    assert targets.dtype == torch.float32 and click_targets([]).shape == (0, 3)


def test_targets_of_an_unknown_kind_are_refused():
    with pytest.raises(InputError, match=r"'oedema'.*one of WT, TC, ET, NCR, ED, background"):
        click_targets(["oedema"])


def test_place_clicks_keeps_the_given_order():
    kinds, voxels = place_clicks({"ET": [(1, 2, 3), [4, 5, 6]], "background": [(19, 29, 9)]}, SHAPE, AFFINE)
    assert kinds == ["ET", "ET", "background"]
    assert voxels.tolist() == [[1, 2, 3], [4, 5, 6], [19, 29, 9]] and voxels.dtype.kind == "i"


def test_pairs_keep_the_order_of_alternating_kinds():
    pairs = [("ET", (1, 2, 3)), ["background", [1, 2, 3]], ("ET", np.array([4, 5, 6])), ("background", [0, 0, 0])]
    kinds, voxels = place_clicks(pairs, SHAPE, AFFINE)
    assert kinds == ["ET", "background", "ET", "background"]
    assert voxels.tolist() == [[1, 2, 3], [1, 2, 3], [4, 5, 6], [0, 0, 0]]
    world = tuple((kind, to_world(position)) for kind, position in pairs)
    assert place_clicks(world, SHAPE, AFFINE, "world")[1].tolist() == voxels.tolist()


@pytest.mark.parametrize(
    ("pairs", "what"),
    [
        ([("ET", [1, 1, 1], 2)], "the pair .*or pairs"),
        ([["ET"]], "the pair .*or pairs"),
        (["ET"], "the pair ET.*or pairs"),
        ([(4, [1, 1, 1])], "the pair .*or pairs"),
        ([("et", [1, 1, 1])], "the kind 'et'.*one of WT"),
        ([("ET", [[1, 1, 1]])], "three finite numbers"),
        ([("ET", [1, 1])], "three finite numbers"),
        ([("ET", [1, 1, 1]), ("ED", [20, 1, 1])], "ED at .*outside the volume"),
        ([("ET", [1, 1, 1])] * 1001, "1001 clicks"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_invalid_pairs_are_refused(pairs, what):
    with pytest.raises(InputError, match=what):
        place_clicks(pairs, SHAPE, AFFINE)


def test_positions_are_rounded_to_the_nearest_voxel():
    _, voxels = place_clicks({"WT": [(1.4, 2.6, -0.4), (19.4, 29.4, 9.4)]}, SHAPE, AFFINE)
    assert voxels.tolist() == [[1, 3, 0], [19, 29, 9]]


def test_world_positions_are_converted_to_voxels():
    clicks = {"NCR": [(3, 20, 8), (0, 0, 0)], "TC": [(19, 29, 9)]}
    world = {kind: [to_world(voxel) for voxel in voxels] for kind, voxels in clicks.items()}
    for kind in ("voxel", "world"):
        kinds, voxels = place_clicks(clicks if kind == "voxel" else world, SHAPE, AFFINE, kind)
        assert kinds == ["NCR", "NCR", "TC"] and voxels.tolist() == [[3, 20, 8], [0, 0, 0], [19, 29, 9]]


@pytest.mark.parametrize("clicks", [None, {}, [], (), {"ET": []}, {"ET": [], "ED": np.zeros((0, 3))}])
def test_empty_clicks_give_no_voxels(clicks):
    kinds, voxels = place_clicks(clicks, SHAPE, AFFINE)
    assert kinds == [] and voxels.shape == (0, 3)


def test_arrays_tensors_and_tuples_are_accepted():
    points = [[1, 2, 3], [4, 5, 6]]
    for given in (np.array(points), torch.tensor(points), tuple(map(tuple, points))):
        assert place_clicks({"ET": given}, SHAPE, AFFINE)[1].tolist() == points


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("beyond", ["before", "behind"])
@pytest.mark.parametrize("space", ["voxel", "world"])
def test_position_outside_the_volume_is_refused(axis, beyond, space):
    voxel = [5.0, 5.0, 5.0]
    voxel[axis] = -0.6 if beyond == "before" else SHAPE[axis] - 0.4
    position = voxel if space == "voxel" else to_world(voxel)
    inside = [5, 5, 5] if space == "voxel" else to_world([5, 5, 5])
    with pytest.raises(InputError, match=r"clicks of case p1: found ED at \[.*outside the volume.*20 x 30 x 10") as e:
        place_clicks({"ED": [inside, position]}, SHAPE, AFFINE, space, case="p1")
    assert str(position[0]) in str(e.value)


@pytest.mark.parametrize("kind", ["et", "oedema", "", 4, None])
def test_unknown_kind_error_lists_the_kinds(kind):
    with pytest.raises(InputError, match="one of WT, TC, ET, NCR, ED, background"):
        place_clicks({kind: [[1, 1, 1]]}, SHAPE, AFFINE)


def test_unknown_space_is_refused():
    with pytest.raises(InputError, match="space: found 'mm'; expected 'voxel' or 'world'"):
        place_clicks({"ET": [[1, 1, 1]]}, SHAPE, AFFINE, space="mm")


@pytest.mark.parametrize(
    "positions",
    [
        [1, 2, 3],
        [[1, 2]],
        [[1, 2, 3, 4]],
        [[1, 2, 3], [1, 2]],
        [[1, 2, float("nan")]],
        [[1, 2, float("inf")]],
        [["a", "b", "c"]],
        [[1, 2, None]],
        [[1j, 0, 0]],
        {"x": 1},
        "here",
        None,
        5,
    ],
    ids=str,
)
def test_malformed_positions_are_refused(positions):
    with pytest.raises(InputError, match="three finite numbers") as error:
        place_clicks({"ET": positions}, SHAPE, AFFINE)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("clicks", ["ET", 7, {"ET"}])
def test_clicks_that_are_neither_a_mapping_nor_pairs_are_refused(clicks):
    with pytest.raises(InputError, match="positions by kind"):
        place_clicks(clicks, SHAPE, AFFINE)


def test_at_most_1000_clicks_are_accepted():
    some = [[1, 1, 1]] * 600
    kinds, voxels = place_clicks({"ET": some, "ED": some[:400]}, SHAPE, AFFINE)
    assert len(kinds) == len(voxels) == 1000
    with pytest.raises(InputError, match="1001 clicks; expected at most 1000"):
        place_clicks({"ET": some, "ED": some[:401]}, SHAPE, AFFINE)
