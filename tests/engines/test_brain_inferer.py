"""Inference in one pass or in windows gives the same output, and each window gets its own extent."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from brats_clip.engines import BrainInferer
from brats_clip.errors import InputError
from brats_clip.networks import ReportGuidedUNet

WHOLE = torch.tensor([-1.0, 1.0]).expand(1, 3, 2)


class Pointwise(nn.Module):
    """Each output voxel depends on that input voxel and on the report; calls are recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(4, 3, 1)
        self.calls: list[tuple] = []
        self.autocast = False

    def forward(self, image: Tensor, report_tokens: Tensor | None = None, extent: Tensor | None = None) -> Tensor:
        self.calls.append((tuple(image.shape), extent))
        self.autocast = torch.is_autocast_enabled("cpu")
        assert type(image) is Tensor
        shift = 0 if report_tokens is None else report_tokens.mean(dim=(1, 2)).reshape(-1, 1, 1, 1, 1)
        return self.layer(image) + shift


class Positions(nn.Module):
    """Return the coordinates of each voxel according to the extent."""

    def forward(self, image: Tensor, extent: Tensor | None = None, **tokens) -> Tensor:
        extent = (WHOLE if extent is None else extent).expand(image.shape[0], 3, 2)
        axes = []
        for axis in range(3):
            low, high = extent[:, axis].unbind(1)
            n = image.shape[2 + axis]
            centres = low[:, None] + (high - low)[:, None] * (torch.arange(n) + 0.5) / n
            shape = [image.shape[0], 1, 1, 1]
            shape[1 + axis] = n
            axes.append(centres.reshape(shape).expand(image.shape[0], *image.shape[2:]))
        return torch.stack(axes, dim=1)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 4, 32, 48, 16, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_whole_brain_is_processed_in_one_call(image):
    network = Pointwise().eval()
    out = BrainInferer(cpu_bf16=False)(MetaTensor(image), network)
    assert [shape for shape, _ in network.calls] == [(1, 4, 32, 48, 16)]
    assert torch.equal(out, network.layer(image))


@torch.no_grad()
@pytest.mark.parametrize("window", [(16, 16, 16), (32, 32, 16), (16, 48, 16)])
def test_windows_give_the_same_output_as_the_whole_brain(image, window):
    network = Pointwise().eval()
    out = BrainInferer(window, cpu_bf16=False)(image, network)
    assert out.shape == (1, 3, 32, 48, 16) and torch.allclose(out, network.layer(image), atol=1e-5)
    assert len(network.calls) > 1 and {shape[2:] for shape, _ in network.calls} == {window}


@torch.no_grad()
@pytest.mark.parametrize("window", [(16, 16, 16), (32, 32, 16), (64, 32, 128), (96, 96, 96)])
def test_every_window_gets_its_own_extent(image, window):
    """This includes windows that are larger than the brain."""
    out = BrainInferer(window, overlap=0.5, cpu_bf16=False)(image, Positions().eval())
    assert torch.allclose(out, Positions()(image), atol=1e-4)


@torch.no_grad()
def test_extent_of_the_whole_volume_is_not_passed_to_windows(image):
    out = BrainInferer((16, 16, 16), cpu_bf16=False)(image, Positions().eval(), extent=WHOLE)
    assert torch.allclose(out, Positions()(image), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("window", [None, (16, 16, 16)])
def test_each_case_of_a_batch_uses_its_own_report(image, window):
    batch, tokens = torch.cat([image, -image]), torch.stack([torch.ones(2, 5), 3 * torch.ones(2, 5)])
    network = Pointwise().eval()
    out = BrainInferer(window, cpu_bf16=False)(batch, network, report_tokens=MetaTensor(tokens))
    wanted = network.layer(batch) + torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1, 1)
    assert torch.allclose(out, wanted, atol=1e-5)


