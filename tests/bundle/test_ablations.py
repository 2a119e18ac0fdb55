"""Each switch of the ablation files controls exactly the part that it names."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from brats_clip.engines import FusionLoss
from brats_clip.reports import FEATURES, FINDING_SLOTS
from brats_clip.semantics import load_clip

# Substrings of the names of the parameters that belong to each part.
PARTS = {
    "pixel_fusion": ("pixel_fusion.",),
    "attention": (".attention.", ".gate.from_", ".gate.weight."),
    "deep_supervision": ("deep.",),
    "bridge": ("bridge.",),
    "guidance": ("memory.", "guidance.", ".guidance.", "modulation."),
    "semantic_attention": ("head.semantic_attention.",),
    "findings": ("findings.",),
    "clicks": ("clicks.",),
}


def belongs(name: str, switch: str) -> bool:
    # Report guidance has its own attention and gate.
    owner = "guidance" if "guidance." in name else None
    if owner is None and name.startswith("bridge."):
        owner = "bridge"
    return switch == owner if owner else any(part in name for part in PARTS[switch])


@pytest.fixture(scope="module")
def clip():
    return load_clip()


@pytest.fixture
def build(build_network, configs, clip, tiny_network):
    def make(*ablations: str, **options):
        overrides = {"clip": clip, **tiny_network}
        for ablation in ablations:
            overrides |= json.loads((configs / "ablations" / f"{ablation}.json").read_text())
        return build_network("train", **overrides, **options)

    return make


@pytest.fixture(scope="module")
def batch(clip):
    draw = torch.Generator().manual_seed(4)
    image = torch.randn(1, 4, 32, 32, 32, generator=draw)
    positions = torch.tensor([[0.0, -0.5], [1.0, 0.0], [2.0, 0.5]])[None]
    tokens = {
        name: F.normalize(torch.randn(1, 3, clip.embed_dim, generator=draw), dim=2)
        for name in ("slice_tokens", "report_tokens")
    }
    target = (torch.rand(1, 3, 32, 32, 32, generator=draw) < 0.2).float()
    clicks = {"clicks": torch.tensor([[[8.0, 8.0, 8.0]]]), "click_targets": torch.tensor([[[1.0, 1.0, -1.0]]])}
    findings = torch.ones(1, len(FINDING_SLOTS), 1 + FEATURES)
    inputs = {"image": image, "slice_positions": positions, "report_findings": findings, **tokens, **clicks}
    return inputs, target


def train_step(network, batch) -> None:
    inputs, target = batch
    if network.clicks is None:
        inputs = {name: value for name, value in inputs.items() if not name.startswith("click")}
    FusionLoss()(network.train()(**inputs), target).backward()


@pytest.mark.parametrize("switch", PARTS)
def test_switching_a_part_off_removes_exactly_its_parameters(build, switch):
    whole = {name for name, _ in build().named_parameters() if not name.startswith("slice_encoder.")}
    rest = {name for name, _ in build(f"no_{switch}").named_parameters() if not name.startswith("slice_encoder.")}
    part = {name for name in whole if belongs(name, switch)}
    assert part and rest == whole - part


@pytest.mark.parametrize("switch", PARTS)
def test_gradients_reach_every_parameter_of_a_part(build, batch, switch):
    network = build()
    train_step(network, batch)
    part = {name: p for name, p in network.named_parameters() if belongs(name, switch)}
    still = [name for name, p in part.items() if p.grad is None or not p.grad.any()]
    # Softmax is invariant to a constant that is added to all of its scores.
    assert [name for name in still if not name.endswith(("key.bias", "relevance.bias"))] == []


@pytest.mark.parametrize("switch", PARTS)
def test_output_depends_on_each_part(build, batch, switch):
    network = build().train()
    before = network(**batch[0])
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if belongs(name, switch):
                parameter.add_(torch.randn_like(parameter))
        after = network(**batch[0])
    if switch == "deep_supervision":
        assert len(before.deep) == 2 and not torch.equal(before.deep[0], after.deep[0])
        assert torch.equal(before.logits, after.logits)
    else:
        # The logits before clicks must not depend on the click parameters.
        assert torch.equal(before.logits, after.logits) == (switch == "clicks")
        assert not torch.allclose(before.refined, after.refined, atol=1e-3)


@pytest.mark.parametrize("ablation", [*(f"no_{switch}" for switch in PARTS), "plain_unet"])
def test_ablated_network_trains_all_of_its_parameters(build, batch, ablation):
    network = build(ablation)
    train_step(network, batch)
    assert [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    assert network.eval()(batch[0]["image"], report_tokens=batch[0]["report_tokens"]).shape == (1, 3, 32, 32, 32)


def test_report_has_no_effect_without_guidance(build, batch):
    network = build("no_guidance").eval()
    image, report = batch[0]["image"], batch[0]["report_tokens"]
    assert torch.equal(network(image, report_tokens=report), network(image))
    assert not torch.equal(build().eval()(image, report_tokens=report), build().eval()(image))


def test_slices_have_no_effect_without_the_bridge(build, batch):
    network = build("no_bridge").eval()
    assert network.slice_encoder is None
    inputs = {name: value for name, value in batch[0].items() if name.startswith("slice")}
    assert torch.equal(network(batch[0]["image"], **inputs), network(batch[0]["image"]))


def test_report_has_no_effect_on_an_untrained_network(build, batch):
    network = build(trained=False).eval()
    image, report = batch[0]["image"], batch[0]["report_tokens"]
    assert torch.equal(network(image, report_tokens=report), network(image))
