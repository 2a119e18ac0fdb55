from __future__ import annotations

import pytest
import torch

from brats_clip.engines import mixed_sampler
from brats_clip.errors import InputError

CASES = [{"case": f"r{i}"} for i in range(4)] + [{"case": f"p{i}", "synthetic": True} for i in range(96)]


def test_synthetic_share_does_not_depend_on_the_number_of_cases():
    sampler = mixed_sampler(CASES, 0.25)
    torch.manual_seed(0)
    drawn = [i for _ in range(300) for i in sampler]
    assert len(sampler) == 5  # four real cases on average
    assert sum(i >= 4 for i in drawn) / len(drawn) == pytest.approx(0.25, abs=0.04)
    counts = [drawn.count(i) / len(drawn) for i in range(4)]
    assert counts == pytest.approx([0.75 / 4] * 4, abs=0.04)


def test_equal_seeds_draw_equal_epochs():
    sampler, epochs = mixed_sampler(CASES, 0.5), []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        epochs.append(list(sampler))
    assert epochs[0] == epochs[2] != epochs[1]


def test_real_case_is_drawn_in_proportion_to_its_weight():
    for cases, share in ((CASES[:4], 0.0), (CASES, 0.25)):
        sampler = mixed_sampler([{**cases[0], "weight": 3.0}, *cases[1:]], 0.25)
        torch.manual_seed(0)
        drawn = [i for _ in range(400) for i in sampler]
        counts = [drawn.count(i) / len(drawn) for i in range(4)]
        assert counts == pytest.approx([(1 - share) * n / 6 for n in (3, 1, 1, 1)], abs=0.04)
    assert mixed_sampler([{**case, "weight": 2.0} for case in CASES[:4]], 0.5) is None


def test_cases_of_one_kind_need_no_sampler():
    assert mixed_sampler(CASES[:4], 0.5) is None and mixed_sampler(CASES[4:], 0.5) is None


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_share_out_of_range_is_an_error(share):
    with pytest.raises(InputError, match="from 0 to below 1"):
        mixed_sampler(CASES, share)
