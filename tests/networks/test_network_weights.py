"""Contents of a checkpoint, and errors if it does not fit the network."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.handlers import CheckpointLoader
from monai.networks.utils import copy_model_state, get_state_dict

from brats_clip.errors import InputError, WeightsError

ONE, OTHER = "ab" * 32, "cd" * 32


def changed(net):
    """Return a copy of the network with other weights."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.25)
    return net


def test_slice_encoder_is_neither_saved_nor_loaded(build, image):
    net, source = build(), changed(build())
    state = source.state_dict()
    assert not [n for n in state if n.startswith("slice_encoder")]
    frozen = net.slice_encoder.linear.weight.clone()
    net.load_state_dict(state)
    assert torch.equal(net.slice_encoder.linear.weight, frozen)
    assert torch.equal(net.stem.linear.weight, source.stem.linear.weight)
    assert set(state) == set(source.state_dict())  # loading does not modify the caller's dict


def test_weights_load_without_a_slice_encoder_and_inside_a_wrapper(build):
    state = build().state_dict()
    build(slice_encoder=None).load_state_dict(state)
    wrapper = torch.nn.ModuleDict({"module": build()})
    assert not [n for n in wrapper.state_dict() if "slice_encoder" in n]
    wrapper.load_state_dict({f"module.{n}": v for n, v in state.items()})


def test_weights_of_another_clip_are_refused(build):
    with pytest.raises(WeightsError, match=r"trained with CLIP abababababab; expected CLIP cdcdcdcdcdcd"):
        build(clip_fingerprint=OTHER).load_state_dict(build(clip_fingerprint=ONE).state_dict())
    with pytest.raises(WeightsError, match="trained with CLIP"):
        build(clip_fingerprint=OTHER).load_state_dict(build(clip_fingerprint=ONE).state_dict(), strict=False)
    with pytest.raises(WeightsError, match="trained with CLIP"):
        copy_model_state(build(clip_fingerprint=OTHER), build(clip_fingerprint=ONE).state_dict())


def test_unknown_clip_fits_every_clip(build):
    known, unknown = build(clip_fingerprint=ONE), build()
    known.load_state_dict(unknown.state_dict())
    assert bytes(known.clip_fingerprint.tolist()).hex() == ONE
    unknown.load_state_dict(known.state_dict())
    assert bytes(unknown.clip_fingerprint.tolist()).hex() == ONE


def test_malformed_fingerprint_is_refused(build):
    for fingerprint in ("ab", "z" * 64):
        with pytest.raises(InputError, match="clip_fingerprint"):
            build(clip_fingerprint=fingerprint)


@pytest.mark.parametrize(
    ("given", "expected", "what"),
    [
        ({"guidance": False}, {}, r"missing \(decoder"),
        ({}, {"guidance": False}, r"unknown \(decoder"),
        ({"widths": (4, 8, 8, 16)}, {}, r"of another shape \("),
    ],
)
def test_weights_of_another_architecture_are_refused_in_one_line(build, given, expected, what):
    with pytest.raises(WeightsError, match=what) as error:
        build(**expected).load_state_dict(build(**given).state_dict())
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_copy_model_state_refuses_another_architecture(build):
    with pytest.raises(WeightsError, match="another architecture"):
        copy_model_state(build(), build(bottleneck_blocks=2).state_dict())


def test_non_strict_loading_takes_the_matching_weights(build):
    net, source = build(), changed(build(guidance=False))
    net.load_state_dict(source.state_dict(), strict=False)
    assert torch.equal(net.stem.linear.weight, source.stem.linear.weight)
    assert torch.equal(net.architecture, build().architecture)


def test_weights_load_with_the_functions_of_monai(build, tmp_path):
    source = changed(build(clip_fingerprint=ONE))
    net = build(clip_fingerprint=ONE)
    copy_model_state(net, get_state_dict(source))
    assert torch.equal(net.stem.linear.weight, source.stem.linear.weight)

    torch.save({"model": source.state_dict()}, tmp_path / "model.pt")
    for strict in (True, False):
        net = build(clip_fingerprint=ONE)
        CheckpointLoader(tmp_path / "model.pt", {"model": net}, strict=strict, map_location="cpu")(_Engine())
        assert torch.equal(net.stem.linear.weight, source.stem.linear.weight)


class _Engine:
    """The part of an ignite engine that CheckpointLoader uses."""

    class state:
        max_epochs = None


def test_copies_are_independent(build, image):
    net = build(clip_fingerprint=ONE)
    twin = copy.deepcopy(net)
    assert torch.equal(twin(image), net(image))
    twin.load_state_dict(changed(net).state_dict())
    assert not torch.equal(twin(image), net(image))
    with pytest.raises(WeightsError):
        twin.load_state_dict(build(clip_fingerprint=OTHER).state_dict())
