"""Clicks are obeyed at their voxel, change its neighbourhood, and have no effect far away."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from brats_clip.clicks import KINDS, click_targets
from brats_clip.engines import FusionLoss
from brats_clip.errors import InputError
from brats_clip.networks import Decoded
from brats_clip.networks.clicks import REACH_MM
from brats_clip.networks.pixel_shuffle import shuffle, unshuffle

SIZE = (96, 32, 32)
# Clicks are refined in one box around all of them; near the limit of its reach, a click's effect depends slightly on
# that box. Logits change by up to 9 here.
EDGE = 0.2
VOXELS = torch.stack(torch.meshgrid(*[torch.arange(n) for n in SIZE], indexing="ij"), dim=-1).float()


def draw(size=SIZE, seed: int = 2) -> Tensor:
    return torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    from tests.networks.conftest import build_trained

    return build_trained()


@pytest.fixture(scope="module")
def new_net():
    from tests.networks.conftest import build

    return build()


def decode(network, image: Tensor) -> Decoded:
    with torch.no_grad():
        return network.decode(network.encode(image))


@pytest.fixture(scope="module")
def decoded(net) -> Decoded:
    return decode(net, draw())


@torch.no_grad()
def refine(network, decoded: Decoded, *clicks: tuple) -> Tensor:
    """Refine by ``(voxel, kind)``, for a batch of one."""
    where = torch.tensor([[list(map(float, voxel)) for voxel, _ in clicks]]).reshape(1, -1, 3)
    return network.refine(decoded, where, click_targets([kind for _, kind in clicks])[None]).refined


def obeyed(logits: Tensor, voxel: tuple, kind: str) -> bool:
    said = torch.tensor(KINDS[kind])
    here = logits[(0, slice(None), *voxel)]
    return bool((here.sign() == said)[said != 0].all())


def distance(voxel: tuple) -> Tensor:
    return (VOXELS - torch.tensor(voxel).float()).norm(dim=-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("voxel", [(30, 16, 15), (0, 0, 0), (95, 31, 31), (47, 0, 31)])
def test_click_is_obeyed_at_its_voxel_in_every_region_it_names(net, new_net, decoded, kind, voxel):
    assert obeyed(refine(net, decoded, (voxel, kind)), voxel, kind)
    fresh = decode(new_net, draw())
    assert obeyed(refine(new_net, fresh, (voxel, kind)), voxel, kind)


def test_regions_that_a_click_leaves_open_are_not_forced(new_net):
    fresh = decode(new_net, draw())
    out = refine(new_net, fresh, ((30, 16, 15), "WT"))
    assert torch.equal(out[:, 1:], fresh.logits[:, 1:])


def test_untrained_network_changes_only_voxels_next_to_clicks(new_net):
    fresh = decode(new_net, draw())
    out = refine(new_net, fresh, ((30, 16, 15), "ET"), ((60, 8, 8), "background"))
    changed = (out != fresh.logits).any(dim=1)[0]
    near = torch.minimum(distance((30, 16, 15)), distance((60, 8, 8)))
    assert changed[30, 16, 15] and changed.sum() > 1 and near[changed].max() <= 2


def test_click_changes_its_neighbourhood(net, decoded):
    change = (refine(net, decoded, ((30, 16, 15), "ET")) - decoded.logits).abs().amax(dim=(0, 1))
    near = distance((30, 16, 15)) < 10
    assert (change[near] > 0).float().mean() > 0.99


@pytest.mark.parametrize("voxel", [(20, 16, 15), (21, 15, 16), (0, 0, 0), (95, 31, 31)])
def test_click_changes_nothing_beyond_its_reach(net, decoded, voxel):
    out = refine(net, decoded, (voxel, "ET"))
    # The reach is rounded to blocks of 2 mm.
    far = distance(voxel) > REACH_MM + 1
    assert far.any()
    assert torch.equal(out[:, :, far], decoded.logits[:, :, far])
    assert not torch.equal(out[:, :, ~far], decoded.logits[:, :, ~far])


def test_click_does_not_change_the_effect_of_a_distant_click(net):
    size = (176, 32, 32)
    fresh = decode(net, draw(size))
    near, far = ((20, 16, 15), "ET"), ((150, 16, 15), "background")
    alone, both = refine(net, fresh, near), refine(net, fresh, near, far)
    out_of_reach = slice(0, 150 - int(REACH_MM) - 2)
    assert torch.allclose(both[:, :, out_of_reach], alone[:, :, out_of_reach], atol=EDGE)


def test_padding_clicks_have_no_effect(net, decoded):
    where = torch.tensor([[[30.0, 16.0, 15.0], [70.0, 4.0, 4.0], [0.0, 0.0, 0.0]]])
    targets = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    with torch.no_grad():
        padded = net.refine(decoded, where, targets).refined
        assert torch.equal(net.refine(decoded, where, torch.zeros_like(targets)).refined, decoded.logits)
    assert torch.equal(padded, refine(net, decoded, ((30, 16, 15), "ET")))


def test_refine_without_clicks_returns_the_decoded_logits(net, decoded):
    assert torch.equal(refine(net, decoded), decoded.logits)
    assert torch.equal(decoded.refined, decoded.logits)


def test_batch_equals_its_samples(net):
    images = [draw(seed=2), draw(seed=3)]
    where = torch.tensor([[[20.0, 16.0, 15.0], [24.0, 8.0, 8.0]], [[80.0, 5.0, 20.0], [0.0, 0.0, 0.0]]])
    targets = torch.stack([click_targets(["ET", "ED"]), torch.cat([click_targets(["NCR"]), torch.zeros(1, 3)])])
    together = decode(net, torch.cat(images))
    with torch.no_grad():
        both = net.refine(together, where, targets).refined
        for i, image in enumerate(images):
            alone = net.refine(decode(net, image), where[i : i + 1], targets[i : i + 1]).refined
            assert torch.allclose(both[i : i + 1], alone, atol=EDGE)


@pytest.mark.parametrize("kinds", [("ET", "background"), ("background", "ET"), ("ED", "NCR"), ("NCR", "ED")])
def test_last_click_on_a_voxel_wins(net, decoded, kinds):
    voxel = (30, 16, 15)
    out = refine(net, decoded, *((voxel, kind) for kind in kinds))
    assert obeyed(out, voxel, kinds[-1]) and not obeyed(out, voxel, kinds[0])


@pytest.mark.parametrize("step", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])
@pytest.mark.parametrize("kinds", [("ET", "background"), ("background", "ET")])
def test_opposite_clicks_on_neighbouring_voxels_are_both_obeyed(net, decoded, step, kinds):
    voxel = (30, 16, 15)
    other = tuple(v + s for v, s in zip(voxel, step, strict=True))
    out = refine(net, decoded, (voxel, kinds[0]), (other, kinds[1]))
    assert obeyed(out, voxel, kinds[0]) and obeyed(out, other, kinds[1])


def test_click_changes_more_than_a_single_voxel(new_net):
    out = refine(new_net, decode(new_net, draw()), ((30, 16, 15), "ET"))
    assert ((out > 0).all(dim=1)).sum() >= 7


def test_1000_clicks_are_obeyed_within_20_seconds(net, decoded):
    order = torch.randperm(SIZE[0] * SIZE[1] * SIZE[2], generator=torch.Generator().manual_seed(0))[:1000]
    voxels = [(int(i) // 1024, int(i) // 32 % 32, int(i) % 32) for i in order]
    clicks = [(voxel, list(KINDS)[i % len(KINDS)]) for i, voxel in enumerate(voxels)]
    started = time.process_time()
    out = refine(net, decoded, *clicks)
    assert time.process_time() - started < 20
    assert all(obeyed(out, voxel, kind) for voxel, kind in clicks)


@pytest.mark.parametrize("voxel", [(-60, 16, 15), (200, 16, 15), (30, -80, 15), (30, 16, 1e6)])
def test_clicks_far_outside_the_volume_have_no_effect(net, decoded, voxel):
    assert torch.equal(refine(net, decoded, (voxel, "ET")), decoded.logits)
    beside = refine(net, decoded, ((30, 16, 15), "ET"), (voxel, "background"))
    assert torch.allclose(beside, refine(net, decoded, ((30, 16, 15), "ET")), atol=EDGE)


@pytest.mark.parametrize("voxel", [(-1, 16, 15), (96, 31, 31), (-8, -8, -8)])
def test_click_just_outside_the_volume_forces_no_voxel(new_net, net, decoded, voxel):
    fresh = decode(new_net, draw())
    out = refine(new_net, fresh, (voxel, "ET"))
    changed = (out != fresh.logits).any(dim=1)[0]
    assert not changed.any() or distance(voxel)[changed].max() <= 2
    assert refine(net, decoded, (voxel, "ET")).isfinite().all()


def test_positions_are_rounded_to_the_nearest_voxel(net, decoded):
    assert obeyed(refine(net, decoded, ((30.4, 15.6, 15.0), "ET")), (30, 16, 15), "ET")


def test_refine_does_not_modify_its_input(net):
    fresh = decode(net, draw())
    before = [t.clone() for t in (fresh.logits, fresh.attention, *fresh.features)]
    out = net.refine(fresh, torch.tensor([[[30.0, 16.0, 15.0]]]), click_targets(["ET"])[None])
    assert all(torch.equal(a, b) for a, b in zip(before, (fresh.logits, fresh.attention, *fresh.features), strict=True))
    assert torch.equal(out.logits, fresh.logits) and torch.equal(out.attention, fresh.attention)


def test_forward_with_clicks_is_encode_decode_refine(net, decoded):
    with torch.no_grad():
        out = net(draw(), clicks=torch.tensor([[[30.0, 16.0, 15.0]]]), click_targets=click_targets(["ET"])[None])
    assert torch.equal(out, refine(net, decoded, ((30, 16, 15), "ET")))


@pytest.mark.parametrize(
    ("clicks", "targets", "what"),
    [
        ((1, 2, 2), (1, 2, 3), r"clicks: found shape \[1, 2, 2\]"),
        ((2, 3), (1, 2, 3), r"clicks: found shape \[2, 3\]"),
        ((2, 2, 3), (2, 2, 3), r"clicks: found shape \[2, 2, 3\]"),
        ((1, 2, 3), (1, 1, 3), r"click_targets: found shape \[1, 1, 3\]"),
        ((1, 2, 3), (1, 2, 4), r"click_targets: found shape \[1, 2, 4\]"),
    ],
)
def test_shapes_are_checked(net, decoded, clicks, targets, what):
    with pytest.raises(InputError, match=what):
        net.refine(decoded, torch.zeros(clicks), torch.ones(targets))


def test_network_without_clicks_has_no_click_parameters_and_refuses_clicks(build, decoded):
    without = build(clicks=False)
    assert not [name for name, _ in without.named_parameters() if name.startswith("clicks.")]
    assert [name for name, _ in build().named_parameters() if name.startswith("clicks.")]
    with pytest.raises(InputError, match="built without"):
        refine(without, decoded, ((30, 16, 15), "ET"))


def test_network_without_clicks_accepts_empty_click_lists(build, image):
    """Inference passes click lists of length zero for cases without clicks."""
    without = build(clicks=False)
    out = without(image, clicks=torch.zeros(1, 0, 3), click_targets=torch.zeros(1, 0, 3))
    assert torch.equal(out, without(image))


def test_scripted_equals_eager(net, decoded):
    scripted = torch.jit.script(net)
    where, targets = torch.tensor([[[30.0, 16.0, 15.0], [33.0, 2.0, 31.0]]]), click_targets(["ET", "ED"])[None]
    with torch.no_grad():
        eager = net.refine(decoded, where, targets)
        both = scripted.refine(scripted.decode(scripted.encode(draw())), where, targets)
        assert torch.allclose(both.refined, eager.refined, atol=1e-4)
        whole = scripted(draw(), clicks=where, click_targets=targets)
        assert torch.allclose(whole, eager.refined, atol=1e-4)
        none = scripted.refine(scripted.decode(scripted.encode(draw())), where[:, :0], targets[:, :0])
        assert torch.allclose(none.refined, decoded.logits, atol=1e-4)


def test_click_gradients_reach_only_the_refinement(build_trained, image):
    net = build_trained()
    decoded = net.decode(net.encode(image))
    net.refine(
        decoded, torch.tensor([[[16.0, 16.0, 15.0]]]), click_targets(["TC"])[None]
    ).refined.square().sum().backward()
    for name, parameter in net.named_parameters():
        if name.startswith("clicks."):
            assert parameter.grad is not None and parameter.grad.any(), name
        else:
            assert parameter.grad is None, name


def test_refinement_learns_from_a_click(build):
    """Train on one click and one image for a few steps; the target also differs away from the clicked voxel."""
    net = build().train()
    fresh = decode(net, draw((32, 16, 16)))
    target = (fresh.logits > -9).float() * (torch.arange(32) < 16).view(1, 1, 32, 1, 1)
    where, said = torch.tensor([[[8.0, 8.0, 7.0]]]), click_targets(["ET"])[None]
    optimizer = torch.optim.Adam(net.clicks.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = FusionLoss()(net.refine(fresh, where, said).refined, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_clicks_are_obeyed_in_bf16(net):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        fresh = net.decode(net.encode(draw()))
        out = refine(net, fresh, ((30, 16, 15), "NCR"))
    assert out.dtype == torch.float32 and obeyed(out, (30, 16, 15), "NCR")
    far = distance((30, 16, 15)) > REACH_MM + 1
    assert torch.equal(out[:, :, far], fresh.logits[:, :, far])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(1, 24, 4, 6, 10), (2, 8, 3, 1, 5)])
def test_shuffle_is_the_same_with_and_without_gradients(dtype, channels_last, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    slow = shuffle(x.clone().requires_grad_())
    fast = shuffle(x)
    assert slow.requires_grad and not fast.requires_grad
    assert fast.dtype == dtype and torch.equal(fast, slow.detach()) and torch.equal(unshuffle(fast), x)
