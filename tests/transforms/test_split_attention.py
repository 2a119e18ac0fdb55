"""Logits and attention maps are passed on as one tensor and split again."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Invertd

from brats_clip.engines import BrainInferer
from brats_clip.transforms import SplitAttentiond


def test_first_three_channels_are_logits_the_rest_attention():
    both = torch.randn(6, 4, 4, 4)
    data = SplitAttentiond()({"pred": both, "case": "p1"})
    assert torch.equal(data["pred"], both[:3]) and torch.equal(data["attention"], both[3:])
    assert data["case"] == "p1"


def test_network_without_attention_has_nothing_to_split():
    pred = torch.randn(3, 4, 4, 4)
    data = SplitAttentiond()({"pred": pred})
    assert data["pred"] is pred and "attention" not in data


class Everywhere(torch.nn.Module):
    """Predict tumour and attention in every voxel."""

    def encode(self, image):
        return [image]

    def decode(self, features, report_tokens=None, report_mask=None):
        image = features[0]
        ones = torch.ones(image.shape[0], 3, *image.shape[2:])
        return type(
            "Decoded",
            (),
            {"logits": 5 * ones, "refined": 5 * ones, "attention": 5 * ones[..., ::2, ::2, ::2], "deep": []},
        )


def test_attention_outside_the_brain_is_zero_on_the_native_grid():
    image = torch.zeros(1, 12, 12, 12)
    image[:, 2:10, 2:10, 2:10] = 1
    crop = Compose([CropForegroundd("image", source_key="image", allow_smaller=True)])
    data = crop({"image": MetaTensor(image)})
    pred = BrainInferer(attention=True)(data["image"][None], Everywhere().eval())[0]
    data = Invertd("pred", crop, orig_keys="image", nearest_interp=False)(
        {**data, "pred": MetaTensor(pred, meta=data["image"].meta)}
    )
    data = SplitAttentiond()(data)
    inside = image.bool().expand(3, -1, -1, -1)
    assert data["attention"].shape == data["pred"].shape == (3, 12, 12, 12)
    assert (data["attention"][inside] > 0.9).all() and (data["attention"][~inside] == 0).all()
