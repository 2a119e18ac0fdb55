"""The network and a training step on a CUDA device."""

from __future__ import annotations

import pytest
import torch

from brats_clip.engines import BrainInferer, FusionLoss
from brats_clip.networks import ReportGuidedUNet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def inputs(device: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    image = torch.randn((2, 4, 32, 32, 32), generator=random)
    extra = {
        "slice_tokens": torch.randn((2, 12, 16), generator=random),
        "slice_positions": torch.zeros(2, 12, 2),
        "report_tokens": torch.randn((2, 3, 16), generator=random),
        "report_mask": torch.tensor([[True, True, False], [False, False, False]]),
    }
    return image.to(device), {k: v.to(device) for k, v in extra.items()}


def network() -> ReportGuidedUNet:
    torch.manual_seed(0)
    return ReportGuidedUNet(widths=(8, 8, 16, 16), semantic_dim=16, region_embeddings=torch.randn(3, 16))


def test_gpu_and_cpu_outputs_agree():
    net = network().eval()
    with torch.no_grad():
        image, extra = inputs("cpu")
        expected = net(image, **extra)
        image, extra = inputs("cuda")
        found = net.cuda()(image, **extra).cpu()
    assert torch.allclose(found, expected, atol=1e-2)


def test_training_under_amp_gives_every_parameter_a_finite_gradient():
    net = network().cuda().train()
    optimizer, scaler = torch.optim.AdamW(net.parameters(), 1e-3), torch.amp.GradScaler("cuda")
    image, extra = inputs("cuda")
    target = (torch.rand(2, 3, 32, 32, 32, device="cuda") > 0.7).float()
    for _ in range(3):  # the scaler may skip its first steps while it looks for a scale
        optimizer.zero_grad()
        with torch.autocast("cuda"):
            loss = FusionLoss()(BrainInferer()(image, net, **extra), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters() if p.requires_grad)
