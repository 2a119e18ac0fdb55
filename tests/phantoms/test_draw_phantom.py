"""Synthetic patients are reproducible by seed and have plausible images, labels and reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from brats_clip.labels import ED, ET, label_to_regions
from brats_clip.phantoms import anatomy, draw_phantom
from brats_clip.phantoms.acquisition import Acquisition, acquire
from brats_clip.phantoms.fields import Randomness
from brats_clip.reports import read_findings

T1, T1CE, T2, FLAIR = range(4)


def content(phantom) -> tuple:
    return phantom.image.tobytes(), phantom.label.tobytes(), phantom.brain.tobytes(), phantom.findings, phantom.report


@pytest.fixture
def small_canvas(monkeypatch):
    """Draw only the middle of the brain, which is faster, for tests of equality."""
    monkeypatch.setattr(anatomy, "CANVAS", (72, 80, 72))


def test_equal_seeds_give_equal_patients_whatever_was_drawn_before(small_canvas):
    first = content(draw_phantom((3, 4)))
    np.random.seed(1), torch.manual_seed(1), draw_phantom(11)
    assert content(draw_phantom((3, 4))) == first
    assert content(draw_phantom(np.array([3, 4]))) == first


def test_another_seed_gives_another_patient(small_canvas):
    image, label, *_ = content(draw_phantom((3, 4)))
    for seed in ((3, 5), (4, 3), 3):
        other = content(draw_phantom(seed))
        assert other[0] != image and other[1] != label


def test_drawing_does_not_change_global_random_states(small_canvas):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    draw_phantom(8)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("thickness", [2, 7, 8])
def test_thick_slices_do_not_displace_the_image(axis, thickness):
    """Also if the slices do not divide the grid evenly; only the first and the last slice lack a neighbour."""
    ramp = torch.arange(10.0, 70.0).expand(60, 60, 60).movedim(2, axis)
    how = Acquisition(thickness, axis, blur_mm=0.0, noise=0.0, shading=0.0, rise=0.0)
    taken = acquire(Randomness(1), ramp, torch.ones_like(ramp), how)
    inner = [slice(None)] * 3
    inner[axis] = slice(thickness, 60 - 2 * thickness)
    torch.testing.assert_close(taken[tuple(inner)], ramp[tuple(inner)])


def test_images_labels_and_mask_share_one_grid(patient):
    assert patient.image.shape == (4, *anatomy.CANVAS) and patient.image.dtype == np.float32
    assert patient.label.shape == patient.brain.shape == anatomy.CANVAS
    assert patient.label.dtype == np.uint8 and patient.brain.dtype == bool
    assert np.isfinite(patient.image).all()
    np.testing.assert_array_equal(patient.affine, np.eye(4))


def test_labels_have_brats_values_and_regions_are_nested(patient):
    assert set(np.unique(patient.label)) <= {0, 1, 2, 4}
    wt, tc, et = label_to_regions(torch.from_numpy(patient.label)[None])
    assert (et <= tc).all() and (tc <= wt).all() and 0 < et.sum() < wt.sum()


def test_sequences_share_the_brain_mask_and_the_tumour_is_inside(patient):
    for sequence in patient.image:
        np.testing.assert_array_equal(sequence > 0, patient.brain)
    assert patient.brain[patient.label > 0].mean() > 0.99
    assert patient.brain.sum() > 4 * (patient.label > 0).sum()


def test_brain_is_one_piece_clear_of_the_border(patient):
    parts, _ = ndimage.label(patient.brain)
    sizes = np.bincount(parts.ravel())[1:]
    assert sizes.max() > 0.97 * sizes.sum()
    assert 900e3 < patient.brain.sum() < 2200e3
    for axis in range(3):
        assert patient.brain.take(0, axis).mean() < 0.05


def test_contrast_enhancement_shows_only_on_t1ce(patient):
    et, healthy = patient.label == ET, patient.brain & (patient.label == 0)
    gain = [patient.image[i][et].mean() / patient.image[i][healthy].mean() for i in (T1, T1CE)]
    assert gain[1] > 1.1 * gain[0]
    spread = patient.image[T1CE][healthy].std()
    assert patient.image[T1CE][et].mean() > patient.image[T1CE][healthy].mean() + spread


def test_oedema_is_brighter_than_white_matter_on_flair_and_t2(patient):
    healthy = patient.brain & (patient.label == 0)
    white = healthy & (patient.image[T1] > np.quantile(patient.image[T1][healthy], 0.7))
    for sequence in (FLAIR, T2):
        assert patient.image[sequence][patient.label == ED].mean() > 1.2 * patient.image[sequence][white].mean()


def test_findings_and_report_name_the_side_of_the_label(patients):
    sides = []
    for patient in patients:
        middle = np.nonzero(patient.brain)[0].mean()
        sides.append("right" if np.nonzero(patient.label)[0].mean() > middle else "left")  # first axis: left to right
        assert patient.findings.side == sides[-1]
        assert read_findings(patient.report)["side"] == sides[-1]
    assert sides == ["right", "left"]


def test_volumes_in_findings_match_the_label(patient):
    assert patient.findings.wt_ml == pytest.approx((patient.label > 0).sum() / 1000, rel=0.01)
    assert patient.findings.et_ml == pytest.approx((patient.label == ET).sum() / 1000, rel=0.01)
    assert patient.findings.enhancement != "none" and patient.findings.mass_effect is not None


def test_report_wording_does_not_change_the_images(small_canvas, monkeypatch):
    before = content(draw_phantom(2))
    monkeypatch.setattr("brats_clip.phantoms.patient.REPORT_STREAM", 2)
    after = content(draw_phantom(2))
    assert after[:4] == before[:4] and after[4] != before[4]


@pytest.mark.slow
def test_cohort_has_the_sizes_and_kinds_of_brats():
    cohort = [draw_phantom((0, i)) for i in range(16)]
    wt, et = (np.array([getattr(p.findings, name) for p in cohort]) for name in ("wt_ml", "et_ml"))
    assert 35 < np.median(wt) < 140 and wt.min() > 1 and wt.max() < 330
    assert 1 <= (et == 0).sum() <= 9  # about a quarter never enhances
    assert {p.findings.side for p in cohort} >= {"left", "right"}
    brains = np.array([p.brain.sum() / 1e3 for p in cohort])
    assert brains.min() > 1000 and brains.max() < 2200 and brains.std() > 50
    for phantom in cohort:
        assert phantom.brain[phantom.label > 0].mean() > 0.95
        side = read_findings(phantom.report)["side"]
        assert side in (None, phantom.findings.side), (side, phantom.findings.side, phantom.report)
    assert len({p.report for p in cohort}) == len(cohort)


def test_number_of_threads_does_not_change_a_patient():
    threads = torch.get_num_threads()
    drawn = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            drawn.append(draw_phantom((4, 2)))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(drawn[0].image, drawn[1].image)
