"""The extent of a crop within its case."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    RandSpatialCropd,
    SpatialCropd,
    SpatialPadd,
)

from brats_clip.transforms import Extentd, StoreWholeGridd

# Neither axis-aligned nor isotropic: the extent is in voxels only.
AFFINE = torch.tensor(
    [[0.9, 0.1, 0.0, -80.0], [-0.1, 1.9, 0.2, 33.0], [0.0, 0.1, 1.4, 5.0], [0, 0, 0, 1]], dtype=torch.float64
)


def extent_after(*transforms, shape=(40, 20, 32)) -> tuple[torch.Tensor, dict]:
    image = MetaTensor(torch.rand(4, *shape), affine=AFFINE)
    data = Compose([StoreWholeGridd(), *transforms, Extentd()])({"image": image, "case": "p1"})
    assert data["extent"].shape == (3, 2) and data["extent"].dtype == torch.float32
    return data["extent"], data


def test_extent_of_the_whole_volume_is_minus_1_to_1():
    extent, data = extent_after()
    assert torch.allclose(extent, torch.tensor([-1.0, 1.0]).expand(3, 2), atol=1e-5)
    assert "whole" not in data and data["case"] == "p1"


def test_extent_of_a_crop_is_its_part_of_each_axis():
    extent, _ = extent_after(SpatialCropd("image", roi_start=(10, 0, 24), roi_end=(20, 20, 32)))
    wanted = torch.tensor([[-0.5, 0.0], [-1.0, 1.0], [0.5, 1.0]])
    assert torch.allclose(extent, wanted, atol=1e-5)


def test_extent_of_a_central_crop_is_symmetric():
    extent, _ = extent_after(CenterSpatialCropd("image", (20, 10, 16)))
    assert torch.allclose(extent, torch.tensor([-0.5, 0.5]).expand(3, 2), atol=1e-5)


def test_extent_of_padding_is_beyond_the_volume():
    extent, _ = extent_after(SpatialPadd("image", (60, 20, 32)))
    assert torch.allclose(extent[0], torch.tensor([-1.5, 1.5]), atol=1e-5)
    assert torch.allclose(extent[1], torch.tensor([-1.0, 1.0]), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_extent_of_a_random_crop_matches_its_voxels(seed):
    shape = (40, 20, 32)
    steps = torch.meshgrid(*[(torch.arange(n) + 0.5) * 2 / n - 1 for n in shape], indexing="ij")
    image = MetaTensor(torch.stack(steps), affine=AFFINE)
    crop = RandSpatialCropd("image", (16, 8, 16), random_size=False).set_random_state(seed)
    data = Compose([StoreWholeGridd(), crop, Extentd()])({"image": image})
    for axis in range(3):
        centres = data["image"][axis].unique()
        half = 1 / shape[axis]
        low, high = data["extent"][axis].tolist()
        assert low == pytest.approx(float(centres.min()) - half, abs=1e-5)
        assert high == pytest.approx(float(centres.max()) + half, abs=1e-5)


def test_whole_entry_survives_saving_and_loading(tmp_path):
    data = StoreWholeGridd()({"image": MetaTensor(torch.rand(4, 8, 8, 8), affine=AFFINE)})
    torch.save(data["whole"], tmp_path / "whole.pt")
    data["whole"] = torch.load(tmp_path / "whole.pt", weights_only=True)
    data["image"] = data["image"][:, 4:]  # a crop, whose affine is set by hand here
    data["image"].affine = AFFINE @ torch.tensor(
        [[1, 0, 0, 4.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64
    )
    assert torch.allclose(Extentd()(data)["extent"][0], torch.tensor([0.0, 1.0]), atol=1e-6)
