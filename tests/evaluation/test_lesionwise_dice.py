from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from brats_clip.evaluation.lesionwise import dilate_mm, lesionwise

CUBE = np.ones((5, 5, 5), bool)  # 125 mm3 at 1 mm: over the threshold of 50
UNIT = (1.0, 1.0, 1.0)


def volume(*corners: tuple[int, int, int], shape=(60, 30, 30), block=CUBE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for x, y, z in corners:
        mask[x : x + block.shape[0], y : y + block.shape[1], z : z + block.shape[2]] = block
    return mask


def reference_lesionwise_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Compute lesion-wise Dice by the BraTS 2023 rules with scipy, one lesion at a time, on a 1 mm grid."""
    neighbours, all_touch = ndimage.generate_binary_structure(3, 2), np.ones((3, 3, 3))
    components, number = ndimage.label(prediction, all_touch)
    reach, lesions = ndimage.label(ndimage.binary_dilation(truth, neighbours, iterations=3), all_touch)
    touched, scores = set(), []
    for lesion in range(1, lesions + 1):
        mine = truth & (reach == lesion)
        around = ndimage.binary_dilation(mine, neighbours, iterations=3)
        found = set(np.unique(components[around])) - {0}
        touched |= found
        if mine.sum() > 50:
            matched = np.isin(components, list(found))
            scores.append(2 * (matched & mine).sum() / (matched.sum() + mine.sum()))
    scores += [0.0] * (number - len(touched))
    return float(np.mean(scores)) if scores else 1.0


def test_missed_lesion_scores_zero():
    truth = volume((2, 2, 2), (30, 10, 10))
    scores = lesionwise(volume((2, 2, 2)), truth, UNIT)
    assert scores.dice == pytest.approx(0.5)
    assert (scores.truth, scores.missed, scores.false) == (2, 1, 0)


def test_false_positive_lesion_scores_zero():
    scores = lesionwise(volume((2, 2, 2), (30, 10, 10), (50, 20, 20)), volume((2, 2, 2)), UNIT)
    assert scores.dice == pytest.approx(1 / 3)
    assert (scores.truth, scores.missed, scores.false) == (1, 0, 2)


def test_components_near_a_lesion_belong_to_it():
    near = volume((2, 2, 2), (12, 2, 2))  # a gap of 5 mm: the dilations by 3 mm touch
    assert lesionwise(near, near, UNIT).truth == 1
    far = volume((2, 2, 2), (14, 2, 2))  # a gap of 7 mm
    assert lesionwise(far, far, UNIT).truth == 2


def test_small_true_lesions_are_ignored():
    small = volume((40, 20, 20), block=np.ones((5, 5, 2), bool))  # 50 mm3
    truth = volume((2, 2, 2)) | small
    assert lesionwise(volume((2, 2, 2)), truth, UNIT).dice == 1
    found = lesionwise(volume((2, 2, 2)) | small, truth, UNIT)
    assert (found.dice, found.truth, found.false) == (1, 1, 0)
    assert lesionwise(volume((2, 2, 2)), truth, UNIT, small_lesion_mm3=49).dice == pytest.approx(0.5)


def test_small_lesion_threshold_is_in_mm3_not_voxels():
    truth = volume((2, 2, 2))
    assert lesionwise(truth, truth, (0.5, 0.5, 0.5)).truth == 0
    assert lesionwise(truth, truth, UNIT).truth == 1


@pytest.mark.parametrize("seed", range(6))
def test_lesionwise_dice_agrees_with_a_reference_implementation(seed):
    rng = np.random.default_rng(seed)
    masks = []
    for quantile in (0.93, 0.95):
        noise = ndimage.gaussian_filter(rng.normal(size=(48, 48, 40)), 2)
        masks.append(noise > np.quantile(noise, quantile))
    masks[0] |= masks[1] & (rng.random(masks[1].shape) > 0.3)
    assert lesionwise(*masks, UNIT).dice == pytest.approx(reference_lesionwise_dice(*masks))


def test_lesionwise_dice_of_empty_masks():
    nothing, lesion = volume(), volume((2, 2, 2))
    assert lesionwise(nothing, nothing, UNIT).dice == 1
    assert lesionwise(lesion, nothing, UNIT).dice == 0
    assert lesionwise(nothing, lesion, UNIT).dice == 0


def test_dilation_equals_brats_at_1_mm_and_is_in_mm_on_other_grids():
    mask = volume((10, 10, 10), (30, 12, 14))
    expected = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 2), iterations=3)
    assert np.array_equal(dilate_mm(mask, UNIT), expected)
    point = np.zeros((15, 15, 15), bool)
    point[7, 7, 7] = True
    extent = [np.ptp(axis) // 2 for axis in np.nonzero(dilate_mm(point, (1.0, 1.5, 5.0)))]
    assert extent == [3, 2, 0]
