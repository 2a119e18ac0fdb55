from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from brats_clip.engines import collate_cases


def case(name: str, sentences: int) -> dict:
    return {
        "case": name,
        "image": torch.zeros(4, 2, 2, 2),
        "report_tokens": torch.ones(sentences, 3),
        "report_mask": torch.ones(sentences, dtype=torch.bool),
    }


def test_reports_are_padded_to_the_longest_and_masked_beyond_their_end():
    batch = collate_cases([[case("a", 2)], [case("b", 5)]])
    assert batch["report_tokens"].shape == (2, 5, 3) and batch["image"].shape == (2, 4, 2, 2, 2)
    assert batch["report_mask"].sum(dim=1).tolist() == [2, 5]
    assert batch["report_tokens"][0, 2:].abs().sum() == 0


def test_several_crops_of_a_case_and_single_cases_become_one_batch():
    batch = collate_cases([[case("a", 1), case("a", 1)], case("b", 2)])
    assert batch["case"] == ["a", "a", "b"] and batch["report_mask"].shape == (3, 2)


def test_collate_does_not_modify_its_items():
    short = case("a", 1)
    collate_cases([[short], [case("b", 4)]])
    assert len(short["report_mask"]) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_cached_and_new_cases_collate_into_one_batch(order):
    cached = {k: MetaTensor(v) if isinstance(v, torch.Tensor) else v for k, v in case("a", 2).items()}
    fresh = case("b", 2) | {"image": MetaTensor(torch.zeros(4, 2, 2, 2))}
    batch = collate_cases([[cached, fresh][i] for i in order])
    assert isinstance(batch["image"], MetaTensor) and not isinstance(batch["report_tokens"], MetaTensor)
