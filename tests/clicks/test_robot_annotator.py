"""The simulated annotator clicks near the centre of a large error and names the true label."""

from __future__ import annotations

import numpy as np
import pytest

from brats_clip.clicks import KINDS, RobotAnnotator, kind_of_label

LARGE, SECOND = (slice(4, 14),) * 3, (slice(22, 28),) * 3


def truth_with(large: int = 4, second: int = 2) -> np.ndarray:
    truth = np.zeros((32, 32, 32), np.uint8)
    truth[LARGE], truth[SECOND] = large, second
    return truth


def inside(voxel, box) -> bool:
    return all(s.start <= v < s.stop for v, s in zip(voxel, box, strict=True))


def clicks(answer, truth, times: int = 200, **options) -> list:
    robot = RobotAnnotator(**options)
    return [robot.click(answer, truth) for _ in range(times)]


@pytest.mark.parametrize("right", [0, 1, 2, 4])
@pytest.mark.parametrize("wrong", [0, 1, 2, 4])
def test_click_names_the_true_label_of_its_voxel(right, wrong):
    truth = np.full((12, 12, 12), 1 if wrong == 1 else 0, np.uint8)
    answer = truth.copy()
    truth[3:9, 3:9, 3:9], answer[3:9, 3:9, 3:9] = right, wrong
    found = clicks(answer, truth, 20)
    if right == wrong:
        assert found == [None] * 20
        return
    for click in found:
        assert truth[click.voxel] == right != answer[click.voxel]
        assert click.kind == kind_of_label(right) and click.kind in KINDS
        assert all(type(v) is int for v in click.voxel)


def test_click_stays_inside_its_error_for_any_jitter():
    truth = truth_with()
    for click in clicks(np.zeros_like(truth), truth, jitter=20.0):
        assert truth[click.voxel] > 0


def test_most_clicks_go_to_the_worst_error_and_some_to_the_second():
    truth = truth_with()
    found = clicks(np.zeros_like(truth), truth, 400, second=0.25)
    share = np.mean([inside(click.voxel, SECOND) for click in found])
    assert 0.18 < share < 0.32
    assert all(inside(click.voxel, LARGE) != inside(click.voxel, SECOND) for click in found)


@pytest.mark.parametrize(("second", "box"), [(0.0, LARGE), (1.0, SECOND)])
def test_second_of_0_or_1_always_selects_the_same_error(second, box):
    truth = truth_with()
    assert all(inside(c.voxel, box) for c in clicks(np.zeros_like(truth), truth, 50, second=second))


def test_worst_error_is_the_one_that_costs_its_region_most_dice():
    """A large missed slab of oedema competes with the missed half of a small enhancing tumour."""
    truth = np.zeros((32, 32, 32), np.uint8)
    truth[2:30, 2:30, 2:20] = 2
    truth[10:14, 10:14, 10:14] = 4
    answer = truth.copy()
    answer[10:12, 10:14, 10:14] = 2  # 32 of 64 voxels of ET
    answer[2:3, 2:30, 2:20] = 0  # 504 of 14112 voxels of WT
    assert {c.kind for c in clicks(answer, truth, second=0.0)} == {"ET"}
    assert {c.kind for c in clicks(answer, truth, second=1.0)} == {"ED"}


def test_error_in_several_regions_is_one_error():
    """Missed ET is missing from all three regions; the second error lies elsewhere, or there is none."""
    truth = np.zeros((32, 32, 32), np.uint8)
    truth[LARGE] = 4
    assert all(inside(c.voxel, LARGE) for c in clicks(np.zeros_like(truth), truth, 30, second=1.0))


@pytest.mark.parametrize("seed", range(4))
def test_confirming_click_samples_any_label_and_names_it(seed):
    truth = truth_with()
    robot = RobotAnnotator(seed=seed)
    found = [robot.confirm(truth) for _ in range(60)]
    assert all(click.kind == kind_of_label(truth[click.voxel]) for click in found)
    assert {click.kind for click in found} == {"background", "ED", "ET"}


def test_clicks_scatter_around_the_centre_of_the_error():
    truth = truth_with()
    found = np.array([c.voxel for c in clicks(np.zeros_like(truth), truth, second=0.0, jitter=2.0)])
    offsets = found - 8.5
    assert np.abs(offsets.mean(axis=0)).max() < 0.6
    assert 1.0 < offsets.std() < 3.0
    steady = np.array([c.voxel for c in clicks(np.zeros_like(truth), truth, second=0.0, jitter=0.0)])
    assert (steady - 8.5).std() < offsets.std()


def test_answer_without_errors_gives_no_click():
    truth = truth_with()
    assert RobotAnnotator().click(truth.copy(), truth) is None


def test_errors_below_the_smallest_size_are_ignored():
    truth = truth_with()
    answer = truth.copy()
    answer[20, 4, 4:8] = 2
    assert RobotAnnotator(smallest=5).click(answer, truth) is None
    assert RobotAnnotator(smallest=4).click(answer, truth).kind == "background"


def test_second_error_below_the_smallest_size_is_ignored():
    truth = truth_with()
    answer = truth.copy()
    answer[LARGE] = 0
    answer[20, 4, 4:8] = 2
    assert all(inside(c.voxel, LARGE) for c in clicks(answer, truth, 30, second=1.0, smallest=5))


def test_clicks_are_reproducible_by_seed():
    truth = truth_with()
    empty = np.zeros_like(truth)
    assert clicks(empty, truth, 20, seed=3) == clicks(empty, truth, 20, seed=3)
    assert clicks(empty, truth, 20, seed=3) != clicks(empty, truth, 20, seed=4)


def test_click_does_not_modify_its_inputs():
    truth = truth_with()
    answer, before = np.zeros_like(truth), truth.copy()
    RobotAnnotator().click(answer, truth)
    assert np.array_equal(truth, before) and not answer.any()
