from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance
from scipy.ndimage import gaussian_filter

from brats_clip.errors import LabelError
from brats_clip.evaluation import case_metrics, region_volumes_ml
from brats_clip.evaluation.metrics import dice, hd95, sensitivity

SPACING = (1.0, 1.5, 2.0)


def blobs(seed: int, shape=(24, 26, 20)) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return noise > np.quantile(noise, 0.9)


def label_map() -> np.ndarray:
    label = np.zeros((20, 20, 20), np.uint8)
    label[4:14, 4:14, 4:14] = 2
    label[6:12, 6:12, 6:12] = 1
    label[7:11, 7:11, 7:11] = 4
    return label


def test_dice_and_sensitivity_of_a_shifted_cube():
    truth, prediction = np.zeros((2, 10, 10, 10), bool)
    truth[2:6, 2:6, 2:6] = True
    prediction[3:7, 2:6, 2:8] = True  # 4 x 4 x 6 voxels, 3 x 4 x 4 of them true
    assert dice(prediction, truth) == pytest.approx(2 * 48 / (64 + 96))
    assert sensitivity(prediction, truth) == pytest.approx(48 / 64)


def test_hd95_of_two_plates_is_their_distance_in_mm():
    truth, prediction = np.zeros((2, 12, 8, 8), bool)
    truth[2], prediction[7] = True, True
    assert hd95(prediction, truth, (1, 1, 1)) == pytest.approx(5)
    assert hd95(prediction, truth, (0.5, 1, 1)) == pytest.approx(2.5)


def test_hd95_takes_the_worse_direction():
    truth, prediction = np.zeros((2, 30, 4, 4), bool)
    truth[2:4] = True
    prediction[2:4] = True
    prediction[24:26] = True  # far from the truth; distances from the truth to the prediction stay 0
    assert hd95(prediction, truth, (1, 1, 1)) == pytest.approx(22)
    assert hd95(truth, prediction, (1, 1, 1)) == pytest.approx(22)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_random_blobs_agree_with_monai(seed):
    prediction, truth = blobs(seed), blobs(seed + 100)
    row = case_metrics(prediction * np.uint8(4), truth * np.uint8(4), SPACING)
    pair = [torch.from_numpy(m)[None, None].float() for m in (prediction, truth)]
    expected_hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(SPACING))
    assert row["dice_ET"] == pytest.approx(compute_dice(*pair).item())
    assert row["hd95_ET"] == pytest.approx(expected_hd95.item(), rel=1e-5)
    assert row["sensitivity_ET"] == pytest.approx((prediction & truth).sum() / truth.sum())


def test_perfect_prediction_has_the_best_value_in_every_column():
    row = case_metrics(label_map(), label_map(), SPACING)
    for region in ("WT", "TC", "ET"):
        assert row[f"dice_{region}"] == row[f"sensitivity_{region}"] == row[f"lesionwise_dice_{region}"] == 1
        assert row[f"hd95_{region}"] == 0
        assert row[f"lesions_{region}_missed"] == row[f"lesions_{region}_false"] == 0
        assert row[f"volume_ml_{region}"] == row[f"volume_ml_{region}_truth"]
    assert row["dice_mean"] == 1 and row["hd95_mean"] == 0


def test_regions_are_whole_tumour_core_and_enhancing():
    truth = label_map()
    prediction = np.where(truth == 4, 1, truth)  # the enhancing part labelled as necrosis
    row = case_metrics(prediction, truth, SPACING)
    assert row["dice_WT"] == row["dice_TC"] == 1
    assert row["dice_ET"] == 0
    assert row["dice_mean"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (False, False, (1, 0, 1, 1)),
        (True, False, (0, 373.13, 0, 0)),
        (False, True, (0, 373.13, 0, 0)),
    ],
)
def test_empty_regions_follow_the_brats_rule(prediction, truth, expected):
    with_et, without_et = label_map(), np.where(label_map() == 4, 1, label_map())
    row = case_metrics(with_et if prediction else without_et, with_et if truth else without_et, SPACING)
    figures = (row["dice_ET"], row["hd95_ET"], row["sensitivity_ET"], row["lesionwise_dice_ET"])
    assert figures == pytest.approx(expected)


def test_two_empty_maps_have_dice_1():
    empty = np.zeros((8, 8, 8), np.uint8)
    row = case_metrics(empty, empty, SPACING)
    assert row["dice_mean"] == 1 and row["hd95_mean"] == 0 and row["volume_ml_WT"] == 0


def test_volumes_are_in_ml():
    row = case_metrics(np.zeros_like(label_map()), label_map(), SPACING)
    assert row["volume_ml_ET_truth"] == pytest.approx(4**3 * 3 / 1000)
    assert row["volume_ml_TC_truth"] == pytest.approx(6**3 * 3 / 1000)
    assert row["volume_ml_WT_truth"] == pytest.approx(10**3 * 3 / 1000)
    assert row["volume_ml_WT"] == 0
    assert region_volumes_ml(label_map(), SPACING)["TC"] == pytest.approx(6**3 * 3 / 1000)


def test_metrics_do_not_depend_on_the_position_in_the_volume():
    truth, prediction = np.zeros((2, 30, 30, 30), np.uint8)
    truth[:20, :20, :20], prediction[:20, :20, 1:21] = label_map(), label_map()
    moved = [np.roll(m, (9, 5, 7), (0, 1, 2)) for m in (prediction, truth)]
    assert case_metrics(*moved, SPACING) == pytest.approx(case_metrics(prediction, truth, SPACING))


def test_incomparable_maps_are_refused():
    with pytest.raises(LabelError, match="shape"):
        case_metrics(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), SPACING)
    with pytest.raises(LabelError, match=r"prediction.*3"):
        case_metrics(np.full((4, 4, 4), 3), np.zeros((4, 4, 4)), SPACING)
    with pytest.raises(LabelError, match="spacing"):
        case_metrics(np.zeros((4, 4, 4)), np.zeros((4, 4, 4)), (1, 0, 1))
