from __future__ import annotations

import pytest
import torch

from brats_clip.semantics import contrastive
from brats_clip.semantics.attributes import VALUES, attribute_slices
from brats_clip.semantics.contrastive import UNKNOWN_WORD, ContrastiveClip, ContrastiveLoss, encode_tokens
from brats_clip.semantics.embedded import zero_unseen_embeddings


@pytest.fixture
def network(tiny_config, monkeypatch):
    monkeypatch.setattr(contrastive, "cpu_has_bf16", lambda: False)  # its rounding would hide what is compared
    return ContrastiveClip(3, tiny_config)


def test_short_texts_are_encoded_as_by_encode_text(network):
    ids = network.tokenizer(["a lesion on the left", "right"])
    expected = torch.nn.functional.normalize(network.clip.encode_text(ids), dim=-1)
    torch.testing.assert_close(encode_tokens(network.clip, ids[:, :10]), expected)


def test_unknown_word_is_encoded_like_a_silenced_token(network):
    ids = network.tokenizer(["lesion zebra left"])[:, :8]
    hidden = torch.where(ids == ids[0, 2], UNKNOWN_WORD, ids)
    before = encode_tokens(network.clip, hidden)
    zero_unseen_embeddings(network.clip, set(ids.unique().tolist()) - {int(ids[0, 2])})
    torch.testing.assert_close(encode_tokens(network.clip, ids), before)


def test_case_embedding_is_the_mean_of_its_slices_and_texts(network):
    network.eval()
    slices = torch.rand(2, 4, 3, 32, 32)
    ids = network.tokenizer(["one", "two", "three", ""]).view(2, 2, 77)
    mask = torch.tensor([[True, True], [True, False]])
    out = network(slices, ids, mask)
    single = [network(slices[:1, k : k + 1], ids[:1, :1], mask[:1, :1])["image"] for k in range(4)]
    torch.testing.assert_close(out["image"][:1], torch.nn.functional.normalize(sum(single), dim=-1))
    texts = [network(slices[:1], ids[:1, k : k + 1], mask[:1, :1])["text"] for k in range(2)]
    torch.testing.assert_close(out["text"][:1], torch.nn.functional.normalize(sum(texts), dim=-1))
    torch.testing.assert_close(out["text"][1:], encode_tokens(network.clip, ids[1, :1]))
    assert out["prompts"].shape == (len(VALUES), 24)


def test_prompts_are_sampled_in_training_and_averaged_in_evaluation(network):
    network.train()
    torch.manual_seed(0)
    assert not torch.equal(network.encode_prompts(), network.encode_prompts())
    network.eval()
    torch.testing.assert_close(network.encode_prompts(), network.encode_prompts())


def test_loss_is_lower_for_the_right_statement_and_ignores_unknown_ones():
    features = torch.nn.functional.normalize(torch.randn(4, 8), dim=1)
    prompts = torch.nn.functional.normalize(torch.randn(len(VALUES), 8), dim=1)
    side = attribute_slices()["side"]
    prompts[side][0] = features[0]
    prediction = {"image": features, "text": features, "prompts": prompts, "scale": torch.tensor(10.0)}
    nothing = torch.zeros(4, len(VALUES))
    right, wrong = nothing.clone(), nothing.clone()
    right[0, side.start], wrong[0, side.start + 1] = 1.0, 1.0
    loss = ContrastiveLoss()
    values = [loss(prediction, {"image": target, "text": nothing}) for target in (nothing, right, wrong)]
    assert values[0] == pytest.approx(float(loss.clip_loss(features, features, torch.tensor(10.0))))
    assert values[0] <= values[1] < values[2]


def test_every_parameter_gets_a_gradient(network):
    network.train()
    ids = network.tokenizer(["left tumour", "right tumour"]).unsqueeze(1)
    prediction = network(torch.rand(2, 3, 3, 32, 32), ids, torch.ones(2, 1, dtype=torch.bool))
    targets = torch.full((2, len(VALUES)), 0.1)
    ContrastiveLoss()(prediction, {"image": targets, "text": targets}).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
