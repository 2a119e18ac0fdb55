"""The loss over all outputs of the network."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor

from brats_clip.engines import FusionLoss


@dataclass
class Outputs:
    """Outputs of the network in training mode."""

    logits: Tensor
    attention: Tensor
    deep: list[Tensor] = field(default_factory=list)
    refined: Tensor | None = None
    unstated: Tensor | None = None

    def __post_init__(self):
        self.refined = self.logits if self.refined is None else self.refined
        self.unstated = self.logits if self.unstated is None else self.unstated


@pytest.fixture
def target() -> Tensor:
    """Regions in blocks of 4 voxels, so that coarser outputs can match exactly."""
    blocks = torch.rand(2, 3, 2, 2, 2, generator=torch.Generator().manual_seed(0)) > 0.5
    return F.interpolate(blocks.float(), scale_factor=4)


def right(target: Tensor, size: int = 8) -> Tensor:
    return 40 * F.adaptive_avg_pool3d(target, size) - 20


def nothing(size: int = 4) -> Tensor:
    return torch.zeros(2, 0, size, size, size)


def test_loss_of_perfect_outputs_is_zero(target):
    perfect = Outputs(right(target), right(target, 4), [right(target, 4), right(target, 2)])
    assert float(FusionLoss()(perfect, target)) == pytest.approx(0, abs=1e-4)
    wrong = Outputs(-perfect.logits, -perfect.attention, [-d for d in perfect.deep])
    assert float(FusionLoss()(wrong, target)) > 10


def test_loss_of_logits_equals_that_of_outputs_without_extras(target):
    logits = torch.randn(2, 3, 8, 8, 8)
    loss = FusionLoss()
    assert torch.equal(loss(logits, target), loss(Outputs(logits, nothing()), target))


def test_each_output_is_weighted(target):
    logits, attention = torch.randn(2, 3, 8, 8, 8), torch.randn(2, 3, 4, 4, 4)
    deep = [torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 2, 2, 2)]
    loss = FusionLoss(deep_weight=0.4, attention_weight=0.7)
    parts = [float(loss(part, target)) for part in (logits, *deep, attention)]
    total = parts[0] + 0.4 * parts[1] + 0.2 * parts[2] + 0.7 * parts[3]
    assert float(loss(Outputs(logits, attention, deep), target)) == pytest.approx(total, rel=1e-5)
    assert float(FusionLoss(0, 0)(Outputs(logits, attention, deep), target)) == pytest.approx(parts[0], rel=1e-6)


def test_every_output_gets_a_gradient(target):
    shapes = {"logits": 8, "attention": 4, "half": 4, "quarter": 2}
    leaves = {k: torch.randn(2, 3, n, n, n, requires_grad=True) for k, n in shapes.items()}
    outputs = Outputs(leaves["logits"], leaves["attention"], [leaves["half"], leaves["quarter"]])
    FusionLoss()(outputs, target).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None and leaf.grad.abs().sum() > 0, name


def test_target_of_a_coarse_output_is_the_average_of_its_voxels():
    target = torch.zeros(1, 3, 4, 4, 4)
    target[..., 0] = 1  # half of each coarse voxel in the first column
    asked = torch.zeros(1, 3, 2, 2, 2)
    asked[..., 0] = 0.5
    loss = FusionLoss()
    logits = torch.randn(1, 3, 2, 2, 2)
    assert torch.allclose(loss(logits, target), loss(logits, asked))


def test_loss_of_an_empty_region_is_finite(target):
    logits = torch.randn(2, 3, 8, 8, 8, requires_grad=True)
    loss = FusionLoss()(logits, torch.zeros_like(target))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    empty = torch.full((2, 3, 8, 8, 8), -20.0)
    assert float(FusionLoss()(empty, torch.zeros_like(target))) == pytest.approx(0, abs=1e-3)


def test_half_precision_logits_and_metatensors_are_accepted(target):
    logits = torch.randn(2, 3, 8, 8, 8).bfloat16()
    loss = FusionLoss()(logits, MetaTensor(target))
    assert type(loss) is Tensor and loss.dtype == torch.float32
    assert torch.equal(loss, FusionLoss()(logits.float(), target))


def test_refined_logits_are_weighted_only_if_there_were_clicks(target):
    logits, refined = torch.randn(2, 3, 8, 8, 8), torch.randn(2, 3, 8, 8, 8)
    alone, after = (float(FusionLoss()(part, target)) for part in (logits, refined))
    loss = FusionLoss(click_weight=0.4)
    assert float(loss(Outputs(logits, nothing(), refined=refined), target)) == pytest.approx(alone + 0.4 * after)
    assert float(loss(Outputs(logits, nothing()), target)) == pytest.approx(alone)


def test_refined_logits_get_their_own_gradient(target):
    logits, refined = (torch.randn(2, 3, 8, 8, 8, requires_grad=True) for _ in range(2))
    FusionLoss()(Outputs(logits, nothing(), refined=refined), target).backward()
    assert logits.grad.any() and refined.grad.any()
