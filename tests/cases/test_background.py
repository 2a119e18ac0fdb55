"""A non-zero background is set to 0 with one brain mask for all sequences; a clean case is not changed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import ndimage

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES, clear_background, find_cases, read_case, read_volume
from brats_clip.cases.background import solid
from brats_clip.evaluation import region_dice
from brats_clip.images import Volume

SHAPE = (56, 60, 52)
AXES = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
BRAIN = sum((axis / size) ** 2 for axis, size in zip(AXES, (0.7, 0.8, 0.65), strict=True)) < 1
MINIMUM = -300.0


def clean(sequence: str, mean: float = 400.0) -> np.ndarray:
    """Return smooth tissue with values around ``mean`` and a darker rim, 0 outside the brain."""
    random = np.random.default_rng(len(sequence) * 7 + ord(sequence[-1]))
    tissue = mean + 60 * ndimage.gaussian_filter(random.normal(size=SHAPE), 3) / 0.02
    rim = BRAIN & ~ndimage.binary_erosion(BRAIN, iterations=2)
    return np.where(rim, 0.6 * tissue, np.where(BRAIN, tissue, 0)).astype(np.float32)


def ringing(array: np.ndarray) -> np.ndarray:
    """Shift by a fraction of a voxel and back with cubic splines, which causes ringing."""
    there = ndimage.shift(array, (0.4, -0.3, 0.45), order=3)
    return ndimage.shift(there, (-0.4, 0.3, -0.45), order=3).astype(np.float32)


def faint(array: np.ndarray) -> np.ndarray:
    return np.where(BRAIN, array, np.random.default_rng(3).uniform(0, 0.4, SHAPE)).astype(np.float32)


SPOILT = {
    "ringing": ringing,
    "ringing, stored as whole numbers": lambda array: np.rint(ringing(array)),
    "the minimum": lambda array: np.where(BRAIN, array, MINIMUM),
    "minus one": lambda array: np.where(BRAIN, array, -1.0),
    "a constant just above 0": lambda array: np.where(BRAIN, array, 1e-3),
    "faint noise": faint,
    "z-scored over the whole volume": lambda array: (array - array.mean()) / array.std(),
}


def volumes(arrays: dict[str, np.ndarray]) -> dict[str, Volume]:
    return {s: Volume(np.asarray(a, np.float32), np.eye(4) * [3, 3, 3, 1], f"{s}.nii.gz") for s, a in arrays.items()}


def overlap(mask: np.ndarray) -> float:
    return 2 * (mask & BRAIN).sum() / (mask.sum() + BRAIN.sum())


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("spoilt", [SEQUENCES, ("flair",), ("t1", "t2")], ids=", ".join)
def test_background_is_set_to_0_and_brain_values_are_kept(kind, spoilt):
    arrays = {s: SPOILT[kind](clean(s)) if s in spoilt else clean(s) for s in SEQUENCES}
    given = volumes(arrays)
    cleared, notes = clear_background(given)
    assert len(notes) == len(spoilt) and all(note.startswith(s) for note, s in zip(notes, spoilt, strict=True))
    for sequence in SEQUENCES:
        if sequence not in spoilt:
            assert cleared[sequence] is given[sequence]
            continue
        mask = cleared[sequence].array != 0
        assert overlap(mask) > 0.97, sequence
        inside = mask & BRAIN
        shift = np.unique(np.round(given[sequence].array[inside] - cleared[sequence].array[inside], 3))
        assert len(shift) == 1, "inside, all values move by one constant or none"


def test_the_dark_edge_of_the_brain_stays_where_it_exceeds_the_noise():
    fluid = BRAIN & ~ndimage.binary_erosion(BRAIN)
    fluid[:, :, np.arange(SHAPE[2]) % 6 > 0] = False  # 2 % of the brain
    arrays = {s: faint(np.where(fluid, 8.0, clean(s))) for s in SEQUENCES}
    cleared, _ = clear_background(volumes(arrays))
    assert all(overlap(volume.array != 0) > 0.9999 for volume in cleared.values())


def test_background_of_a_single_sequence_is_cleared():
    cleared, notes = clear_background(volumes({"flair": ringing(clean("flair"))}))
    assert overlap(cleared["flair"].array != 0) > 0.97 and len(notes) == 1


def test_negative_voxels_inside_the_brain_are_not_background():
    given = volumes({s: np.where(BRAIN, clean(s) - 450, 0) for s in SEQUENCES})
    cleared, notes = clear_background(given)
    assert not notes and all(cleared[s] is given[s] for s in SEQUENCES)
    spoilt = volumes({s: ringing(v.array) for s, v in given.items()})
    cleared, notes = clear_background(spoilt)
    assert len(notes) == 4
    assert (np.stack([v.array for v in cleared.values()])[:, BRAIN] < 0).mean() > 0.4


def test_crop_inside_the_brain_has_no_background():
    middle = tuple(slice(n // 2 - 8, n // 2 + 8) for n in SHAPE)
    given = volumes({s: clean(s)[middle] for s in SEQUENCES})
    cleared, notes = clear_background(given)
    assert not notes and all(cleared[s] is given[s] for s in SEQUENCES)


def test_brain_mask_fills_holes_and_drops_specks():
    arrays = {s: ringing(clean(s)) for s in SEQUENCES}
    for array in arrays.values():
        array[26:30, 28:32, 24:28] = 1e-3  # a cyst without signal
        array[2:4, 2:4, 2:4] = 500.0
    cleared, _ = clear_background(volumes(arrays))
    for volume in cleared.values():
        assert (volume.array[26:30, 28:32, 24:28] != 0).all() and not volume.array[:5, :5, :5].any()


@pytest.mark.real
@pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR is not set: no real cases")
def test_clean_real_cases_are_not_changed():
    for case in find_cases(os.environ["BRATS_DIR"])[:4]:
        content = read_case(case, preprocess="auto")
        assert not content.notes and content.preparation is None
        for sequence in SEQUENCES:
            assert np.array_equal(content.volumes[sequence].array, read_volume(case[sequence]).array)


def other_backgrounds(array: np.ndarray) -> dict[str, np.ndarray]:
    """Return the same brain with non-zero backgrounds, and with negative voxels inside."""
    brain, noise = array != 0, np.random.default_rng(3).uniform(0, 1e-3 * array.max(), array.shape)
    return {
        "the minimum": np.where(brain, array, -2 * array.max()),
        "minus one": np.where(brain, array, -1),
        "faint noise": np.where(brain, array, noise),
        "negative inside": np.where(brain, array - np.percentile(array[brain], 30) - 0.5, 0),
    }


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif("BRATS_DIR" not in os.environ, reason="BRATS_DIR is not set: no real cases")
def test_real_cases_with_other_backgrounds_reach_the_dice_of_clean_ones(capsys):
    """Dice differs by at most 0.01; ringing is compared with the same interpolation inside the exact brain."""
    segmenter, lines = Segmenter(device="cpu"), []
    for case in [c for c in find_cases(os.environ["BRATS_DIR"]) if "01477" not in c["case"]]:  # it has no ET
        images = {s: read_volume(case[s]) for s in SEQUENCES}
        truth = read_volume(case["label"]).array
        brain = solid(np.any([v.array != 0 for v in images.values()], axis=0))
        with_ringing = {s: ringing(v.array) for s, v in images.items()}

        def answer(changed: dict[str, np.ndarray], images=images, truth=truth) -> np.ndarray:
            arrays = {s: v.array for s, v in images.items()} | changed
            segmenter.set_case(**{s: (a.astype(np.float32), images[s].affine) for s, a in arrays.items()})
            dice = region_dice(segmenter.segment().label, truth)
            return np.array([dice[f"dice_{region}"] for region in ("WT", "TC", "ET")])

        clean = answer({})
        for spoilt in [*((s,) for s in SEQUENCES), SEQUENCES]:
            wanted = answer({s: np.where(brain, with_ringing[s], 0) for s in spoilt})
            lines.append(
                (case["case"], f"ringing of {', '.join(spoilt)}", answer({s: with_ringing[s] for s in spoilt}), wanted)
            )
        variants = {s: other_backgrounds(v.array) for s, v in images.items()}
        for kind in variants["t1"]:
            lines.append((case["case"], kind, answer({s: kinds[kind] for s, kinds in variants.items()}), clean))
    with capsys.disabled():
        for name, kind, found, wanted in lines:
            print(f"\n{name[-5:]}, {kind}: {found.round(3)}, clean {wanted.round(3)}", end="")
    differences = np.array([np.abs(found - wanted) for *_, found, wanted in lines])
    assert differences.max() <= 0.01
