"""Report dropout: seen whole, in part or not at all, in the shares asked for."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose

from brats_clip.errors import InputError
from brats_clip.transforms import RandDropReportd

MASK = torch.tensor([True] * 12 + [False] * 3)


def draw(times: int, seed: int = 0, **probabilities) -> torch.Tensor:
    drop = RandDropReportd(**probabilities)
    drop.set_random_state(seed)
    return torch.stack([drop({"report_mask": MASK})["report_mask"] for _ in range(times)])


def test_shares_are_those_asked_for():
    kept = draw(4000, none=0.4, partial=0.3).sum(dim=1)  # a part of 12 sentences is all or none once in 2000
    assert (kept == 0).float().mean() == pytest.approx(0.4, abs=0.03)
    assert (kept == 12).float().mean() == pytest.approx(0.3, abs=0.03)
    some = kept[(kept > 0) & (kept < 12)]
    assert some.float().mean() == pytest.approx(6, abs=0.3)


def test_padding_never_becomes_a_sentence():
    assert not draw(200, none=0.1, partial=0.8)[:, 12:].any()


def test_the_extremes_are_certain():
    assert torch.equal(draw(50, none=0, partial=0), MASK.expand(50, -1))
    assert not draw(50, none=1, partial=0).any()


def test_equal_seeds_hide_the_same_sentences():
    assert torch.equal(draw(50, seed=7), draw(50, seed=7))
    assert not torch.equal(draw(50, seed=7), draw(50, seed=8))


def test_a_composed_transform_seeds_it():
    def masks(seed: int) -> torch.Tensor:
        chain = Compose([RandDropReportd(0.2, 0.6)]).set_random_state(seed)
        return torch.stack([chain({"report_mask": MASK})["report_mask"] for _ in range(20)])

    assert torch.equal(masks(1), masks(1)) and not torch.equal(masks(1), masks(2))


def test_the_case_it_was_given_keeps_its_mask():
    given = {"report_mask": MASK.clone(), "case": "p1"}
    result = RandDropReportd(none=1, partial=0)(given)
    assert torch.equal(given["report_mask"], MASK)
    assert result["case"] == "p1" and result["report_mask"].dtype == torch.bool


@pytest.mark.parametrize(("none", "partial"), [(-0.1, 0.5), (0.5, -0.1), (0.6, 0.5), (float("nan"), 0.1)])
def test_probabilities_that_are_none_are_rejected(none, partial):
    with pytest.raises(InputError, match="none, partial"):
        RandDropReportd(none, partial)
