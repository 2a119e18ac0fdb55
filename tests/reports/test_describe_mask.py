import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from brats_clip.errors import LabelError
from brats_clip.reports import Findings, describe_mask

SHAPE = (140, 176, 140)  # bounding box of a brain at 1 mm, RAS
RAS = np.eye(4)


def ball(centre, radius, shape=SHAPE):
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2


def onion(centre, necrotic, core, whole):
    label = np.zeros(SHAPE, np.uint8)
    for radius, value in ((whole, 2), (core, 4), (necrotic, 1)):
        if radius:
            label[ball(centre, radius)] = value
    return label


@pytest.mark.parametrize(
    ("centre", "side", "lobe"),
    [
        ((40, 145, 85), "left", "frontal"),
        ((100, 145, 85), "right", "frontal"),
        ((100, 45, 115), "right", "parietal"),
        ((22, 80, 48), "left", "temporal"),
        ((92, 14, 68), "right", "occipital"),
        ((45, 40, 28), "left", "cerebellum"),
        ((69.5, 77, 32), "midline", "brainstem"),
    ],
)
def test_side_and_lobe_of_a_ball_are_found(centre, side, lobe):
    found = describe_mask(onion(centre, 0, 8, 11), RAS, brain=np.ones(SHAPE, bool))
    assert (found.side, found.lobes[0], found.core_lobes[0]) == (side, lobe, lobe)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SAL"])
def test_findings_do_not_depend_on_the_storage_order(codes):
    label = onion((40, 145, 85), 8, 12, 18)
    image = nib.Nifti1Image(label, RAS)
    ornt = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(RAS), nib.orientations.axcodes2ornt(tuple(codes))
    )
    turned = image.as_reoriented(ornt)
    assert describe_mask(np.asarray(turned.dataobj), turned.affine) == describe_mask(label, RAS)


def test_origin_of_the_affine_is_ignored():
    label = onion((40, 145, 85), 8, 12, 18)
    moved = RAS.copy()
    moved[:3, 3] = (0, 239, -500)
    assert describe_mask(label, moved) == describe_mask(label, RAS)


def test_volumes_and_lengths_follow_the_voxel_size():
    label = onion((40, 145, 85), 8, 12, 18)
    small, large = describe_mask(label, RAS), describe_mask(label, np.diag([2, 2, 2, 1.0]))
    assert small.ncr_ml == pytest.approx(4 / 3 * np.pi * 8**3 / 1000, rel=0.03)
    assert small.wt_ml == pytest.approx(small.ncr_ml + small.et_ml + small.ed_ml, abs=0.01)
    assert small.tc_ml == pytest.approx(small.ncr_ml + small.et_ml, abs=0.01)
    assert large.wt_ml == pytest.approx(8 * small.wt_ml, rel=0.01)
    assert small.diameter_mm == pytest.approx(37, abs=1.5) and small.core_diameter_mm == pytest.approx(25, abs=1.5)
    assert large.diameter_mm == pytest.approx(2 * small.diameter_mm, rel=0.05)


def test_axes_are_those_of_an_axial_plane_and_the_height():
    label = np.zeros(SHAPE, np.uint8)
    grid = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    turned = ((grid[0] - 45) + (grid[1] - 120)) / np.sqrt(2), ((grid[0] - 45) - (grid[1] - 120)) / np.sqrt(2)
    radius = (turned[0] / 20) ** 2 + (turned[1] / 12) ** 2 + ((grid[2] - 80) / 16) ** 2
    label[radius < 1] = 2
    label[radius < 0.25] = 1
    label[120:124, 30:34, 30:34] = 4  # a second, small lesion is ignored
    found = describe_mask(label, RAS)
    assert found.whole_axes_mm == pytest.approx((40, 24, 32), abs=1.5)
    assert found.core_axes_mm == pytest.approx((20, 12, 16), abs=1.5)
    assert describe_mask(label, np.diag([1, 1, 3.0, 1])).whole_axes_mm == pytest.approx((40, 24, 96), abs=3.5)
    assert describe_mask(onion((40, 145, 85), 8, 12, 18), RAS).enhancement_axes_mm == pytest.approx((25,) * 3, abs=1.5)
    assert describe_mask(onion((40, 145, 85), 0, 0, 18), RAS).core_axes_mm == ()


def test_flat_lesion_has_a_diameter():
    label = np.zeros(SHAPE, np.uint8)
    label[20:60, 100:130, 70] = 2
    assert describe_mask(label, RAS).diameter_mm == pytest.approx(np.hypot(39, 29) + 1, abs=0.5)


@pytest.mark.parametrize(
    ("necrotic", "core", "pattern", "necrosis"),
    [(12, 14, "thin rim", True), (12, 19, "thick rim", True), (0, 12, "solid", False), (0, 5, "nodular", False)],
)
def test_enhancement_pattern_of_shells_and_balls(necrotic, core, pattern, necrosis):
    found = describe_mask(onion((40, 130, 85), necrotic, core, 25), RAS)
    assert (found.enhancement, found.necrosis) == (pattern, necrosis)


