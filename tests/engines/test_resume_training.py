"""An interrupted and resumed training run gives bit-identical results to an uninterrupted one."""

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Events

from brats_clip.engines import EpochCheckpoint, read_curves
from brats_clip.errors import WeightsError
from tests.engines.tiny_training import STEPS, Training, build


def begin(folder, **settings) -> Training:
    torch.manual_seed(42)  # the initial weights; a restart must not depend on them
    return build(folder, **settings)


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    different = [k for k in one if not torch.equal(one[k], other[k])]
    assert not different


def names(folder) -> list[str]:
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


# Interrupted within an epoch, and at the end of an epoch before its checkpoint is saved.
@pytest.mark.parametrize(("interrupt_at", "workers"), [(STEPS + 1, 0), (3 * STEPS, 0), (STEPS + 1, 2)])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path, interrupt_at, workers):
    whole = begin(tmp_path / "whole", workers=workers).run()
    begin(tmp_path / "broken", workers=workers).run(interrupt_at)
    torch.manual_seed(7)
    resumed = build(tmp_path / "broken", workers=workers).run()
    assert_same(resumed.weights(), whole.weights())
    curves = [(tmp_path / run / "curves.csv").read_text() for run in ("whole", "broken")]
    assert curves[0] == curves[1] and len(curves[0].splitlines()) == 5
    best = [torch.load(tmp_path / run / "checkpoints" / "model.pt") for run in ("whole", "broken")]
    assert_same(*best)
    states = [t.optimizer.state_dict()["param_groups"][0]["lr"] for t in (whole, resumed)]
    assert states[0] == states[1]


def test_training_is_reproducible_by_seed(tmp_path):
    runs = [begin(tmp_path / str(i), epochs=2, seed=seed).run() for i, seed in enumerate((1, 1, 2))]
    assert_same(runs[0].weights(), runs[1].weights())
    assert not torch.equal(runs[0].network.first.weight, runs[2].network.first.weight)


def test_curves_hold_every_epoch_once(tmp_path):
    begin(tmp_path).run(2 * STEPS + 1)
    build(tmp_path).run()
    curves = read_curves(tmp_path / "curves.csv")
    assert curves["epoch"] == [1, 2, 3, 4]
    assert curves["learning_rate"] == sorted(curves["learning_rate"], reverse=True)
    assert all(0 <= value <= 1 for value in curves["val_mean_dice"])
    assert read_curves(tmp_path / "nothing.csv") is None


def test_only_the_last_checkpoints_are_kept_after_resuming(tmp_path):
    begin(tmp_path).run(2 * STEPS + 1)
    assert names(tmp_path) == ["checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt", "model.pt"]
    build(tmp_path).run()
    assert names(tmp_path) == ["checkpoint_epoch=3.pt", "checkpoint_epoch=4.pt", "model.pt"]


def test_partial_files_are_not_checkpoints(tmp_path):
    begin(tmp_path, epochs=2).run()
    folder = tmp_path / "checkpoints"
    for name in ("tmp8x1k2j", "checkpoint_epoch=9.pt.part", "checkpoint_epoch=copy.pt"):
        (folder / name).write_bytes(b"torn")
    assert EpochCheckpoint(str(folder), {}).latest() == folder / "checkpoint_epoch=2.pt"
    resumed = build(tmp_path, epochs=3).run()
    assert resumed.trainer.state.epoch == 3


@pytest.mark.parametrize("size", [0, 5000, -10])
def test_truncated_last_checkpoint_is_an_error(tmp_path, size):
    begin(tmp_path, epochs=1).run()
    path = tmp_path / "checkpoints" / "checkpoint_epoch=1.pt"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match=r"checkpoint_epoch=1\.pt: found a file that torch cannot load"):
        build(tmp_path, epochs=2).run()


def test_checkpoints_are_ordered_by_number(tmp_path):
    for epoch in (9, 10, 2):
        (tmp_path / f"checkpoint_epoch={epoch}.pt").touch()
    assert EpochCheckpoint(str(tmp_path), {}).latest().name == "checkpoint_epoch=10.pt"


def test_resume_without_a_checkpoint_starts_from_scratch(tmp_path):
    training = begin(tmp_path, epochs=1)
    assert training.checkpoints.latest() is None and not training.checkpoints.resume(training.trainer)


def test_extended_training_continues_the_learning_rate_schedule(tmp_path):
    begin(tmp_path / "raised", epochs=2).run()
    raised = build(tmp_path / "raised", epochs=5).run()
    begin(tmp_path / "whole", epochs=5).run()
    assert raised.trainer.state.epoch == 5
    rates = [read_curves(tmp_path / run / "curves.csv")["learning_rate"] for run in ("raised", "whole")]
    assert rates[0][2:] == rates[1][2:] and rates[0][2] > 0


@pytest.mark.parametrize("epochs", [2, 1])
def test_finished_training_is_not_changed(tmp_path, caplog, epochs):
    before = begin(tmp_path, epochs=2).run().weights()
    files = {name: (tmp_path / "checkpoints" / name).stat().st_mtime_ns for name in names(tmp_path)}
    curves = (tmp_path / "curves.csv").read_text()
    with caplog.at_level(logging.WARNING, logger="brats_clip.engines.checkpoints"):
        again = build(tmp_path, epochs=epochs).run()
    assert_same(again.weights(), before)
    assert {name: (tmp_path / "checkpoints" / name).stat().st_mtime_ns for name in names(tmp_path)} == files
    assert (tmp_path / "curves.csv").read_text() == curves
    assert "trained" in caplog.text


def test_pretrained_weights_initialise_network_and_average_once(tmp_path):
    start = build(tmp_path / "other").network.state_dict()
    torch.save(start, tmp_path / "pretrained.pt")

    def weights_at_the_start_of(training: Training, epoch: int) -> list:
        """Return the weights of the network and of its moving average."""
        seen = []

        def look(engine):
            if engine.state.epoch == epoch:
                seen.extend(m.first.weight.clone() for m in (training.network, training.ema.ema_model))

        training.trainer.add_event_handler(Events.EPOCH_STARTED, look)
        training.run(epoch * STEPS - 1)
        return seen

    settings = {"epochs": 2, "pretrained": tmp_path / "pretrained.pt"}
    for weight in weights_at_the_start_of(begin(tmp_path / "run", **settings), 1):
        assert torch.equal(weight, start["first.weight"])
    expected = weights_at_the_start_of(begin(tmp_path / "run", **settings), 2)
    resumed = weights_at_the_start_of(build(tmp_path / "run", **settings), 2)
    for weight, unbroken in zip(resumed, expected, strict=True):
        assert torch.equal(weight, unbroken) and not torch.equal(weight, start["first.weight"])


def test_training_data_is_randomised(tmp_path):
    """Without randomness, the tests above would prove nothing."""
    training = begin(tmp_path)
    data = training.trainer.data_loader.dataset
    assert not torch.equal(data[0]["image"], data[0]["image"])
    masks = {tuple(data[0]["report_mask"].tolist()) for _ in range(20)}
    assert len(masks) > 2
