"""Guidance by findings: exact without any, bounded, and able to learn that a stated size counts."""

from __future__ import annotations

import pytest
import torch

from brats_clip.networks.finding_guidance import FindingGuidance
from brats_clip.reports import finding_features

EXTENT = torch.tensor([-1.0, 1.0]).expand(1, 3, 2)


@pytest.fixture
def guidance(awake):
    return awake().findings


def inputs(net: FindingGuidance, findings: torch.Tensor) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    channels = net.voxel.in_channels - 2 * net.regions - 3
    logits = torch.randn(1, net.regions, 16, 16, 16, generator=generator)
    return logits, torch.randn(1, channels, 8, 8, 8, generator=generator), findings, EXTENT


def test_without_a_known_finding_the_logits_stay_bit_for_bit(guidance, findings):
    findings[:, :, 0] = 0
    given = inputs(guidance, findings)
    assert torch.equal(guidance(*given), given[0])


def test_what_an_unknown_finding_holds_does_not_matter(guidance, findings):
    findings[:, 3:, 0] = 0
    other = findings.clone()
    other[:, 3:, 1:] = 99.0
    assert torch.equal(guidance(*inputs(guidance, findings)), guidance(*inputs(guidance, other)))


def test_the_shift_is_bounded_whatever_is_stated(guidance, findings):
    given = inputs(guidance, findings * 1e4)
    assert (guidance(*given) - given[0]).abs().max() <= guidance.bound + 1e-4


def test_a_new_network_does_not_listen_yet(build, findings):
    guidance = build().findings
    given = inputs(guidance, findings)
    assert torch.equal(guidance(*given), given[0])


def test_it_learns_that_a_larger_size_means_more_voxels(build, findings):
    """Two reports of one image, whose truth differs in size alone."""
    torch.manual_seed(0)
    guidance = build().findings
    optimizer = torch.optim.Adam(guidance.parameters(), 0.01)
    small, large = findings.clone(), findings.clone()
    small[:, 2, 1], large[:, 2, 1] = -1.0, 1.0
    logits, features, _, extent = inputs(guidance, findings)
    features[:, 0] = torch.linspace(-1, 1, 8)
    truths = {small: features[:, :1] > 0.5, large: features[:, :1] > -0.5}
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.zeros(())
        for stated, truth in truths.items():
            answer = guidance(logits * 0.1, features, stated, extent)
            target = truth.float().repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
            loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(answer, target.expand_as(answer))
        loss.backward()
        optimizer.step()
    voxels = [(guidance(logits * 0.1, features, stated, extent) > 0).sum() for stated in (small, large)]
    assert voxels[1] > 1.5 * voxels[0]


def test_with_its_gate_open_a_region_takes_the_stated_volume(build):
    guidance = build().findings
    with torch.no_grad():
        guidance.gate.bias.view(guidance.regions, -1)[:, guidance.times.index(1.0)] = 1
    distance = (torch.stack(torch.meshgrid(*[torch.linspace(-31, 31, 64)] * 3, indexing="ij")) ** 2).sum(0).sqrt()
    logits = ((16 - distance) / 4).expand(1, guidance.regions, -1, -1, -1)  # a ball of 17 ml, not sure of its border
    channels = guidance.voxel.in_channels - 2 * guidance.regions - 3
    for ml in (8.0, 30.0):
        axis = 20 * (ml / 4.19) ** (1 / 3)  # mm, of the ball of that volume
        text = f"The core measures {axis:.0f} x {axis:.0f} x {axis:.0f} mm."
        features, known = finding_features(text)
        stated = torch.cat([torch.tensor(known)[:, None].float(), torch.tensor(features)], dim=1)[None]
        answer = guidance(logits, torch.zeros(1, channels, 32, 32, 32), stated, EXTENT)
        volume = (answer[0] > 0).sum(dim=(1, 2, 3)) / 1000
        assert volume[1] == pytest.approx(ml, rel=0.25)
        assert torch.equal(answer[0, 0], logits[0, 0])  # nothing was said of the whole tumour
    features, known = finding_features("There is no enhancement.")
    stated = torch.cat([torch.tensor(known)[:, None].float(), torch.tensor(features)], dim=1)[None]
    answer = guidance(logits, torch.zeros(1, channels, 32, 32, 32), stated, EXTENT)
    assert not (answer[0, 2] > 0).any()