def test_scattered_specks_are_patchy_and_a_lump_in_a_core_is_nodular():
    core = onion((40, 130, 85), 16, 0, 25)
    specks = core.copy()
    specks[(core == 1) & (np.random.default_rng(0).random(SHAPE) < 0.01)] = 4
    assert describe_mask(specks, RAS).enhancement == "patchy"
    core[ball((40, 130, 85), 6)] = 4
    found = describe_mask(core, RAS)
    assert found.enhancement == "nodular" and not found.necrosis and found.plain_core_ml > 10


def test_core_without_enhancement_is_not_called_necrosis():
    found = describe_mask(onion((40, 130, 85), 14, 0, 20), RAS)
    assert (found.enhancement, found.necrosis, found.necrosis_fraction) == ("none", False, 0.0)


def test_oedema_is_graded_by_volume_and_related_to_the_core():
    grades = [describe_mask(onion((45, 120, 85), 0, 10, radius), RAS) for radius in (10, 14, 20, 30)]
    assert [found.oedema for found in grades] == ["none", "mild", "moderate", "marked"]
    assert grades[2].oedema_ratio == pytest.approx(7, rel=0.05)
    no_core = describe_mask(onion((45, 120, 85), 0, 0, 14), RAS)
    assert no_core.oedema_ratio is None and no_core.core_lobes == no_core.lobes


def test_separate_lesions_are_counted_and_specks_are_not():
    label = onion((40, 145, 85), 0, 6, 10)
    label[ball((100, 60, 100), 8)] = 2
    label[5, 5, 5] = 2
    found = describe_mask(label, RAS)
    assert (found.foci, found.side) == (2, "bilateral")
    assert 0.2 < found.right_fraction < 0.8


def test_lesion_that_extends_over_the_midline_keeps_its_side():
    assert describe_mask(onion((55, 140, 85), 0, 8, 20), RAS).side == "left"


def test_midline_is_taken_from_the_brain_mask():
    label, brain = np.zeros((160, 176, 140), np.uint8), np.zeros((160, 176, 140), bool)
    brain[60:160] = True
    label[ball((90, 130, 85), 8, label.shape)] = 2
    assert describe_mask(label, RAS).side == "right"
    assert describe_mask(label, RAS, brain=brain).side == "left"


def test_empty_map_has_no_side_and_mass_effect_is_kept():
    assert describe_mask(np.zeros(SHAPE), RAS) == Findings()
    assert describe_mask(np.zeros(SHAPE), RAS, mass_effect="none").mass_effect == "none"
    assert describe_mask(onion((40, 145, 85), 0, 6, 10), RAS, mass_effect="mild").mass_effect == "mild"
    assert describe_mask(onion((40, 145, 85), 0, 6, 10), RAS).mass_effect is None


def test_invalid_maps_are_refused():
    with pytest.raises(LabelError, match=r"3\.0"):
        describe_mask(onion((40, 145, 85), 0, 6, 10) // 4 * 3, RAS)
    with pytest.raises(LabelError, match="shape"):
        describe_mask(np.zeros((1, *SHAPE)), RAS)
    with pytest.raises(LabelError, match="brain"):
        describe_mask(np.zeros(SHAPE), RAS, brain=np.ones((3, 3, 3), bool))


def test_volume_of_brats_size_takes_under_3_seconds():
    label = np.zeros((240, 240, 155), np.uint8)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(120, 140, 110)), 3)
    label[60:180, 50:190, 20:130] = np.select([noise > 0.06, noise > 0.03, noise > 0], [1, 4, 2], 0)
    started = time.process_time()
    describe_mask(label, np.diag([-1, -1, 1, 1.0]), brain=np.ones(label.shape, bool))
    assert time.process_time() - started < 3  # under 1.5 s on an idle core


@pytest.mark.real
@pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR does not point to real cases")
@pytest.mark.parametrize(
    ("case", "side", "lobe", "enhancement", "necrosis"),
    [  # as judged by eye
        ("BraTS2021_00006", "left", "frontal", "thick rim", True),
        ("BraTS2021_01477", "right", "temporal", "none", False),
        ("BraTS2021_01478", "left", "temporal", "nodular", False),
        ("BraTS2021_01481", "right", "parietal", "thick rim", True),
    ],
)
def test_real_cases_match_the_visual_findings(case, side, lobe, enhancement, necrosis):
    folder = Path(os.environ["BRATS_DIR"]) / case
    if not folder.is_dir():
        pytest.skip(f"BRATS_DIR has no {case}")
    image = nib.load(folder / f"{case}_seg.nii.gz")
    flair = np.asarray(nib.load(folder / f"{case}_flair.nii.gz").dataobj)
    found = describe_mask(np.asarray(image.dataobj), image.affine, brain=flair != 0)
    assert (found.side, found.core_lobes[0]) == (side, lobe)
    assert (found.enhancement, found.necrosis) == (enhancement, necrosis)
