"""Position embeddings agree between a crop, the whole volume and a slice."""

from __future__ import annotations

import torch

from brats_clip.networks.bridge import in_whole_volume
from brats_clip.networks.positions import CoordinateEmbedding, voxel_centres

WHOLE = torch.tensor([[[-1.0, 1.0]] * 3])


def test_crop_is_embedded_like_that_part_of_the_whole_volume():
    embedding = CoordinateEmbedding(6)
    whole = embedding([8, 4, 10], WHOLE).unflatten(1, (8, 4, 10))
    extent = torch.tensor([[[-0.5, 0.5], [-1.0, 0.0], [0.2, 1.0]]])
    crop = embedding([4, 2, 4], extent).unflatten(1, (4, 2, 4))
    assert torch.allclose(crop, whole[:, 2:6, 0:2, 6:10], atol=1e-5)


def test_each_sample_has_its_own_extent():
    embedding = CoordinateEmbedding(6)
    extents = torch.cat([WHOLE, WHOLE * 0.5])
    both = embedding([2, 2, 2], extents)
    assert torch.equal(both[1:], embedding([2, 2, 2], extents[1:]))
    assert not torch.allclose(both[0], both[1])


def test_every_voxel_has_a_distinct_embedding():
    embedded = CoordinateEmbedding(16)([5, 5, 5], WHOLE)[0]
    assert (torch.cdist(embedded, embedded) + 10 * torch.eye(125)).min() > 0.05


def test_voxel_centres_lie_inside_the_extent():
    centres = voxel_centres(4, torch.tensor([[-1.0, 1.0], [0.0, 0.4]]))
    assert torch.allclose(centres, torch.tensor([[-0.75, -0.25, 0.25, 0.75], [0.05, 0.15, 0.25, 0.35]]))


def test_slice_is_embedded_along_the_axis_it_lies_across():
    embedding = CoordinateEmbedding(6)
    slices = embedding.slices(torch.tensor([[[0.0, 0.3], [1.0, 0.3], [2.0, -0.7]]]))
    for i, (axis, coordinate) in enumerate([(0, 0.3), (1, 0.3), (2, -0.7)]):
        assert torch.allclose(slices[:, i], embedding.along_axis(torch.tensor([[coordinate]]), axis)[:, 0])


def test_slice_positions_of_a_crop_become_positions_of_the_whole():
    positions = torch.tensor([[[0.0, -1.0], [1.0, 0.0], [2.0, 1.0]]])
    extent = torch.tensor([[[-0.8, 0.2], [0.0, 0.5], [-1.0, 0.4]]])
    assert torch.allclose(in_whole_volume(positions, extent)[0, :, 1], torch.tensor([-0.8, 0.25, 0.4]))
    assert torch.equal(in_whole_volume(positions, WHOLE), positions)
