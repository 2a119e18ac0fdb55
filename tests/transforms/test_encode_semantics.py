"""A case's tokens: slices of the whole volume, sentences of its report."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor, list_data_collate

from brats_clip.engines import hash_transforms
from brats_clip.semantics import SliceEncoder, encode_report, load_clip
from brats_clip.transforms import EncodeSemanticsd

REPORT = "A mass in the left frontal lobe. It enhances after contrast. No midline shift."


@pytest.fixture(scope="module")
def clip():
    """The CLIP that ships with the bundle, trained or not."""
    return load_clip()


@pytest.fixture(scope="module")
def image() -> MetaTensor:
    generator = torch.Generator().manual_seed(0)
    brain = F.pad(torch.ones(1, 24, 24, 24), [4] * 6)
    return MetaTensor(torch.randn(4, 32, 32, 32, generator=generator) * brain)


@pytest.fixture(scope="module")
def encoded(clip, image) -> dict:
    return EncodeSemanticsd(clip, slices_per_plane=2)({"image": image, "report": REPORT, "case": "p1"})


def test_slices_are_encoded_as_by_the_slice_encoder(clip, image, encoded):
    tokens, positions = SliceEncoder(clip, 2)(image.as_tensor()[None])
    assert encoded["slice_tokens"].shape == (6, clip.embed_dim) and encoded["slice_positions"].shape == (6, 2)
    assert torch.allclose(encoded["slice_tokens"], tokens[0], atol=1e-5)
    assert torch.equal(encoded["slice_positions"], positions[0])


def test_report_gives_one_unmasked_token_per_sentence(clip, encoded):
    assert encoded["report_mask"].tolist() == [True] * 3 and encoded["report_mask"].dtype == torch.bool
    assert torch.equal(encoded["report_tokens"], encode_report(REPORT, clip))
    assert encoded["report"] == REPORT and encoded["case"] == "p1"


@pytest.mark.parametrize("report", [{"report": ""}, {}])
def test_missing_report_gives_one_masked_token(clip, image, report):
    data = EncodeSemanticsd(clip, slices=False)({"image": image, **report})
    assert data["report_tokens"].shape == (1, clip.embed_dim) and not data["report_tokens"].any()
    assert data["report_mask"].tolist() == [False]


def test_slices_are_not_encoded_if_disabled(clip, image):
    data = EncodeSemanticsd(clip, slices=False)({"image": image, "report": REPORT})
    assert "slice_tokens" not in data and "slice_positions" not in data


def test_results_are_plain_tensors_that_need_no_gradient(encoded):
    for key in ("slice_tokens", "slice_positions", "report_tokens", "report_mask"):
        assert type(encoded[key]) is torch.Tensor and not encoded[key].requires_grad
    assert encoded["slice_tokens"].dtype == encoded["report_tokens"].dtype == torch.float32


def test_cases_of_equal_length_can_be_batched(clip, image):
    encode = EncodeSemanticsd(clip, slices=False)
    batch = list_data_collate([encode({"report": r}) for r in ("One sentence.", "")])
    assert batch["report_tokens"].shape == (2, 1, clip.embed_dim)
    assert batch["report_mask"].tolist() == [[True], [False]]


def test_transform_hash_depends_on_settings_and_clip_weights(clip):
    one, same, other = (hash_transforms([EncodeSemanticsd(clip, slices_per_plane=n)]) for n in (2, 2, 3))
    assert one == same and one != other
    retrained = deepcopy(clip)
    retrained.model.logit_scale.data += 1
    retrained._fingerprint = None  # as for a CLIP that has just been loaded
    assert hash_transforms([EncodeSemanticsd(retrained, slices_per_plane=2)]) != one
