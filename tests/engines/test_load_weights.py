"""Weights that do not fit are an error before anything is computed."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from brats_clip.engines import LoadWeights, load_weights
from brats_clip.errors import WeightsError
from brats_clip.networks import ReportGuidedUNet


def network(seed: int = 0, width: int = 8) -> ReportGuidedUNet:
    torch.manual_seed(seed)
    return ReportGuidedUNet(
        widths=(4, 8, 8, width),
        semantic_dim=8,
        region_embeddings=torch.randn(3, 8),
        bottleneck_blocks=1,
        head_width=8,
        bridge=False,
    )


@pytest.fixture
def path(tmp_path):
    torch.save(network().state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def start(path, target, **settings) -> None:
    engine = Engine(lambda engine, batch: None)
    LoadWeights(str(path), target, **settings).attach(engine)
    engine.run([0])


def test_weights_are_loaded_when_the_engine_starts(path):
    target = network(seed=1)
    start(path, target)
    for name, value in network().state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_weights_load_into_a_wrapped_network(path):
    wrapped = nn.DataParallel(network(seed=1))
    start(path, wrapped)
    assert torch.equal(wrapped.module.head.logits.weight, network().head.logits.weight)


def test_missing_weights_error_names_the_path(tmp_path):
    for where in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(WeightsError, match="no file") as error:
            start(where, network())
        assert error.value.where == str(where)


@pytest.mark.parametrize("size", [0, 1, 100, 5000, -10])
def test_truncated_file_is_an_error(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match=r"model\.pt") as error:
        load_weights(path)
    assert "\n" not in str(error.value)


def test_file_without_weights_is_an_error(path):
    for content in ([1, 2], torch.zeros(3)):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=f"a {type(content).__name__}"):
            load_weights(path)
    path.write_text("These are not the weights you are looking for.")
    with pytest.raises(WeightsError, match="torch cannot load"):
        load_weights(path)


def test_file_that_would_run_code_is_refused(path, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "trapped").touch, ()

    torch.save({"weight": Trap()}, path)
    with pytest.raises(WeightsError, match="torch cannot load"):
        load_weights(path)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("content", ["narrower", "other network", "checkpoint"])
def test_weights_of_another_network_are_refused(path, content):
    state = {
        "narrower": network(width=4).state_dict(),
        "other network": nn.Conv3d(4, 3, 1).state_dict(),
        "checkpoint": {"network": network().state_dict(), "trainer": {"iteration": 3}},
    }[content]
    torch.save(state, path)
    target = network(seed=1)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(WeightsError, match=r"model\.pt: found") as error:
        start(path, target)
    assert "\n" not in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


@pytest.mark.parametrize(("epoch", "loaded"), [(0, True), (1, False)])
def test_only_fresh_skips_loading_in_a_resumed_training(path, epoch, loaded):
    target, engine = network(seed=1), Engine(lambda engine, batch: None)
    engine.state.epoch = epoch
    LoadWeights(str(path), target, only_fresh=True)(engine)
    assert torch.equal(target.head.logits.weight, network().head.logits.weight) is loaded
