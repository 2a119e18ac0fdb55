"""Strokes: rasterisation of polylines, conversion to clicks, and application to the label map."""

from __future__ import annotations

import numpy as np
import pytest

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.clicks import KINDS, RobotAnnotator
from brats_clip.clicks.strokes import EVERY_MM, MOST_CLICKS, obey_stroke, rasterise, stroke_clicks
from brats_clip.evaluation import region_dice
from brats_clip.labels import keep_regions
from brats_clip.phantoms import draw_phantom


@pytest.mark.parametrize(
    "corners", [[[3, 4, 5]], [[0, 0, 0], [30, 7, 0]], [[0, 0, 0], [9, 9, 0], [9, 0, 3], [9, 0, 3]]]
)
def test_rasterise_covers_a_polyline_without_gaps(corners):
    voxels = rasterise(corners)
    steps = np.abs(np.diff(voxels, axis=0))
    assert voxels[0].tolist() == corners[0] and voxels[-1].tolist() == corners[-1]
    assert (steps.max(axis=1, initial=0) == 1).all()
    assert all(corner in voxels.tolist() for corner in corners)


def test_stroke_clicks_leave_no_gap_and_are_limited_in_number():
    voxels = rasterise([[0, 0, 0], [40, 0, 0], [40, 30, 0]])
    clicks = stroke_clicks(voxels, (1, 1, 1))
    assert clicks[0].tolist() == [0, 0, 0] and clicks[-1].tolist() == [40, 30, 0]
    assert np.linalg.norm(np.diff(clicks, axis=0), axis=1).max() <= EVERY_MM + 1
    assert len(stroke_clicks(rasterise([[0, 0, 0], [900, 0, 0]]), (1, 1, 1))) == MOST_CLICKS
    assert len(stroke_clicks(voxels, (1, 1, 1), most=5)) == 5
    assert stroke_clicks(rasterise([[3, 3, 3]]), (1, 1, 1)).tolist() == [[3, 3, 3]]


@pytest.mark.parametrize("kind", KINDS)
def test_obey_stroke_changes_only_the_voxels_of_the_stroke(kind):
    label = np.array([0, 1, 2, 4, 0, 4], np.uint8).reshape(6, 1, 1)
    expected = {
        "WT": [2, 1, 2, 4],
        "TC": [1, 1, 1, 4],
        "ET": [4, 4, 4, 4],
        "NCR": [1, 1, 1, 1],
        "ED": [2, 2, 2, 2],
        "background": [0, 0, 0, 0],
    }[kind]
    obey_stroke(label, np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [9, 0, 0], [-1, 0, 0]]), kind)
    assert label.ravel().tolist() == [*expected, 0, 4]


@pytest.mark.parametrize("names", [["ET"], ["TC"], ["WT"], ["ET", "WT"], ["WT", "TC", "ET"], []])
def test_keep_regions_restores_the_named_regions(names):
    rng = np.random.default_rng(0)
    label, before = (rng.choice([0, 1, 2, 4], (12, 12, 12)).astype(np.uint8) for _ in range(2))
    found = keep_regions(label, before, names)
    masks = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
    for name in names:
        np.testing.assert_array_equal(np.isin(found, masks[name]), np.isin(before, masks[name]))
    if not names:
        np.testing.assert_array_equal(found, label)
    if names == ["ET"]:  # voxels that nesting does not affect keep the new label
        outside = before != 4
        np.testing.assert_array_equal((found > 0)[outside], (label > 0)[outside])
        np.testing.assert_array_equal(np.isin(found, (1, 4))[outside], np.isin(label, (1, 4))[outside])


def test_robot_stroke_stays_inside_the_error():
    truth = np.zeros((40, 40, 12), np.uint8)
    truth[5:35, 18:23, 6] = 4
    robot = RobotAnnotator(seed=1)
    kind, corners = robot.stroke(np.zeros_like(truth), truth)
    line = rasterise(corners)
    assert kind == "ET" and (truth[tuple(line.T)] == 4).all() and len(line) > 20
    assert robot.stroke(truth, truth) is None


@pytest.mark.slow
def test_five_strokes_beat_five_clicks():
    """Compare the mean Dice of three phantoms after five corrections by the simulated annotator."""
    segmenter, dice = Segmenter(device="cpu"), {"clicks": [], "strokes": []}
    for seed in (11, 12, 13):
        patient = draw_phantom((seed, 0))
        truth = patient.label
        key = segmenter.set_case(**{s: (patient.image[i], patient.affine) for i, s in enumerate(SEQUENCES)})
        for way in dice:
            robot, given, label = RobotAnnotator(seed=seed), [], segmenter.segment(case=key).label
            lines = []
            for _ in range(5):
                made = robot.stroke(label, truth) if way == "strokes" else robot.click(label, truth)
                if made is None:
                    break
                kind, corners = made if way == "strokes" else (made.kind, [made.voxel])
                lines.append((kind, rasterise(corners)))
                given += [(kind, voxel) for voxel in stroke_clicks(lines[-1][1], (1, 1, 1)).tolist()]
                label = segmenter.segment(case=key, clicks=given).label.copy()
                for of, line in lines:
                    obey_stroke(label, line, of)
            dice[way].append(region_dice(label, truth)["dice_mean"])
        segmenter.forget(key)
    print(dice)
    assert np.mean(dice["strokes"]) > np.mean(dice["clicks"])
