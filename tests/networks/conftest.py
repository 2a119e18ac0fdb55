from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brats_clip.networks import ReportGuidedUNet
from brats_clip.reports import FEATURES, FINDING_SLOTS

E = 8
SWITCHES = (
    "pixel_fusion",
    "attention",
    "deep_supervision",
    "bridge",
    "guidance",
    "semantic_attention",
    "findings",
    "clicks",
)


class FakeSliceEncoder(nn.Module):
    """Stand-in for CLIP: six tokens of length 8 that depend on the image, with positions like ``SliceEncoder``."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4 * 2 * 2 * 2, 6 * E)
        self.norm = nn.BatchNorm1d(6 * E)  # would change its statistics if it were ever put into training mode

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pooled = F.adaptive_avg_pool3d(image.float(), 2).flatten(1)
        tokens = F.normalize(self.norm(self.linear(pooled)).unflatten(1, (6, 8)), dim=2)
        planes = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 2.0], device=image.device)
        centres = torch.tensor([-0.5, 0.5, -0.5, 0.5, -0.5, 0.5], device=image.device)
        return tokens, torch.stack([planes, centres], dim=1).expand(image.shape[0], 6, 2)


def build(**changes) -> ReportGuidedUNet:
    """Return a tiny network in evaluation mode with fixed weights."""
    torch.manual_seed(0)
    arguments = {
        "widths": (4, 8, 8, 8),
        "semantic_dim": E,
        "slice_encoder": FakeSliceEncoder(),
        "region_embeddings": torch.randn(3, E),
        "bottleneck_blocks": 1,
        "head_width": 8,
    }
    return ReportGuidedUNet(**(arguments | changes)).eval()


def randomise_zero_parameters(net: ReportGuidedUNet) -> ReportGuidedUNet:
    """Give random values to the parameters that are initialised to zero, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return net


def build_trained(**changes) -> ReportGuidedUNet:
    return randomise_zero_parameters(build(**changes))


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def report() -> Tensor:
    return F.normalize(torch.randn(1, 3, E, generator=torch.Generator().manual_seed(3)), dim=2)


@pytest.fixture
def findings() -> Tensor:
    """Random findings of a report, all of them known."""
    rows = torch.randn(1, len(FINDING_SLOTS), 1 + FEATURES, generator=torch.Generator().manual_seed(4))
    rows[:, :, 0] = 1
    return rows


@pytest.fixture(name="build")
def _build():
    return build


@pytest.fixture(name="build_trained")
def _build_trained():
    return build_trained


def pytest_generate_tests(metafunc):
    if "switch" in metafunc.fixturenames:
        metafunc.parametrize("switch", SWITCHES)
