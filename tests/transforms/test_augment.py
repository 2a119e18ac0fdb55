"""Augmentation keeps left and right consistent, and the background exactly zero."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffined,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
)

from brats_clip.errors import InputError
from brats_clip.reports import Findings, read_findings
from brats_clip.semantics import load_clip
from brats_clip.transforms import (
    Extentd,
    RandBrainMaskd,
    RandFieldOfViewd,
    RandMirrord,
    RandPerSequenced,
    RandThickSlices,
    StoreWholeGridd,
    report_inputs,
)

REPORT = "Ring-enhancing mass in the left frontal lobe."


@pytest.fixture
def image() -> torch.Tensor:
    """A ball of brain, z-scored, with T2 missing."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 3, indexing="ij")
    brain = sum(a**2 for a in axes) < 0.8
    image = torch.randn(4, 32, 32, 32, generator=generator) * brain
    image[2] = 0
    return MetaTensor(image, affine=torch.eye(4))


@pytest.mark.parametrize(
    ("transform", "offset"),
    [
        (RandThickSlices(prob=1), 0.0),
        (RandBiasField(prob=1), 3.0),
        (RandAdjustContrast(prob=1, retain_stats=True), 0.0),
        (RandGaussianNoise(prob=1, std=0.5), 0.0),
        (RandGaussianSmooth(prob=1), 0.0),
        (RandScaleIntensity(0.5, prob=1), 0.0),
    ],
)
def test_each_sequence_is_changed_independently_and_background_stays_0(image, transform, offset):
    before = image.clone()
    change = RandPerSequenced([transform], offset).set_random_state(1)
    after = change({"image": image})["image"]
    assert torch.equal(image, before)
    assert torch.equal(after != 0, before != 0) or not after[before == 0].any()
    assert not torch.allclose(after[0], before[0]) and torch.equal(after[2], before[2])
    assert not torch.allclose(after[0] - before[0], after[1] - before[1], atol=1e-3)


def test_compose_seeds_the_transforms_of_each_sequence(image):
    def changed(seed: int) -> torch.Tensor:
        chain = Compose([RandPerSequenced([RandGaussianNoise(prob=1, std=0.5)])]).set_random_state(seed)
        return chain({"image": image})["image"]

    assert torch.equal(changed(1), changed(1)) and not torch.equal(changed(1), changed(2))


def test_transforms_are_applied_in_order(image):
    change = RandPerSequenced([RandThickSlices((32, 32), prob=1), lambda volume: volume + 5.0]).set_random_state(0)
    after = change({"image": image})["image"]
    assert after[0][image[0] != 0].mean() == pytest.approx(5.0, abs=0.5) and not after[image == 0].any()


def test_thick_slices_spread_values_along_one_axis_only():
    line = torch.zeros(1, 12, 12, 12)
    line[0, 6, 6, 6] = 1
    spread = RandThickSlices((4, 4), prob=1).set_random_state(0)(line)
    assert sorted((spread.sum(dim=[d for d in (1, 2, 3) if d != axis])[0] > 0).sum().item() for axis in (1, 2, 3))[
        :2
    ] == [1, 1]


@pytest.mark.parametrize("thickness", [3, 5, 7])
def test_thick_slices_that_do_not_divide_the_volume_do_not_displace_it(thickness):
    ramp = torch.arange(10.0, 42.0)
    volume = ramp[:, None, None] + ramp[:, None] + ramp
    thick = RandThickSlices((thickness, thickness), prob=1).set_random_state(0)(volume[None])[0]
    inner = (slice(thickness, 32 - 2 * thickness),) * 3
    torch.testing.assert_close(thick[inner], volume[inner])


def test_thicknesses_in_the_wrong_order_are_refused():
    with pytest.raises(InputError, match="thickness"):
        RandThickSlices((5, 2))


def test_changed_brain_mask_only_removes_voxels(image):
    change = RandBrainMaskd(largest=2, prob=1).set_random_state(0)
    for _ in range(8):
        after = change({"image": image})["image"]
        assert torch.equal(after[after != 0], image[after != 0])
        assert 0 < (after[0] != 0).sum() <= (image[0] != 0).sum()
    assert any((change({"image": image})["image"] != image).any() for _ in range(4))


def test_field_of_view_is_shortened_for_one_sequence_only(image):
    change = RandFieldOfViewd(prob=1).set_random_state(0)
    shortened = set()
    for _ in range(30):
        after = change({"image": image})["image"]
        changed = [c for c in range(4) if not torch.equal(after[c], image[c])]
        assert len(changed) <= 1
        shortened.update(changed)
    assert shortened == {0, 1, 3}


@pytest.fixture(scope="module")
def clip():
    return load_clip()


def test_mirroring_swaps_the_sides_of_image_label_report_and_findings(image, clip):
    label = MetaTensor(torch.zeros(1, 32, 32, 32), affine=torch.eye(4))
    label[:, 4:8] = 1
    findings = Findings(side="left", right_fraction=0.1, lobes=("frontal",)).to_dict()
    data = {"image": image, "label": label, "report": REPORT, "findings": findings}
    data |= {**report_inputs(REPORT, clip), "slice_tokens": torch.zeros(12, clip.embed_dim)}
    change = RandMirrord(clip, prob=1)
    once = change(data)
    assert torch.equal(once["image"], image.flip(1)) and torch.equal(once["label"], label.flip(1))
    assert read_findings(once["report"])["side"] == once["findings"]["side"] == "right"
    assert once["findings"]["right_fraction"] == pytest.approx(0.9)
    assert torch.equal(once["report_findings"], report_inputs(once["report"], clip)["report_findings"])
    assert once["slice_tokens"].any() and once["slice_positions"].shape == (12, 2)
    twice = change(once)
    assert torch.equal(twice["image"], image) and twice["report"] == REPORT and twice["findings"]["side"] == "left"


def test_extent_of_a_rotated_and_scaled_volume_keeps_its_centre(image):
    chain = Compose(
        [
            StoreWholeGridd(),
            RandAffined("image", prob=1, rotate_range=(0.3, 0.3, 0.3), scale_range=(0.2, 0.2, 0.2)),
            Extentd(),
        ]
    ).set_random_state(0)
    extent = chain({"image": image})["extent"]
    assert torch.allclose(extent.mean(dim=1), torch.zeros(3), atol=1e-3)
    assert not torch.allclose(extent[:, 1], torch.ones(3), atol=0.02) and (extent[:, 1] - 1).abs().max() < 0.35
