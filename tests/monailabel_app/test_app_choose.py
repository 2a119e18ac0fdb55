"""Orders over scores made by hand, where it is plain which case should come first."""

from __future__ import annotations

import time

import numpy as np
import pytest

from brats_label.active.choose import ORDERS, doubt, foreground, ranks, scoring_order
from brats_label.active.scores import CaseScores


def case(
    name: str, entropy: float = 0.5, ml: float = 20.0, at: tuple = (1.0, 0.0), report: float = 0.0, consistency=None
) -> CaseScores:
    return CaseScores(
        name,
        "v1",
        "files",
        {"WT": ml, "TC": ml / 2, "ET": ml / 4},
        dict.fromkeys(("WT", "TC", "ET"), entropy),
        tuple(np.array(at) / np.linalg.norm(at)) if len(at) else (),
        report,
        consistency,
    )


def order(strategy: str, cases: list[CaseScores], labelled=(), count: int = 99, seed: int = 0) -> list[str]:
    chosen = ORDERS[strategy]({c.case_id: c for c in cases}, list(labelled), np.random.default_rng(seed), count)
    return [choice.case_id for choice in chosen]


@pytest.mark.parametrize("strategy", ORDERS)
def test_every_case_comes_once_and_a_seed_makes_it_come_again(strategy):
    cases = [case(f"c{i}", at=(1, i), entropy=i / 20, ml=i) for i in range(12)]
    first = order(strategy, cases)
    assert sorted(first) == sorted(c.case_id for c in cases)
    assert order(strategy, cases[::-1]) == first  # the order they are handed in plays no part
    assert order(strategy, cases, count=3) == first[:3]
    assert order(strategy, []) == []
    assert order(strategy, cases[:1]) == ["c0"]


def test_random_favours_nobody():
    cases = [case(f"c{i}", entropy=i / 4, ml=10 * i) for i in range(4)]
    first = [order("random", cases, seed=seed)[0] for seed in range(400)]
    assert all(70 < first.count(c.case_id) < 130 for c in cases)


def test_foreground_comes_first_and_more_of_it_sooner():
    cases = [case("none", ml=0.0), case("small", ml=1.0), case("large", ml=60.0)]
    orders = [order("foreground_aware_random", cases, seed=seed) for seed in range(300)]
    assert all(found[-1] == "none" for found in orders)
    ahead = sum(found[0] == "large" for found in orders) / 300
    expected = foreground(cases[2]) / (foreground(cases[2]) + foreground(cases[1]))
    assert ahead == pytest.approx(expected, abs=0.07)
    assert 0 == foreground(cases[0]) < foreground(cases[1]) < foreground(cases[2]) < 1


def test_entropy_puts_the_least_sure_first():
    assert order("region_entropy", [case("a", 0.2), case("b", 0.9), case("c", 0.4)]) == ["b", "c", "a"]


def test_a_report_that_contradicts_the_image_counts_though_the_answer_did_not_change():
    cases = [case("agrees", report=0.1, consistency=1.0), case("changes", report=0.4, consistency=0.9)]
    cases += [case("contradicts", report=0.0, consistency=0.05), case("none")]
    assert order("report_disagreement", cases) == ["contradicts", "changes", "agrees", "none"]


def test_diversity_goes_farthest_from_what_is_labelled_and_from_what_it_chose():
    cases = [
        case("near", at=(1, 0.1)),
        case("far", at=(-1, 0.0)),
        case("as_far", at=(-1, 0.05)),
        case("side", at=(0, 1)),
    ]
    assert order("semantic_diversity", cases, labelled=[(1.0, 0.0)]) == ["far", "side", "near", "as_far"]


def test_diversity_starts_with_a_typical_case_when_nothing_is_labelled():
    cases = [case("middle", at=(1, 0.4)), case("a", at=(1, 0)), case("b", at=(1, -0.4)), case("odd", at=(0, 1))]
    assert order("semantic_diversity", cases)[:2] == ["middle", "odd"]


