"""Every kind of tumour and every acquisition fault can be drawn and has its defining appearance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brats_clip.errors import InputError
from brats_clip.labels import ED, ET, NCR
from brats_clip.phantoms import TUMOUR_KINDS, acquisition, draw_phantom, lesion
from brats_clip.phantoms.acquisition import Acquisition, acquire, field_of_view, shade
from brats_clip.phantoms.contrast import draw_lesion
from brats_clip.phantoms.fields import Randomness
from brats_clip.phantoms.traits import draw_traits

T1, T1CE, T2, FLAIR = range(4)
PLAIN = {"cyst": 0.0, "blood": 0.0, "shading": 0.0, "bright_base": False, "poor_sequence": None, "short_view": 0.0}


def draw(seed: int, **traits):
    return draw_phantom((77, seed), traits={**PLAIN, **traits})


def zscores(phantom) -> np.ndarray:
    """Return the images z-scored per sequence over its non-zero voxels, NaN elsewhere."""
    image = np.where(phantom.image > 0, phantom.image, np.nan)
    axes = (1, 2, 3)
    return (image - np.nanmean(image, axes, keepdims=True)) / np.nanstd(image, axes, keepdims=True)


def test_cyst_is_dark_on_flair_and_brightest_on_t2_and_labelled_core():
    cystic = draw(1, kind="cystic", cyst=0.8)
    z = zscores(cystic)
    core = cystic.label == NCR
    ed = cystic.label == ED
    fluid = core & (z[FLAIR] < np.nanquantile(z[FLAIR][core], 0.5))
    assert core.sum() > 3000
    assert np.median(z[FLAIR][fluid]) < np.median(z[FLAIR][ed]) - 0.8
    assert np.median(z[T2][fluid]) > np.quantile(z[T2][ed], 0.9)


@pytest.fixture
def ball():
    """Depth in mm below the surface of a ball of radius 16 mm, negative outside."""
    axes = torch.meshgrid(*(torch.arange(48.0) - 23.5,) * 3, indexing="ij")
    return 16 - sum(a**2 for a in axes).sqrt()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_fluid_and_blood_fill_the_requested_share_of_the_core(ball, share):
    solid, nothing = ball > 0, torch.zeros(ball.shape)
    fluid = lesion._cyst(Randomness(1), share, solid, solid & (ball < 2), ball, nothing)
    blood = lesion._patches(Randomness(1), share, solid, ball)
    assert not fluid[ball < 2].any() and not blood[~solid].any()
    assert float((fluid > 0.5).sum() / (ball >= 3).sum()) == pytest.approx(share, abs=0.2)
    assert float((blood > 0.5).sum() / solid.sum()) == pytest.approx(share, abs=0.15)


def test_blood_is_dark_on_t2_and_labelled_core():
    clear, bleeding = (draw(2, kind="solid", blood=share) for share in (0.0, 0.4))
    np.testing.assert_array_equal(clear.label, bleeding.label)
    core = np.isin(clear.label, (NCR, ET))
    before, after = zscores(clear)[T2][core], zscores(bleeding)[T2][core]
    assert 0.1 < (after < before - 1).mean() < 0.6


def test_faint_lesion_is_uniform_and_slightly_brighter_than_brain():
    faint = draw(3, kind="faint")
    lesion = faint.label > 0
    z = zscores(faint)[FLAIR]
    assert 0.3 < np.median(z[lesion]) < 2.4 and z[lesion].std() < 1.0
    assert not (faint.label == ET).any()


def test_small_ring_has_little_enhancement_in_much_oedema():
    for seed in range(2):
        ring = draw(seed, kind="small_ring")
        ml = {value: (ring.label == value).sum() / 1000 for value in (NCR, ED, ET)}
        assert 0.3 < ml[ET] < 4 and ml[NCR] < 4 and ml[ED] > 4 * (ml[ET] + ml[NCR])


def test_large_enhancement_is_weaker_at_its_margin(ball):
    still = torch.zeros(ball.shape)
    for seed in range(5):
        taken_up = lesion._enhancing_share(Randomness(seed), "large_enhancing", ball > 0, ball, still, still)
        assert taken_up[(ball > 0) & (ball < 2)].mean() < 0.8 * taken_up[ball > 9].mean()
        assert not taken_up[ball <= 0].any() and taken_up[ball > 0].min() > 0.1


def test_infiltrating_core_is_darker_on_t1_and_brighter_on_t2_than_oedema_but_no_brighter_on_flair():
    drawn = [draw_lesion(Randomness(seed), "infiltrating") for seed in range(60)]
    step = np.mean([z["core"] - z["oedema"] for z in drawn], axis=0)
    assert step[T1] < -0.3 and step[T2] > 0.5 and step[FLAIR] < 0.1


def test_infiltrating_tumour_is_mostly_core_without_enhancement():
    mass = draw(8, kind="infiltrating")
    assert (mass.label == NCR).sum() > 2 * (mass.label == ET).sum() and (mass.label == NCR).sum() > 2000


def test_bright_base_brightens_flair_without_a_label():
    plain, bright = (draw(9, kind="ring", bright_base=base) for base in (False, True))
    np.testing.assert_array_equal(plain.label, bright.label)
    z = zscores(bright)[FLAIR]
    healthy = bright.brain & (bright.label == 0)
    low = np.zeros_like(healthy)
    low[:, :, : int(np.nonzero(bright.brain.any((0, 1)))[0].min()) + 45] = True
    assert np.nanquantile(z[healthy & low], 0.999) > np.nanquantile(z[healthy & ~low], 0.99)


def test_short_field_of_view_leaves_zeros_inside_the_brain():
    short = draw(10, kind="ring", poor_sequence="t1", short_view=0.25)
    seen = short.image > 0
    lost = short.brain & ~seen[T1]
    assert 0.02 < lost.sum() / short.brain.sum() < 0.35
    for sequence in (T1CE, T2, FLAIR):
        np.testing.assert_array_equal(seen[sequence], short.brain)


@pytest.fixture
def head():
    shape = (40, 44, 48)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    return (1 - sum(a**2 for a in axes)) * 40  # depth in mm, positive inside an ellipsoid


def test_shading_reaches_its_strength_and_rises_towards_the_bottom(head):
    how = Acquisition(1, 2, 0.0, 0.0, shading=0.35, rise=1.0)
    log_gain = torch.log(shade(Randomness(1), head, how))
    inside = head > 4
    assert float(log_gain[inside].abs().max()) == pytest.approx(0.35, abs=0.05)
    levels = [float(log_gain[:, :, k][inside[:, :, k]].mean()) for k in (8, 24, 40)]
    assert levels[0] > levels[1] + 0.1
    assert torch.equal(
        shade(Randomness(1), head, Acquisition(1, 2, 0, 0, shading=0.0, rise=1.0)), torch.ones(head.shape)
    )


def test_poor_sequence_has_thick_slices_blur_or_motion():
    faults = set()
    for seed in range(40):
        how = acquisition.draw_acquisition(Randomness(seed), "t1", 0.1, poor=True)
        assert how.thickness_mm >= 5 or how.blur_mm > 1 or how.motion > 0.1
        faults.add((how.thickness_mm >= 5, how.blur_mm > 1, how.motion > 0.1))
        assert not how.short_view
    assert len(faults) >= 3


def test_thick_slices_remove_detail_only_along_their_axis(head):
    detail = torch.rand(head.shape, generator=torch.Generator().manual_seed(0))
    taken = acquire(Randomness(0), detail, head, Acquisition(6, 0, 0.0, 0.0, shading=0.0, rise=0.0))
    along, across = (taken.diff(dim=axis).std() for axis in (0, 1))
    assert along < 0.6 * across


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_field_of_view_excludes_the_requested_share(head, axis):
    brain = head > 0
    seen = field_of_view(Randomness(0), brain, Acquisition(5, axis, 0, 0, 0.0, 0.0, 0.0, 0.25, axis))
    extent = [int(m.movedim(axis, 0).flatten(1).any(dim=1).sum()) for m in (brain & seen, brain)]
    assert extent[0] == pytest.approx(0.75 * extent[1], abs=1.5)


def test_kinds_are_drawn_with_their_probabilities():
    kinds = [draw_traits(Randomness(seed)).kind for seed in range(600)]
    assert {k: kinds.count(k) / 600 for k in TUMOUR_KINDS} == pytest.approx(TUMOUR_KINDS, abs=0.06)
    assert sum(TUMOUR_KINDS.values()) == pytest.approx(1)


def test_shift_draws_beyond_the_usual_settings():
    usual, shifted = ([draw_traits(Randomness(s, shift)).shading for s in range(300)] for shift in (0.0, 1.0))
    assert max(usual) <= 0.35 < max(shifted)
    spread = [np.std([Randomness(s, shift).varied(0, 1) for s in range(300)]) for shift in (0.0, 1.0)]
    assert spread[1] > 1.4 * spread[0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"traits": {"kind": "giant"}}, "kind"),
        ({"traits": {"colour": 1}}, "traits"),
        ({"traits": {"poor_sequence": "t3"}}, "poor_sequence"),
        ({"shift": -1}, "shift"),
        ({"shift": float("nan")}, "shift"),
    ],
)
def test_invalid_settings_are_refused(monkeypatch, arguments, named):
    monkeypatch.setattr("brats_clip.phantoms.anatomy.CANVAS", (40, 40, 40))
    with pytest.raises(InputError, match=named):
        draw_phantom(1, **arguments)
