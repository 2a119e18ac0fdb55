"""The building blocks of the network, each tested on its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from brats_clip.networks.attention import AttentionGate, ChannelSpatialAttention
from brats_clip.networks.blocks import SampleNorm
from brats_clip.networks.pixel_fusion import PixelFusion, PixelProjection
from brats_clip.networks.pixel_shuffle import shuffle, unshuffle
from brats_clip.networks.semantic_attention import SemanticAttention


@pytest.mark.parametrize("batch", [1, 2])
def test_sample_norm_is_instance_norm_that_keeps_channels_last(batch):
    norm = SampleNorm(4)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = (torch.randn(batch, 4, 6, 4, 8) * 3 + 1).to(memory_format=torch.channels_last_3d)
    y = norm(x)
    assert torch.allclose(y, F.instance_norm(x, weight=norm.weight, bias=norm.bias), atol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_sample_norm_accepts_a_single_voxel():
    assert SampleNorm(4)(torch.randn(1, 4, 1, 1, 1)).abs().max() < 1e-3


def test_channel_spatial_attention_starts_as_the_identity_and_learns():
    attention, x = ChannelSpatialAttention(8), torch.randn(2, 8, 4, 4, 4)
    assert torch.allclose(attention(x), x)
    attention(x).square().mean().backward()
    assert attention.excite.weight.grad.any() and attention.spatial.weight.grad.any()


def test_attention_gate_only_attenuates_and_starts_open():
    skip, coarse = torch.randn(1, 8, 8, 4, 8), torch.randn(1, 16, 4, 2, 4)
    ratio = AttentionGate(8, 16)(skip, coarse) / skip
    assert ratio.shape == skip.shape and (ratio > 0.5).all() and (ratio < 1).all()
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), atol=1e-4)  # one weight per voxel


def test_unshuffle_keeps_each_block_of_voxels_and_shuffle_restores_it():
    image = torch.randn(2, 3, 4, 6, 8)
    coarse = unshuffle(image)
    assert coarse.shape == (2, 24, 2, 3, 4)
    assert torch.equal(coarse[1, 8:16, 1, 2, 3].sort().values, image[1, 1, 2:, 4:, 6:].flatten().sort().values)
    assert torch.equal(shuffle(coarse), image)


def fused(fusion: PixelFusion, image: torch.Tensor) -> torch.Tensor:
    tokens = unshuffle(image).flatten(2).transpose(1, 2)
    return (tokens @ fusion(image)).transpose(1, 2).unflatten(2, [n // 2 for n in image.shape[2:]])


def test_pixel_fusion_starts_with_all_sequences_and_their_differences(image):
    out = shuffle(fused(PixelFusion(), image))
    t1, t1ce, t2, flair = image.unbind(1)
    assert torch.allclose(out, torch.stack([t1, t1ce, t2, flair, t1ce - t1, t2 - flair], dim=1), atol=1e-5)


def test_pixel_fusion_weighs_by_the_image_and_ignores_the_background(image):
    fusion = PixelFusion()
    torch.nn.init.normal_(fusion.weights.weight)
    weights = fusion.sequence_weights(image)
    assert weights.shape == (1, 4) and (weights > 0).all() and (weights < 2).all()
    assert not torch.allclose(fusion.sequence_weights(image * torch.tensor([1, 3, 1, 1.0]).view(4, 1, 1, 1)), weights)
    assert torch.allclose(fusion.sequence_weights(F.pad(image, [16] * 6)), weights, atol=1e-4)
    assert fusion.sequence_weights(torch.zeros_like(image)).isfinite().all()


def test_pixel_projection_merges_with_the_fusion(image):
    fusion, projection = PixelFusion(), PixelProjection(48, 5)
    torch.nn.init.normal_(fusion.weights.weight)
    tokens = unshuffle(image).flatten(2).transpose(1, 2)
    plain = projection(tokens @ fusion(image))
    assert torch.allclose(projection(tokens, fusion(image)), plain, atol=1e-4)


def test_semantic_attention_finds_the_region_a_voxel_resembles():
    attention = SemanticAttention(16, torch.randn(3, 32), refined=8)
    torch.nn.init.eye_(attention.voxel.weight.data.view(16, 16))
    torch.nn.init.zeros_(attention.voxel.bias)
    embeddings = attention.region_embeddings - attention.region_embeddings.mean(0)
    texts = attention.text(F.normalize(embeddings, dim=1))
    maps, refinement = attention(5 * texts.detach()[:, :, None, None, None])
    assert (maps[:, :, 0, 0, 0].argmax(dim=1) == torch.arange(3)).all()
    assert torch.allclose(maps[:, :, 0, 0, 0].diagonal(), torch.tensor(5.0 - 4.0), atol=1e-2)  # cosine 1
    assert not refinement.any() and refinement.shape == (3, 8, 1, 1, 1)


def test_semantic_attention_is_finite_for_zero_features():
    attention = SemanticAttention(4, torch.randn(3, 8), refined=8)
    torch.nn.init.zeros_(attention.voxel.bias)
    x = torch.zeros(1, 4, 2, 2, 2, requires_grad=True)
    maps, _ = attention(x)
    maps.sum().backward()
    assert torch.allclose(maps, torch.tensor(-4.0)) and x.grad.isfinite().all()
