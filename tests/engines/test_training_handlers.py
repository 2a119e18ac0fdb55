"""Training handlers in isolation: best model, early stopping, gradient clipping, logits and seeds."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.transforms import RandGaussianNoised
from torch import nn

from brats_clip.engines import BestModel, EarlyStop, EpochSeed, GradientClip, TakeLogits, region_output


def evaluator(scores: list[float]) -> Engine:
    engine = Engine(lambda engine, batch: None)
    remaining = iter(scores)

    @engine.on(Events.EPOCH_COMPLETED)
    def score(engine):
        engine.state.metrics["dice"] = next(remaining)

    return engine


def train_with(stop: EarlyStop, scores: list[float], epochs: int, done: int = 0) -> int:
    """Train up to ``epochs`` with one validation each; return the epoch reached."""
    trainer, judge = Engine(lambda engine, batch: None), evaluator(scores)
    stop.attach(judge)
    stop.set_trainer(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: judge.run([0], max_epochs=1))
    trainer.run([0], max_epochs=epochs)
    return trainer.state.epoch + done


def test_best_model_keeps_the_best_validation(tmp_path):
    model = nn.Linear(1, 1)
    keep = BestModel(str(tmp_path / "new" / "folder"), model, "dice")
    for value, score in enumerate([0.3, 0.8, float("nan"), 0.5, 0.8]):
        nn.init.constant_(model.weight, value)
        judge = evaluator([score])
        keep.attach(judge)
        judge.run([0])
    saved = torch.load(tmp_path / "new" / "folder" / "model.pt", weights_only=True)
    assert saved["weight"].item() == 1 and keep.best == 0.8
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["model.pt"]


def test_best_model_is_not_replaced_by_a_worse_one_after_a_restart(tmp_path):
    model = nn.Linear(1, 1)
    first = BestModel(str(tmp_path), model, "dice")
    judge = evaluator([0.8])
    first.attach(judge)
    judge.run([0])
    before = (tmp_path / "model.pt").read_bytes()
    second = BestModel(str(tmp_path), model, "dice")
    second.load_state_dict(first.state_dict())
    nn.init.constant_(model.weight, 9)
    judge = evaluator([0.7])
    second.attach(judge)
    judge.run([0])
    assert (tmp_path / "model.pt").read_bytes() == before


def test_early_stop_ends_training_after_patience_validations():
    assert train_with(EarlyStop(2, "dice"), [0.1, 0.5, 0.4, 0.3, 0.9], epochs=5) == 4
    assert train_with(EarlyStop(2, "dice"), [0.1, 0.5, 0.4, 0.6, 0.7], epochs=5) == 5


@pytest.mark.parametrize("restore_first", [True, False])
def test_early_stop_keeps_counting_after_a_restart(restore_first):
    first = EarlyStop(3, "dice")
    assert first.state_dict() == {}
    assert train_with(first, [0.5, 0.4, 0.3], epochs=3) == 3  # two without improvement
    second = EarlyStop(3, "dice")
    if not restore_first:
        second.set_trainer(Engine(lambda engine, batch: None))
    second.load_state_dict(first.state_dict())
    assert train_with(second, [0.45, 0.9], epochs=2, done=3) == 4


def test_gradient_norm_is_clipped_before_the_step():
    network = nn.Linear(4, 1)
    engine = Engine(lambda engine, batch: engine.fire_event(IterationEvents.BACKWARD_COMPLETED))
    engine.register_events(*IterationEvents)
    engine.scaler, engine.network = None, network
    GradientClip(max_norm=2.0).attach(engine)

    def norm_after(gradient: float) -> float:
        network.weight.grad, network.bias.grad = torch.full((1, 4), gradient), torch.zeros(1)
        engine.run([0])
        return float(network.weight.grad.norm())

    assert norm_after(100.0) == pytest.approx(2.0, rel=1e-4)
    assert norm_after(0.5) == pytest.approx(1.0)


def test_scaled_gradients_are_unscaled_before_clipping():
    class Scaler:
        def unscale_(self, optimizer):
            optimizer.param_groups[0]["params"][0].grad /= 1024

    network = nn.Linear(4, 1, bias=False)
    engine = Engine(lambda engine, batch: None)
    engine.scaler, engine.network = Scaler(), network
    engine.optimizer = torch.optim.SGD(network.parameters(), lr=1)
    network.weight.grad = torch.full((1, 4), 1024.0)
    GradientClip(max_norm=10.0)(engine)
    assert torch.allclose(network.weight.grad, torch.ones(1, 4))


def test_take_logits_passes_detached_logits_to_the_metrics():
    engine = Engine(lambda engine, batch: None)
    logits = torch.rand(1, 3, 2, 2, 2, requires_grad=True)
    for prediction in (logits, type("Decoded", (), {"logits": logits})):
        engine.state.output = {"pred": prediction}
        TakeLogits()(engine)
        assert torch.equal(engine.state.output["pred"], logits) and not engine.state.output["pred"].requires_grad


def test_region_output_selects_the_channel_of_a_region():
    item = {"pred": torch.arange(3).reshape(3, 1, 1, 1), "label": torch.arange(3).reshape(3, 1, 1, 1) + 10}
    for index, region in enumerate(("WT", "TC", "ET")):
        (pred,), (label,) = region_output(region)([item])
        assert pred.shape == (1, 1, 1, 1) and (int(pred), int(label)) == (index, index + 10)


def draws(seed: int, epoch: int, rank: int = 0) -> tuple:
    """Return one draw from each source of randomness in an epoch."""
    noise = RandGaussianNoised("image", prob=1.0)
    data = Dataset([{"image": torch.zeros(1, 2, 2, 2)}], noise)
    engine = Engine(lambda engine, batch: None)
    engine.state.epoch = epoch
    EpochSeed(seed, data, rank)(engine)
    return random.random(), np.random.rand(), float(torch.rand(())), float(data[0]["image"].sum())


def test_random_sources_depend_only_on_seed_epoch_and_rank():
    assert draws(3, 5) == draws(3, 5)
    for other in (draws(3, 6), draws(4, 5), draws(3, 5, rank=1)):
        assert all(a != b for a, b in zip(draws(3, 5), other, strict=True))
