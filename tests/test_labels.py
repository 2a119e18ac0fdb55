"""Labels and regions: conventions are detected, and conversions are lossless."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from brats_clip.errors import LabelError
from brats_clip.labels import (
    BRATS_2018,
    BRATS_2023,
    CONVENTIONS,
    MSD,
    REGIONS,
    detect_convention,
    from_internal,
    label_to_regions,
    nest,
    regions_to_label,
    to_internal,
)

INTERNAL = np.array([0, 1, 2, 4], np.uint8)
AFFINE = torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0], dtype=torch.float64))


def random_label(*shape: int) -> torch.Tensor:
    values = torch.tensor([0, 1, 2, 4], dtype=torch.uint8)
    return values[torch.randint(4, shape, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    ("values", "hint", "expected"),
    [
        ({0, 1, 2, 4}, None, BRATS_2018),
        ({0, 4}, MSD, BRATS_2018),  # the value 4 decides, whatever the file name
        ({0, 1, 2, 3}, None, BRATS_2023),
        ({0, 1, 2, 3}, MSD, MSD),
        ({0, 3}, BRATS_2018, BRATS_2023),  # BraTS 2018 file name, BraTS 2023 values
        ({0, 1, 2}, None, BRATS_2018),
        ({0, 1, 2}, MSD, MSD),  # no enhancing tumour: the values are ambiguous, so the file name decides
        ({0}, BRATS_2023, BRATS_2023),
    ],
)
def test_convention_is_detected_from_values_and_file_name(values, hint, expected):
    assert detect_convention(values, "seg.nii.gz", hint) == expected


@pytest.mark.parametrize("values", [{0, 1, 5}, {0, -1}, {0, 3, 4}, {0, 255}])
def test_unknown_values_error_names_file_and_values(values):
    with pytest.raises(LabelError, match=r"case7_seg\.nii\.gz") as error:
        detect_convention(values, "case7_seg.nii.gz")
    assert str(sorted(values)) in error.value.found


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf])
def test_fractional_and_non_finite_values_are_an_error(bad):
    with pytest.raises(LabelError, match=r"seg\.nii\.gz.*whole numbers"):
        to_internal(np.array([[[0.0, 1.0, bad]]]), "seg.nii.gz")


def test_msd_swaps_core_and_oedema():
    label, convention = to_internal(np.arange(4).reshape(4, 1, 1), "BRATS_001.nii.gz", MSD)
    assert convention == MSD and label.dtype == np.uint8
    assert label.ravel().tolist() == [0, 2, 1, 4]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_convention_round_trips(convention):
    stored = from_internal(INTERNAL, convention)
    assert sorted(stored.tolist()) == sorted(CONVENTIONS[convention])
    label, found = to_internal(stored, "seg.nii.gz", convention)
    assert found == convention
    np.testing.assert_array_equal(label, INTERNAL)


def test_integral_floats_are_accepted_as_labels():
    label, _ = to_internal(np.array([0.0, 1.0, 2.0, 4.0]), "seg.nii.gz")
    assert label.dtype == np.uint8 and label.tolist() == [0, 1, 2, 4]


def test_regions_are_nested_and_in_documented_order():
    assert list(REGIONS) == ["WT", "TC", "ET"]
    wt, tc, et = label_to_regions(torch.from_numpy(INTERNAL).reshape(1, 4, 1, 1)).flatten(1)
    assert wt.tolist() == [0, 1, 1, 1] and tc.tolist() == [0, 1, 0, 1] and et.tolist() == [0, 0, 0, 1]


def test_label_round_trips_through_regions():
    label = random_label(1, 5, 6, 7)
    regions = label_to_regions(label)
    assert regions.shape == (3, 5, 6, 7) and regions.dtype == torch.float32
    assert torch.equal(regions_to_label(regions), label)


def test_regions_of_a_batch_equal_those_of_its_cases():
    labels = random_label(2, 1, 3, 4, 5)
    batch = label_to_regions(labels)
    assert batch.shape == (2, 3, 3, 4, 5)
    assert torch.equal(batch, torch.stack([label_to_regions(label) for label in labels]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float16])
def test_regions_do_not_depend_on_the_label_dtype(dtype):
    label = random_label(1, 4, 4, 4)
    assert torch.equal(label_to_regions(label.to(dtype)), label_to_regions(label))


def test_regions_of_a_metatensor_keep_its_geometry():
    regions = label_to_regions(MetaTensor(random_label(1, 4, 4, 4), affine=AFFINE))
    assert isinstance(regions, MetaTensor) and torch.equal(regions.affine, AFFINE)


@pytest.mark.parametrize("dim", [0, 1])
def test_nest_takes_the_minimum_over_the_enclosing_regions(dim):
    probabilities = torch.tensor([0.2, 0.9, 0.6]).reshape([3 if a == dim else 1 for a in range(5)])
    assert nest(probabilities, dim).flatten().tolist() == pytest.approx([0.2, 0.2, 0.2])
    probabilities = torch.tensor([0.9, 0.5, 0.7]).reshape(probabilities.shape)
    assert nest(probabilities, dim).flatten().tolist() == pytest.approx([0.9, 0.5, 0.5])


def test_nest_keeps_dtype_and_metadata():
    assert nest(torch.tensor([0, 1, 1], dtype=torch.uint8), 0).tolist() == [0, 0, 0]
    half = nest(MetaTensor(torch.rand(3, 2, 2, 2, dtype=torch.float16), affine=AFFINE), 0)
    assert half.dtype == torch.float16 and torch.equal(half.affine, AFFINE)


def test_regions_to_label_ignores_voxels_outside_the_enclosing_region():
    wt_tc_et = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]]).reshape(3, 4, 1, 1)
    label = regions_to_label(wt_tc_et)
    assert label.shape == (1, 4, 1, 1) and label.dtype == torch.uint8
    assert label.flatten().tolist() == [2, 0, 2, 4]


def test_error_lists_eight_values_and_counts_the_rest():
    with pytest.raises(LabelError) as error:
        to_internal(np.arange(500).reshape(5, 10, 10), "a.nii")
    assert error.value.found == "label values [0, 1, 2, 3, 4, 5, 6, 7] and 492 more"
    with pytest.raises(LabelError, match=r"\[0, 9\];"):
        to_internal(np.array([0, 9]), "a.nii")
