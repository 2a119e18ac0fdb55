from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from brats_clip.semantics import SliceSelector


def voxels(positions: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the slice indices of positions ``(S, 2)``."""
    lengths = torch.tensor(shape)[positions[:, 0].long()]
    return ((positions[:, 1] + 1) / 2 * lengths).long()


@pytest.mark.parametrize("ball", [(20, 30, 40), (46, 55, 22)])
def test_most_slices_of_every_plane_pass_through_the_lesion(brain, ball):
    image = brain(ball=ball, radius=7)
    _, positions = SliceSelector(4)(image)
    assert positions.shape == (1, 12, 2)
    numbers = voxels(positions[0], image.shape[2:]).view(3, 4)
    hits = (numbers - torch.tensor(ball).view(3, 1)).abs() <= 7
    assert (hits.sum(dim=1) >= 3).all()


def test_brain_without_abnormal_signal_is_sampled_across_its_extent(brain):
    _, positions = SliceSelector(4)(brain())
    for plane in range(3):
        places = positions[0, positions[0, :, 0] == plane, 1]
        assert places.min() < -0.25 and places.max() > 0.25
        assert places.abs().max() < 0.95


def test_planes_are_in_order_and_positions_are_inside(brain):
    _, positions = SliceSelector(2)(brain(ball=(20, 30, 40)))
    assert positions[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert positions[..., 1].abs().max() < 1


def test_slices_are_drawn_in_the_documented_orientation(brain):
    # Left, anterior, superior: x low, y high, z high.
    slices, _ = SliceSelector(4, image_size=64)(brain((64, 64, 64), ball=(18, 46, 44)))
    flair = slices[0, :, 0].view(3, 4, 64, 64).amax(dim=1)
    rows, columns = zip(*[divmod(int(image.flatten().argmax()), 64) for image in flair], strict=True)
    assert rows[0] < 32 and columns[0] < 32  # sagittal: superior is up, anterior on the left
    assert rows[1] < 32 and columns[1] < 32  # coronal: superior is up, the patient's left on the left
    assert rows[2] < 32 and columns[2] < 32  # axial: anterior is up, the patient's left on the left
    mirrored, _ = SliceSelector(4, image_size=64)(brain((64, 64, 64), ball=(18, 46, 44)).flip(2))
    axial = mirrored[0, 8:, 0].amax(dim=0)
    assert int(axial.flatten().argmax()) % 64 > 32


def test_channels_are_flair_t1ce_t2(brain):
    image = brain()
    for sequence, channel in ((3, 0), (1, 1), (2, 2)):
        bright = image.clone()
        bright[:, sequence] = torch.where(image[:, sequence] != 0, 4.0, 0.0)
        slices, _ = SliceSelector(2)(bright)
        assert slices[:, :, channel].amax() == pytest.approx(1.0)
        assert slices[:, :, (channel + 1) % 3].amax() < 0.9


def test_slices_are_between_0_and_1_with_black_background(brain):
    slices, _ = SliceSelector(3, image_size=48)(brain(ball=(20, 30, 40)) * 10)
    assert slices.shape == (1, 9, 3, 48, 48)
    assert slices.min() >= 0 and slices.max() <= 1
    assert slices[..., 0, 0].abs().max() == 0


def test_slices_of_a_case_do_not_depend_on_its_batch(brain):
    images = torch.cat([brain(ball=(20, 30, 40)), brain(ball=(46, 55, 22), seed=1), brain(seed=2)])
    selector = SliceSelector(4)
    slices, positions = selector(images)
    for n in range(3):
        alone = selector(images[n : n + 1])
        torch.testing.assert_close(slices[n : n + 1], alone[0])
        torch.testing.assert_close(positions[n : n + 1], alone[1])


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 30, 21), (32, 16, 48)])
def test_empty_and_odd_volumes_give_slices(shape):
    slices, positions = SliceSelector(4, image_size=32)(torch.zeros(2, 4, *shape))
    assert slices.shape == (2, 12, 3, 32, 32)
    assert torch.isfinite(slices).all() and positions[..., 1].abs().max() < 1


def test_scripted_selector_equals_eager(brain):
    image = brain(ball=(20, 30, 40))
    selector = SliceSelector(4)
    for eager, scripted in zip(selector(image), torch.jit.script(selector)(image), strict=True):
        torch.testing.assert_close(eager, scripted)


@pytest.mark.real
@pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR names no folder of real cases")
def test_real_tumours_are_hit_by_three_slices_of_four_in_every_plane():
    for folder in sorted(Path(os.environ["BRATS_DIR"]).iterdir())[:8]:
        stack = [
            nib.as_closest_canonical(nib.load(folder / f"{folder.name}_{kind}.nii.gz")).get_fdata(dtype=np.float32)
            for kind in ("t1", "t1ce", "t2", "flair", "seg")
        ]
        image = np.stack(stack[:4])
        brain = (image != 0).any(axis=0)
        box = tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(brain))
        for sequence in image:
            nonzero = sequence != 0
            sequence[nonzero] = (sequence[nonzero] - sequence[nonzero].mean()) / sequence[nonzero].std()
        volume = torch.from_numpy(np.ascontiguousarray(image[(slice(None), *box)]))[None]
        tumour = torch.from_numpy(np.ascontiguousarray(stack[4][box])) > 0
        _, positions = SliceSelector(4)(volume)
        numbers = voxels(positions[0], volume.shape[2:]).view(3, 4)
        for plane in range(3):
            assert sum(bool(tumour.select(plane, int(n)).any()) for n in numbers[plane]) >= 3, (folder.name, plane)
