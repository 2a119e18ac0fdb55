"""Finding guidance: identity without findings, bounded, and a stated size moves the region's volume towards it."""

from __future__ import annotations

import pytest
import torch

from brats_clip.transforms import finding_rows


@pytest.fixture
def guidance(build_trained):
    return build_trained().findings


@pytest.fixture
def opened(build):
    """A guidance module that fully trusts every stated size."""
    guidance = build().findings
    with torch.no_grad():
        guidance.gate[-1].bias.view(guidance.regions, -1)[:, guidance.times.index(1.0)] = 1
    return guidance


def ball(regions: int) -> torch.Tensor:
    """Return the logits of a ball of 17 ml in each region, with an uncertain border."""
    distance = (torch.stack(torch.meshgrid(*[torch.linspace(-31, 31, 64)] * 3, indexing="ij")) ** 2).sum(0).sqrt()
    return ((16 - distance) / 4).expand(1, regions, -1, -1, -1)


def random_logits(regions: int) -> torch.Tensor:
    return torch.randn(1, regions, 16, 16, 16, generator=torch.Generator().manual_seed(0))


def test_logits_are_unchanged_without_known_findings(guidance, findings):
    findings[:, :, 0] = 0
    logits = random_logits(guidance.regions)
    assert torch.equal(guidance(logits, findings), logits)


def test_values_of_unknown_findings_are_ignored(guidance, findings):
    findings[:, 3:, 0] = 0
    other = findings.clone()
    other[:, 3:, 1:] = 99.0
    logits = random_logits(guidance.regions)
    assert torch.equal(guidance(logits, findings), guidance(logits, other))


def test_shift_is_bounded(guidance, findings):
    logits = random_logits(guidance.regions)
    assert (guidance(logits, findings * 1e4) - logits).abs().max() <= guidance.bound + 1e-4


def test_findings_have_no_effect_on_an_untrained_network(build, findings):
    guidance = build().findings
    logits = random_logits(guidance.regions)
    assert torch.equal(guidance(logits, findings), logits)


@pytest.mark.parametrize("ml", [8.0, 30.0])
def test_region_takes_the_stated_volume_if_the_gate_is_open(opened, ml):
    axis = 20 * (ml / 4.19) ** (1 / 3)  # diameter of a ball in mm
    stated = finding_rows(f"The core measures {axis:.0f} x {axis:.0f} x {axis:.0f} mm.")[None]
    logits = ball(opened.regions)
    answer = opened(logits, stated)
    assert (answer[0, 1] > 0).sum() / 1000 == pytest.approx(ml, rel=0.25)
    assert torch.equal(answer[0, 0], logits[0, 0])  # the report does not mention the whole tumour


def test_denied_enhancement_is_removed_if_the_gate_is_open(opened):
    answer = opened(ball(opened.regions), finding_rows("There is no enhancement.")[None])
    assert not (answer[0, 2] > 0).any()
    assert (answer[0, 1] > 0).any()


@pytest.mark.parametrize("mm, changes", [(32, True), (20, False), (50, True), (76, False)])
def test_stated_volume_that_is_implausible_for_the_image_has_no_effect(opened, mm, changes):
    logits = ball(opened.regions)  # 17 ml; a core of 32, 20, 50 or 76 mm has 7, 2, 28 or 100 ml
    answer = opened(logits, finding_rows(f"The core measures {mm} mm.")[None])
    assert torch.equal(answer, logits) != changes


def test_several_reports_of_one_case_equal_separate_calls(opened):
    logits = ball(opened.regions)
    rows = [finding_rows(f"The core measures {mm} mm.") for mm in (30, 48)]
    together = opened.shift(opened.volumes(logits[:, :, ::2, ::2, ::2]), torch.stack(rows))
    for shift, row in zip(together, rows, strict=True):
        alone = opened.shift(opened.volumes(logits[:, :, ::2, ::2, ::2]), row[None])
        assert torch.allclose(shift, alone[0])
    assert together[0, 1] < together[1, 1]
