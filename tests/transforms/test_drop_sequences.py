"""Sequence dropout: one to three of four are dropped with the given probabilities, for CLIP and network alike."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Compose

from brats_clip.errors import InputError
from brats_clip.semantics import SliceEncoder, load_clip
from brats_clip.transforms import RandDropSequencesd, drop_sequences

AFFINE = torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0], dtype=torch.float64))


class CountingEncoder:
    """Stand-in for CLIP: return the mean of each sequence as the token."""

    def __init__(self, clip, slices_per_plane):
        self.slices_per_plane = slices_per_plane

    def __call__(self, image):
        return image.mean(dim=(2, 3, 4))[:, None], torch.zeros(1, 1, 2)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(drop_sequences, "SliceEncoder", CountingEncoder)


def case(dtype=torch.float32) -> dict:
    return {"image": MetaTensor(torch.ones(4, 4, 4, 4, dtype=dtype), affine=AFFINE), "slice_tokens": "old", "case": "p"}


def dropped(drop, times: int) -> list[tuple]:
    """Return the dropped sequences of each repetition."""
    found = []
    for _ in range(times):
        left = drop({"image": torch.ones(4, 1, 1, 1)})["image"].flatten().tolist()
        assert set(left) <= {0.0, 1.0}
        found.append(tuple(i for i in range(4) if not left[i]))
    return found


def test_number_of_dropped_sequences_follows_the_probabilities(quick):
    drop = RandDropSequencesd(None, probability=0.6, counts=(3, 2, 1)).set_random_state(0)
    counts = [len(found) for found in dropped(drop, 2000)]
    for count, share in enumerate((0.4, 0.3, 0.2, 0.1)):
        assert counts.count(count) / 2000 == pytest.approx(share, abs=0.03)


def test_every_sequence_is_dropped_about_as_often(quick):
    found = dropped(RandDropSequencesd(None, probability=1.0).set_random_state(0), 1000)
    assert len(set(found)) == 4 + 6 + 4
    for sequence in range(4):
        assert sum(sequence in drop for drop in found) / 1000 == pytest.approx(1.75 / 4, abs=0.06)


def test_dropping_does_not_modify_the_input_and_keeps_other_entries(quick):
    given = case()
    result = RandDropSequencesd(None, probability=1.0).set_random_state(3)(given)
    assert given["image"].all() and given["slice_tokens"] == "old"
    assert isinstance(result["image"], MetaTensor) and torch.equal(result["image"].affine, AFFINE)
    assert result["case"] == "p"


def test_slices_are_encoded_again_from_the_remaining_sequences(quick):
    result = RandDropSequencesd(None, probability=1.0).set_random_state(3)(case())
    assert torch.equal(result["slice_tokens"][0], result["image"].as_tensor().mean(dim=(1, 2, 3)))
    assert type(result["slice_tokens"]) is torch.Tensor and result["slice_positions"].shape == (1, 2)


def test_half_precision_image_keeps_its_dtype(quick):
    result = RandDropSequencesd(None, probability=1.0).set_random_state(0)(case(torch.float16))
    assert result["image"].dtype == torch.float16 and result["slice_tokens"].dtype == torch.float32


def test_slices_are_not_encoded_if_nothing_is_dropped(quick):
    result = RandDropSequencesd(None, probability=0.0)(case())
    assert result["slice_tokens"] == "old" and result["image"].all()


def test_dropped_sequences_are_reproducible_by_seed(quick):
    def draw(seed: int) -> list[tuple]:
        return dropped(Compose([RandDropSequencesd(None, probability=0.5)]).set_random_state(seed), 30)

    assert draw(1) == draw(1) and draw(1) != draw(2)


def test_tokens_are_those_of_the_slice_encoder_of_inference():
    clip = load_clip()
    image = torch.randn(4, 32, 32, 32, generator=torch.Generator().manual_seed(0)) * F.pad(
        torch.ones(24, 24, 24), [4] * 6
    )
    drop = RandDropSequencesd(clip, slices_per_plane=2, probability=1.0).set_random_state(0)
    result = drop({"image": MetaTensor(image)})
    tokens, positions = SliceEncoder(clip, 2)(result["image"].as_tensor()[None])
    assert torch.allclose(result["slice_tokens"], tokens[0], atol=1e-5)
    assert torch.equal(result["slice_positions"], positions[0]) and not result["slice_tokens"].requires_grad


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_invalid_probability_is_refused(probability):
    with pytest.raises(InputError, match="probability"):
        RandDropSequencesd(None, probability=probability)


@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1, 1), (0, 0, 0), (-1, 1, 1)])
def test_invalid_counts_are_refused(counts):
    with pytest.raises(InputError, match="one, two and three"):
        RandDropSequencesd(None, counts=counts)
