from __future__ import annotations

import time

import pytest
import torch

from brats_clip.semantics import SliceEncoder, load_clip


def test_one_unit_token_per_slice_with_its_position(tiny_clip, brain):
    tokens, positions = SliceEncoder(tiny_clip, slices_per_plane=3)(brain(ball=(20, 30, 40)))
    assert tokens.shape == (1, 9, tiny_clip.embed_dim) and positions.shape == (1, 9, 2)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(1, 9))


def test_tokens_are_those_of_the_clip(tiny_clip, brain):
    encoder = SliceEncoder(tiny_clip)
    image = brain(ball=(20, 30, 40))
    slices, _ = encoder.selector(image)
    torch.testing.assert_close(encoder(image)[0][0], tiny_clip.vision(slices[0]))


def test_encoder_stays_frozen_when_its_network_trains(tiny_clip, brain):
    network = torch.nn.Sequential(SliceEncoder(tiny_clip)).train()
    tokens, _ = network(brain().requires_grad_())
    assert not tokens.requires_grad
    assert not any(module.training for module in network[0].modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_scripted_encoder_equals_eager(tiny_clip, brain, tmp_path):
    encoder = SliceEncoder(tiny_clip)
    image = torch.cat([brain(ball=(20, 30, 40)), brain()])
    torch.jit.script(encoder).save(str(tmp_path / "encoder.ts"))
    for eager, scripted in zip(encoder(image), torch.jit.load(str(tmp_path / "encoder.ts"))(image), strict=True):
        torch.testing.assert_close(eager, scripted)


@pytest.mark.slow
def test_embedded_clip_encodes_a_whole_brain_in_under_0_3_s(brain):
    encoder, image = SliceEncoder(load_clip()), brain((144, 176, 144), ball=(40, 60, 80), radius=20)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(5):
            start = time.process_time()
            encoder(image)
            seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    assert min(seconds) < 0.3  # 0.05 s on an idle core


def test_moving_the_encoder_does_not_move_the_clip(tiny_clip):
    SliceEncoder(tiny_clip).to("meta")
    assert {parameter.device.type for parameter in tiny_clip.parameters()} == {"cpu"}
