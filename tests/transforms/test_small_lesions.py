from __future__ import annotations

import torch
from monai.data import MetaTensor

from brats_clip.transforms import LogitsToLabeld


def logits_with_speck(spacing: float) -> MetaTensor:
    logits = torch.full((3, 20, 20, 20), -1.0)
    logits[:, 2:10, 2:10, 2:10] = 1.0  # 512 voxels
    logits[:, 15:17, 15:17, 15:17] = 1.0  # 8 voxels
    return MetaTensor(logits, affine=torch.diag(torch.tensor([spacing, spacing, spacing, 1.0])))


def test_lesion_below_the_limit_is_removed_from_every_region():
    label = LogitsToLabeld(min_lesion_ml=0.05)({"pred": logits_with_speck(1.0)})["pred"]
    assert (label > 0).sum() == 512 and (label[0, 15:17, 15:17, 15:17] == 0).all()


def test_limit_is_a_volume_not_a_number_of_voxels():
    label = LogitsToLabeld(min_lesion_ml=0.05)({"pred": logits_with_speck(2.0)})["pred"]
    assert (label > 0).sum() == 520


def test_every_voxel_is_kept_without_a_limit():
    assert (LogitsToLabeld()({"pred": logits_with_speck(1.0)})["pred"] > 0).sum() == 520