@torch.no_grad()
def test_slices_are_encoded_once_from_the_whole_volume(image):
    seen = []

    class Encoder(nn.Module):
        def forward(self, volume):
            seen.append(tuple(volume.shape))
            return torch.ones(1, 6, 8), torch.zeros(1, 6, 2)

    class Network(Positions):
        def __init__(self):
            super().__init__()
            self.slice_encoder = Encoder()

        def forward(self, image, extent=None, slice_tokens=None, slice_positions=None):
            assert slice_tokens.shape == (1, 6, 8) and slice_positions.shape == (1, 6, 2)
            return super().forward(image, extent)

    BrainInferer((16, 16, 16), cpu_bf16=False)(image, Network().eval())
    assert seen == [(1, 4, 32, 48, 16)]
    tokens = {"slice_tokens": torch.ones(1, 6, 8), "slice_positions": torch.zeros(1, 6, 2)}
    BrainInferer((16, 16, 16), cpu_bf16=False)(image, Network().eval(), **tokens)
    assert len(seen) == 1


@pytest.mark.parametrize("window", [None, (16, 16, 16)])
def test_training_returns_the_full_network_output(image, window):
    class Network(nn.Module):
        def forward(self, image, **tokens):
            return image, "more"

    out, more = BrainInferer(window)(image, Network().train())
    assert out is not None and more == "more"


@pytest.mark.parametrize("bf16", [True, False])
def test_cpu_bf16_option_controls_autocast(image, bf16):
    network = Pointwise().eval()
    BrainInferer(cpu_bf16=bf16)(image, network)
    assert network.autocast is bf16 and not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("capable", [True, False])
def test_bf16_default_depends_on_cpu_support(monkeypatch, capable):
    monkeypatch.setattr("brats_clip.engines.brain_inferer.cpu_has_bf16", lambda: capable)
    assert BrainInferer().cpu_bf16 is capable


def tiny(semantic_attention: bool) -> ReportGuidedUNet:
    torch.manual_seed(0)
    return ReportGuidedUNet(
        widths=(4, 8, 8, 8),
        semantic_dim=8,
        region_embeddings=torch.randn(3, 8),
        bottleneck_blocks=1,
        head_width=8,
        bridge=False,
        semantic_attention=semantic_attention,
    ).eval()


@torch.no_grad()
def test_attention_is_appended_as_three_channels_between_0_and_1(image):
    network, report = tiny(True), torch.randn(1, 2, 8)
    both = BrainInferer(attention=True, cpu_bf16=False)(image, network, report_tokens=report, extent=WHOLE)
    assert both.shape == (1, 6, 32, 48, 16)
    assert torch.allclose(both[:, :3], network(image, report_tokens=report), atol=1e-5)
    maps = network.decode(network.encode(image), report).attention.sigmoid()
    assert torch.allclose(both[:, 3:, 1::2, 1::2, 1::2].mean(), maps.mean(), atol=1e-2)
    assert both[:, 3:].min() >= 0 and both[:, 3:].max() <= 1


@torch.no_grad()
def test_network_without_attention_returns_only_logits(image):
    assert BrainInferer(attention=True, cpu_bf16=False)(image, tiny(False)).shape == (1, 3, 32, 48, 16)


def test_attention_with_windows_is_refused():
    with pytest.raises(InputError, match="attention"):
        BrainInferer((16, 16, 16), attention=True)


@torch.no_grad()
def test_tta_averages_the_logits_of_image_and_mirror_image(image):
    network = tiny(True)
    averaged = BrainInferer(tta=True, cpu_bf16=False)(image, network, extent=WHOLE)
    both = (network(image) + network(image.flip(2)).flip(2)) / 2
    assert torch.allclose(averaged, both, atol=1e-5) and not torch.allclose(averaged, network(image), atol=1e-3)
    mirrored = BrainInferer(tta=True, cpu_bf16=False)(image.flip(2), network, extent=WHOLE)
    assert torch.allclose(mirrored.flip(2), averaged, atol=1e-5)


def test_tta_with_windows_is_refused():
    with pytest.raises(InputError, match="tta"):
        BrainInferer((16, 16, 16), tta=True)
