"""Slices of a case with missing sequences are selected and drawn from the remaining ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.data import MetaTensor

from brats_clip.semantics import SliceSelector
from brats_clip.transforms import EncodeSemanticsd

SEQUENCES = ("T1", "T1ce", "T2", "FLAIR")
BALL = (20, 30, 40)
SOME = [c for n in (1, 2, 3) for c in itertools.combinations(range(4), n)]


@pytest.fixture
def case(brain):
    """A brain with an enhancing lesion that is bright on T2 and FLAIR; sequences can be removed."""

    def make(*missing: int) -> torch.Tensor:
        image = brain(ball=BALL, radius=7)
        image[:, 1][image[:, 3] > 1.5] += 2.5
        image[:, list(missing)] = 0
        return image

    return make


def hits(image: torch.Tensor, slices: int = 4) -> int:
    """Return the smallest number of slices of a plane that pass through the lesion."""
    _, positions = SliceSelector(slices)(image)
    lengths = torch.tensor(image.shape[2:])[positions[0, :, 0].long()]
    numbers = ((positions[0, :, 1] + 1) / 2 * lengths).long().view(3, slices)
    return int(((numbers - torch.tensor(BALL).view(3, 1)).abs() <= 7).sum(dim=1).min())


@pytest.mark.parametrize("missing", SOME, ids=lambda c: "no " + ", ".join(SEQUENCES[i] for i in c))
def test_slices_and_positions_stay_finite_and_inside(case, missing):
    slices, positions = SliceSelector(4)(case(*missing))
    assert slices.shape == (1, 12, 3, 96, 96) and slices.isfinite().all()
    assert slices.min() >= 0 and slices.max() <= 1 and positions.abs()[..., 1].max() < 1


@pytest.mark.parametrize("missing", [(0,), (1,), (2,), (3,), (0, 1), (0, 3), (0, 1, 2), (0, 1, 3), (2, 3)])
def test_most_slices_pass_through_the_lesion_if_a_sequence_shows_it(case, missing):
    assert hits(case(*missing)) >= 3


def test_t2_replaces_a_missing_flair(case):
    selector = SliceSelector(4)
    assert torch.equal(selector.suspicion(case(0, 1, 3)), selector.suspicion(swapped(case(0, 1, 3))))


def swapped(image: torch.Tensor) -> torch.Tensor:
    """Return a copy in which T2 also replaces FLAIR."""
    image = image.clone()
    image[:, 3] = image[:, 2]
    return image


def test_t1ce_alone_finds_the_lesion(case):
    """T1ce alone cannot tell enhancement from fat or blood, but it is better than nothing."""
    assert hits(case(0, 2, 3)) >= 3


@pytest.mark.parametrize(("missing", "channel"), [(3, 0), (1, 1), (2, 2)])
def test_only_missing_sequences_are_drawn_flat(case, missing, channel):
    slices, _ = SliceSelector(4)(case(missing))
    flat, other = slices[:, :, channel], slices[:, :, (channel + 1) % 3]
    assert flat.max() <= 1 / 3 + 1e-4 < 0.5 < other.max()  # z-score 0, in a window from -2 to 4
    assert ((flat - 1 / 3).abs() < 1e-4).sum() > 0.8 * (other > 0).sum()


def test_each_case_of_a_batch_uses_its_own_sequences(case):
    whole, part = case(), case(3)
    selector = SliceSelector(4)
    slices, positions = selector(torch.cat([whole, part]))
    for n, image in enumerate((whole, part)):
        alone = selector(image)
        torch.testing.assert_close(slices[n : n + 1], alone[0])
        torch.testing.assert_close(positions[n : n + 1], alone[1])


def test_complete_case_uses_all_sequences(case):
    """The handling of missing sequences must not affect complete cases."""
    selector, image = SliceSelector(4), case()
    brighter = image.clone()
    brighter[:, 2] = torch.where(image[:, 2] != 0, image[:, 2] + 3, 0)  # bright T2 alone is fluid, not oedema
    assert torch.allclose(selector.suspicion(image), selector.suspicion(brighter), atol=1e-6)


def test_scripted_selector_equals_eager(case):
    selector = SliceSelector(4)
    for eager, scripted in zip(selector(case(1, 3)), torch.jit.script(selector)(case(1, 3)), strict=True):
        torch.testing.assert_close(eager, scripted)


def test_tokens_with_missing_sequences_are_finite_and_differ(case, tiny_clip):
    encode = EncodeSemanticsd(tiny_clip, slices_per_plane=2)
    tokens = [encode({"image": MetaTensor(case(*missing)[0])})["slice_tokens"] for missing in ((), (3,), (0, 1, 2))]
    for some in tokens:
        assert some.isfinite().all() and torch.allclose(some.norm(dim=1), torch.ones(6), atol=1e-4)
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-3) and not torch.allclose(tokens[1], tokens[2], atol=1e-3)
