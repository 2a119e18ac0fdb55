"""The report in training is whole, partial, missing, generic or wrong, with the given probabilities."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose

from brats_clip.errors import InputError
from brats_clip.reports import Findings, read_findings, split_sentences, swap_side
from brats_clip.transforms import RandVaryReportd, finding_rows, vary_report

REPORT = "Ring-enhancing mass in the left frontal lobe. The core enhances after contrast. No midline shift."
OTHER = "Lesion in the right cerebellar hemisphere. No enhancement after contrast."


class Clip:
    """Encodes each sentence as its letters, so that a test can read what was encoded."""

    embed_dim = 200

    def fits(self, text: str) -> bool:
        return True

    def encode_texts(self, texts) -> torch.Tensor:
        rows = [[ord(c) for c in text[:200]] + [0] * (200 - len(text)) for text in texts]
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, 200)


def case(report: str = REPORT) -> dict:
    tokens = Clip().encode_texts(split_sentences(report))
    return {"report": report, "report_tokens": tokens, "report_mask": torch.ones(len(tokens), dtype=torch.bool)}


def read(data: dict) -> str:
    """Return the sentences that the network would receive."""
    kept = data["report_tokens"][data["report_mask"]]
    return " ".join("".join(chr(int(c)) for c in row if c) for row in kept)


def vary(times: int, data: dict | None = None, seed: int = 0, **shares) -> list[str]:
    pool = shares.pop("pool", (OTHER,))
    change = RandVaryReportd(
        Clip(), **(dict.fromkeys(("none", "partial", "generic", "wrong"), 0.0) | shares), pool=pool
    )
    change.set_random_state(seed)
    return [read(change(data or case())) for _ in range(times)]


def kept(times: int, seed: int = 0, **shares) -> torch.Tensor:
    """Return how many of the twelve sentences of a report are shown."""
    twelve = " ".join(f"Finding number {i} is described here." for i in range(12))
    return torch.tensor([text.count("Finding") for text in vary(times, case(twelve), seed, **shares)]).float()


def test_whole_partial_and_no_reports_have_their_probabilities():
    shown = kept(4000, none=0.4, partial=0.3)  # all or none of 12 sentences are kept once in 2000
    assert (shown == 0).float().mean() == pytest.approx(0.4, abs=0.03)
    assert (shown == 12).float().mean() == pytest.approx(0.3, abs=0.03)
    some = shown[(shown > 0) & (shown < 12)]
    assert some.float().mean() == pytest.approx(6, abs=0.3)


def test_generic_and_wrong_reports_have_their_probabilities():
    shown = vary(300, none=0.1, generic=0.3, wrong=0.4)
    true, nothing = shown.count(REPORT) / 300, shown.count("") / 300
    wrong = {OTHER, swap_side(REPORT)} | set(vary(60, wrong=1.0))
    assert nothing == pytest.approx(0.1, abs=0.06) and true == pytest.approx(0.2, abs=0.08)
    assert sum(text in wrong for text in shown) / 300 == pytest.approx(0.4, abs=0.09)


def test_probabilities_of_0_and_1_are_certain():
    assert (kept(50, none=0, partial=0) == 12).all()
    assert not kept(50, none=1, partial=0).any()
    assert set(vary(20)) == {REPORT}


def test_generic_report_does_not_describe_the_patient():
    shown = vary(20, generic=1.0)
    assert len(set(shown)) > 5
    assert not any("left frontal" in text or "Ring" in text for text in shown) and all(shown)


def test_wrong_reports_are_of_another_patient_or_contradict_the_true_one():
    shown = set(vary(80, wrong=1.0))
    assert OTHER in shown and swap_side(REPORT) in shown and REPORT not in shown
    assert any("occipital" in text for text in shown)
    assert read_findings(REPORT)["enhancement"] == "present"
    assert any(read_findings(text)["enhancement"] == "absent" for text in shown - {OTHER})
    kinds = {"another_patient", "flip_side", "negate_enhancement", "swap_region", "scale_up", "scale_down"}
    assert kinds == set(vary_report.WRONG)


@pytest.mark.parametrize("pool", [(), (REPORT,), (REPORT, REPORT)])
def test_other_kinds_of_wrong_reports_remain_without_another_patient(pool):
    shown = set(vary(60, wrong=1.0, pool=pool))
    assert swap_side(REPORT) in shown and REPORT not in shown and len(shown) >= 3


@pytest.mark.parametrize("shares", [{"generic": 1.0}, {"wrong": 1.0}, {"partial": 1.0}, {"none": 1.0}])
def test_case_without_a_report_stays_without_one(shares):
    empty = {"report": "", "report_tokens": torch.zeros(1, 200), "report_mask": torch.zeros(1, dtype=torch.bool)}
    assert set(vary(20, empty, **shares)) == {""}


def test_tokens_and_mask_have_the_same_length():
    change = RandVaryReportd(Clip(), 0.1, 0.2, 0.3, 0.4, pool=[OTHER]).set_random_state(1)
    for _ in range(100):
        data = change(case())
        assert data["report_tokens"].shape == (len(data["report_mask"]), 200) and len(data["report_mask"])
        assert data["report_mask"].dtype == torch.bool and data["report_tokens"].dtype == torch.float32


FINDINGS = Findings(
    side="left", lobes=("temporal",), wt_ml=40.0, tc_ml=20.0, et_ml=8.0, ncr_ml=12.0, ed_ml=20.0, enhancement="solid"
)


def test_case_without_a_report_gets_one_written_from_its_findings():
    shown = vary(20, case("") | {"findings": FINDINGS.to_dict()})
    assert len(set(shown)) == 20
    assert all(read_findings(text)["side"] in ("left", None) for text in shown)
    assert sum("temporal" in text for text in shown) > 10


def test_newly_written_reports_have_their_probability():
    shown = vary(300, case() | {"findings": FINDINGS.to_dict()}, written=0.4)
    assert shown.count(REPORT) / 300 == pytest.approx(0.6, abs=0.09)


def test_report_findings_match_the_shown_report():
    data = case() | {"findings": FINDINGS.to_dict()}
    change = RandVaryReportd(Clip(), 0.2, 0.2, 0.1, 0.3, 0.5, [OTHER]).set_random_state(3)
    for _ in range(40):
        shown = change(data)
        assert torch.equal(shown["report_findings"], finding_rows(shown["report"]))
        assert bool(shown["report_findings"].any()) or not read_findings(shown["report"])["side"]


def test_shown_reports_are_reproducible_by_seed():
    shares = {"none": 0.2, "partial": 0.2, "generic": 0.2, "wrong": 0.2}
    assert vary(30, seed=7, **shares) == vary(30, seed=7, **shares)
    assert vary(30, seed=7, **shares) != vary(30, seed=8, **shares)


def test_compose_seeds_the_transform():
    def shown(seed: int) -> list[str]:
        chain = Compose([RandVaryReportd(Clip(), 0.2, 0.2, 0.2, 0.2, pool=[OTHER])]).set_random_state(seed)
        return [read(chain(case())) for _ in range(20)]

    assert shown(1) == shown(1) and shown(1) != shown(2)


@pytest.mark.parametrize("share", ["none", "partial", "generic", "wrong"])
def test_input_case_is_not_modified(share):
    given = case() | {"case": "p1"}
    before = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    shares = dict.fromkeys(("none", "partial", "generic", "wrong"), 0.0) | {share: 1.0}
    result = RandVaryReportd(Clip(), **shares, pool=[OTHER]).set_random_state(0)(given)
    assert torch.equal(given["report_tokens"], before["report_tokens"])
    assert torch.equal(given["report_mask"], before["report_mask"]) and given["report"] == REPORT
    assert result["case"] == "p1"


@pytest.mark.parametrize("share", ["none", "partial", "generic", "wrong"])
@pytest.mark.parametrize("value", [-0.1, 0.9, float("nan")])
def test_invalid_probabilities_are_refused(share, value):
    with pytest.raises(InputError, match="none, partial, generic, wrong"):
        RandVaryReportd(None, **({"none": 0.1, "partial": 0.1, "generic": 0.1, "wrong": 0.1} | {share: value}))
