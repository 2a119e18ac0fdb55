from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events

from brats_clip.semantics import load_clip
from brats_clip.semantics.attributes import VALUES, attribute_slices
from brats_clip.semantics.contrastive import UNKNOWN_WORD, ContrastiveClip
from brats_clip.semantics.pretraining import MatchRate, SaveEmbeddedClip, StatementRate


def test_match_rate_is_one_for_equal_and_near_chance_for_unrelated_pairs():
    features = torch.nn.functional.normalize(torch.randn(320, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    metric = MatchRate(group=16)
    metric.reset()
    for batch in features.split(50):
        metric.update((batch, batch))
    assert metric.compute() == 1.0
    metric.reset()
    metric.update((features, features.flip(0)))
    assert metric.compute() == pytest.approx(1 / 16, abs=0.05)


def test_match_rate_takes_a_smaller_set_as_one_group():
    metric = MatchRate(group=16)
    metric.reset()
    metric.update((torch.eye(5), torch.eye(5).roll(1, 0)))
    assert metric.compute() == 0.0


def test_statement_rate_counts_true_statements_and_skips_unknown_cases():
    place = attribute_slices()["side"]
    prompts = torch.zeros(len(VALUES), 4)
    prompts[place] = torch.eye(4)
    targets = torch.zeros(3, len(VALUES))
    targets[0, place.start] = targets[1, place.start + 1] = 1.0
    metric = StatementRate("side")
    metric.reset()
    metric.update((torch.eye(4)[[0, 3, 2]], prompts, targets))
    assert metric.compute() == 0.5


def test_best_clip_is_saved_with_unseen_tokens_silenced(tiny_config, tmp_path):
    network = ContrastiveClip(3, tiny_config)
    met, unmet = (network.tokenizer.encode(word)[0] for word in ("zebra", "tiger"))
    evaluator = Engine(lambda engine, batch: None)
    trainer = Engine(lambda engine, batch: None)
    SaveEmbeddedClip(network, evaluator, tmp_path / "clip", "trained in a test").attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.state.best_metric_epoch = 1 if engine.state.epoch == 1 else 0
        evaluator.run([0])
        if engine.state.epoch == 1:
            with torch.no_grad():
                network.clip.visual.proj.zero_()

    trainer.run([{"token_ids": torch.tensor([[met, UNKNOWN_WORD]])}], max_epochs=2)
    clip = load_clip(tmp_path / "clip")
    assert "trained in a test" in clip.describe()
    assert clip.model.visual.proj.abs().sum() > 0  # of the first epoch, not of the worse second
    assert clip.model.token_embedding.weight[met].abs().sum() > 0
    assert clip.model.token_embedding.weight[unmet].abs().sum() == 0
    assert network.clip.token_embedding.weight[unmet].abs().sum() > 0
    prompt = network.prompt_ids[0, 0]
    assert (clip.model.token_embedding.weight[prompt].abs().sum(dim=1) > 0).all()
