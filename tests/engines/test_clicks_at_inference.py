"""Clicks in the inferer: on the whole brain, in windows, and with attention maps."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from brats_clip.clicks import click_targets
from brats_clip.engines import BrainInferer
from tests.networks.conftest import build_trained

SIZE = (96, 48, 48)
# With windows of 64 voxels along x and overlap 0.5: in both windows, in the first only, in a corner of the last.
VOXELS = [(40, 20, 22), (5, 30, 8), (95, 47, 47)]


@pytest.fixture(scope="module")
def network():
    return build_trained(bridge=False)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def run(network, image, *clicks: tuple, **options) -> torch.Tensor:
    where = torch.tensor([[list(map(float, voxel)) for voxel, _ in clicks]]).reshape(1, -1, 3)
    prompts = {"clicks": where, "click_targets": click_targets([kind for _, kind in clicks])[None]}
    return BrainInferer(cpu_bf16=False, **options)(image, network, **prompts)


def near(voxel: tuple, radius: float) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(n) for n in SIZE], indexing="ij"), dim=-1)
    return (grid - torch.tensor(voxel)).float().norm(dim=-1) <= radius


@torch.no_grad()
def test_whole_brain_inference_equals_network_refine(network, image):
    found = run(network, image, (VOXELS[0], "ET"))
    decoded = network.decode(network.encode(image))
    where, said = torch.tensor([[VOXELS[0]]]).float(), click_targets(["ET"])[None]
    assert torch.equal(found, network.refine(decoded, where, said).refined)


@pytest.mark.parametrize("voxel", VOXELS, ids=str)
@pytest.mark.parametrize("kind", ["ET", "background"])
def test_click_in_windows_is_obeyed_and_acts_as_in_the_whole_brain(network, image, voxel, kind):
    windows = {"window": (64, 48, 48), "overlap": 0.5}
    plain, clicked = run(network, image, **windows), run(network, image, (voxel, kind), **windows)
    whole_plain, whole_clicked = run(network, image), run(network, image, (voxel, kind))
    assert bool(((clicked[(0, slice(None), *voxel)] > 0) == (kind == "ET")).all())
    change, whole_change = clicked - plain, whole_clicked - whole_plain
    around = near(voxel, 12)
    a, b = change[0, :, around], whole_change[0, :, around]
    assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.9
    # A click in wrong window coordinates would change the other end of the brain.
    far = ~near(voxel, 42)
    assert torch.allclose(clicked[0, :, far], plain[0, :, far], atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"window": (64, 48, 48)}, {"attention": True}])
def test_empty_click_lists_have_no_effect(network, image, options):
    with torch.no_grad():
        assert torch.equal(run(network, image, **options), BrainInferer(cpu_bf16=False, **options)(image, network))


def test_attention_maps_are_returned_with_refined_logits(network, image):
    both = run(network, MetaTensor(image), (VOXELS[0], "ET"), attention=True)
    assert both.shape == (1, 6, *SIZE)
    assert torch.equal(both[:, :3].as_tensor(), run(network, image, (VOXELS[0], "ET")))
    assert torch.equal(both[:, 3:].as_tensor(), run(network, image, attention=True)[:, 3:])


@pytest.mark.parametrize("options", [{}, {"window": (64, 48, 48)}])
def test_each_case_of_a_batch_uses_its_own_clicks(network, image, options):
    batch = torch.cat([image, image.flip(2)])
    where = torch.tensor([[VOXELS[0]], [VOXELS[1]]]).float()
    said = torch.stack([click_targets(["ET"]), click_targets(["background"])])
    with torch.no_grad():
        both = BrainInferer(cpu_bf16=False, **options)(batch, network, clicks=where, click_targets=said)
    for n, kind in enumerate(("ET", "background")):
        alone = run(network, batch[n : n + 1], (VOXELS[n], kind), **options)
        # Clicks of a batch are refined in one box; near the limit of its reach, a click's effect depends on that box.
        assert torch.allclose(both[n : n + 1], alone, atol=0.2)
        assert ((both[n : n + 1] - alone).abs() > 0.01).float().mean() < 0.02