def test_cases_without_a_descriptor_come_last_and_those_of_another_clip_do_not_matter():
    cases = [case("blind", at=()), case("seen", at=(1, 0)), case("seen_too", at=(0, 1))]
    found = order("semantic_diversity", cases, labelled=[(1.0, 0.0), (0.0, 0.0, 1.0)])
    assert found == ["seen_too", "seen", "blind"]
    assert order("combined", cases, labelled=[(1.0, 0.0)])[0] == "seen_too"


def test_ranks_are_shares_of_the_others():
    assert ranks([3.0, 1.0, 2.0]).tolist() == [1.0, 0.0, 0.5]
    assert ranks([1.0, 1.0, 5.0]).tolist() == [0.25, 0.25, 1.0]
    assert ranks([7.0]).tolist() == [0.5] and ranks([]).tolist() == []


def test_combined_is_the_mean_of_three_ranks():
    cases = [
        case("unsure", entropy=0.9, at=(1, 0), report=0.0),  # ranks 1, 0, 1/3
        case("all_round", entropy=0.8, at=(0, 1), report=0.5),  # ranks 2/3, 2/3, 1
        case("odd", entropy=0.1, at=(-1, -1), report=0.0),  # ranks 0, 1, 1/3
        case("dull", entropy=0.2, at=(1, 0.2), report=0.0),
    ]
    found = ORDERS["combined"]({c.case_id: c for c in cases}, [(1.0, 0.0)], np.random.default_rng(0), 4)
    assert found[0].case_id == "all_round"
    assert found[0].score == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert "doubt 67%" in found[0].reason


def test_combined_prefers_the_case_that_stands_for_many_to_the_odd_one():
    crowd = [case(f"crowd{i}", at=(0.1 * i, 1)) for i in range(4)]
    cases = [*crowd, case("odd", at=(-1, -1))]
    assert order("semantic_diversity", cases, labelled=[(1.0, 0.0)])[0] == "odd"
    assert order("combined", cases, labelled=[(1.0, 0.0)])[0].startswith("crowd")


def test_doubt_and_disagreement_count_by_what_there_is_to_label():
    next_to_nothing, large = case("speck", entropy=0.9, ml=0.2, report=0.9), case("large", entropy=0.5, report=0.5)
    assert order("region_entropy", [next_to_nothing, large])[0] == "speck"
    assert order("combined", [next_to_nothing, large]) == ["large", "speck"]
    assert 0 == doubt(case("none", ml=0.0)) < doubt(next_to_nothing) < doubt(large) < 0.5


def test_a_criterion_that_is_the_same_for_all_moves_nobody():
    cases = [case("a", 0.2), case("b", 0.9), case("c", 0.4)]
    assert order("combined", cases) == ["b", "c", "a"]


def test_a_combined_batch_does_not_hold_twins():
    cases = [case("twin", 0.9, at=(-1, 0)), case("other_twin", 0.89, at=(-1, 0.01)), case("else", 0.7, at=(0, 1))]
    cases += [case(f"dull{i}", 0.1 + i / 100, at=(1, i / 100)) for i in range(5)]
    first, second = order("combined", cases, labelled=[(1.0, 0.0)], count=2)
    assert (first in ("twin", "other_twin"), second) == (True, "else")


def test_scoring_takes_turns_between_wanted_and_new_cases():
    known = {c.case_id: c for c in (case("low", 0.1), case("high", 0.9))}
    found = scoring_order(["low", "new", "high", "newer"], known, np.random.default_rng(0))
    assert found[0] == "high" and found[2] == "low"
    assert sorted(found[1::2]) == ["new", "newer"]


@pytest.mark.parametrize("strategy", ORDERS)
def test_one_of_a_thousand_is_chosen_in_a_fraction_of_a_second(strategy):
    rng = np.random.default_rng(0)
    cases = {
        f"c{i}": case(f"c{i}", entropy=rng.random(), at=tuple(rng.normal(size=512)), report=rng.random())
        for i in range(1000)
    }
    labelled = [c.descriptor for c in list(cases.values())[:200]]
    seconds = []
    for _ in range(5):  # the quickest: the machine may be busy
        started = time.perf_counter()
        ORDERS[strategy](cases, labelled, rng, 1)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.2
