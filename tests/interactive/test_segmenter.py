"""A case is set once and prompted repeatedly; answers do not depend on earlier cases and prompts."""

from __future__ import annotations

import gc
import json
import os
import time
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import brats_clip
from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.engines import answer_path
from brats_clip.errors import CaseError, InputError, WeightsError
from brats_clip.interactive import Segmentation
from brats_clip.interactive import segmenter as module
from brats_clip.labels import REGIONS
from brats_clip.reports import Consistency, FindingCheck
from tests.interactive.conftest import ALIGNED, GRIDS, arrays, draw, write

REPORT = "Ring-enhancing mass in the right hemisphere. No oedema."
STEPS = {"read", "slices", "encode", "report", "decode", "screen", "clicks", "finish"}


def same(a: Segmentation, b: Segmentation) -> bool:
    return np.array_equal(a.label, b.label) and np.array_equal(a.probabilities["WT"], b.probabilities["WT"])


def differ(a: Segmentation, b: Segmentation) -> bool:
    return not np.array_equal(a.label, b.label)


def test_descriptor_is_the_mean_direction_of_the_slices():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert module.descriptor_of(tokens) == pytest.approx((0.5**0.5, 0.5**0.5))
    assert module.descriptor_of(None) == ()


def middle(grid: str) -> list[int]:
    return [side // 2 for side in GRIDS[grid][1]]


def test_package_exports_segmenter():
    assert brats_clip.Segmenter is Segmenter
    with pytest.raises(AttributeError, match="Segmentor"):
        brats_clip.Segmentor  # noqa: B018


def as_meta(image: np.ndarray, affine: np.ndarray, channel: bool) -> MetaTensor:
    tensor = torch.from_numpy(image.copy())
    return MetaTensor(tensor[None] if channel else tensor, affine=torch.from_numpy(affine))


KINDS_OF_INPUT = {
    "paths": lambda s, image, affine, path: Path(path),
    "images": lambda s, image, affine, path: nib.Nifti1Image(image, affine),
    "images from files": lambda s, image, affine, path: nib.load(path),
    "MetaTensors": lambda s, image, affine, path: as_meta(image, affine, channel=s == "t1"),
    "arrays": lambda s, image, affine, path: (image, affine),
    "a mixture": lambda s, image, affine, path: {"t1": path, "t2": (image, affine)}.get(
        s, nib.Nifti1Image(image, affine)
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict:
    return write(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("kind", KINDS_OF_INPUT)
def test_every_input_type_gives_the_same_answer(segmenter, files, kind):
    segmenter.set_case(**files)
    expected = segmenter.segment(REPORT)
    images = draw()
    segmenter.set_case(**{s: KINDS_OF_INPUT[kind](s, images[s], ALIGNED, files[s]) for s in SEQUENCES})
    assert same(segmenter.segment(REPORT), expected) and set(np.unique(expected.label)) == {0, 1, 2, 4}


@pytest.mark.parametrize("grid", GRIDS)
def test_answer_is_on_the_grid_of_the_case(segmenter, grid):
    affine, shape = GRIDS[grid]
    segmenter.set_case(**arrays(grid), case="p1")
    answer = segmenter.segment(REPORT, {"ET": [middle(grid)]})
    assert answer.case == "p1" and answer.label.shape == shape and answer.label.dtype == np.uint8
    np.testing.assert_allclose(answer.affine, affine)
    assert set(np.unique(answer.label)) <= {0, 1, 2, 4}
    for volumes in (answer.probabilities, answer.attention):
        assert list(volumes) == list(REGIONS)
        for volume in volumes.values():
            assert volume.shape == shape and volume.dtype == np.float32
            assert volume.min() >= 0 and volume.max() <= 1 and volume.max() > volume.min()
    brain = draw(grid)["t1"] > 0
    assert (answer.label[brain] > 0).sum() > 0.8 * (answer.label > 0).sum()


@pytest.mark.parametrize("grid", GRIDS)
def test_masks_are_nested_and_match_the_volumes(segmenter, grid):
    segmenter.set_case(**arrays(grid))
    answer = segmenter.segment()
    wt, tc, et = (answer.masks[region] for region in REGIONS)
    assert wt.dtype == bool and wt.any() and not (tc & ~wt).any() and not (et & ~tc).any()
    assert np.array_equal(wt, answer.label > 0) and np.array_equal(et, answer.label == 4)
    assert np.array_equal(tc, (answer.label == 1) | (answer.label == 4))
    voxel_ml = abs(np.linalg.det(GRIDS[grid][0])) / 1000
    for region, mask in answer.masks.items():
        assert answer.volumes_ml[region] == pytest.approx(mask.sum() * voxel_ml, rel=1e-6)
    assert 40 < answer.volumes_ml["WT"] < 200  # a ball of 92 ml
    np.testing.assert_allclose(answer.voxel_mm, np.linalg.norm(GRIDS[grid][0][:3, :3], axis=0))


def test_probabilities_are_nested_and_agree_with_the_label(segmenter):
    segmenter.set_case(**arrays())
    answer = segmenter.segment()
    wt, tc, et = (answer.probabilities[region] for region in REGIONS)
    assert (tc <= wt).all() and (et <= tc).all()
    for region, mask in answer.masks.items():
        assert (answer.probabilities[region][mask] >= 0.5).all()
    # Small pieces are removed from the masks, but not from the probabilities.
    assert ((wt > 0.5) & ~answer.masks["WT"]).sum() < 0.1 * answer.masks["WT"].sum()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_reoriented_image_gives_a_reoriented_answer(segmenter, axes, flips):
    orientation = np.array(list(zip(axes, flips, strict=True)))
    images = {s: nib.Nifti1Image(image, ALIGNED) for s, image in draw().items()}
    segmenter.set_case(**images)
    expected = segmenter.segment(REPORT)
    segmenter.set_case(**{s: image.as_reoriented(orientation) for s, image in images.items()})
    turned = segmenter.segment(REPORT)
    wanted = nib.Nifti1Image(expected.label, ALIGNED).as_reoriented(orientation)
    assert np.array_equal(turned.label, np.asarray(wanted.dataobj))
    np.testing.assert_allclose(turned.affine, wanted.affine)


def test_prompts_have_an_effect_and_do_not_persist(segmenter):
    segmenter.set_case(**arrays())
    clicks = {"ET": [middle("aligned")]}
    plain, told, clicked = segmenter.segment(), segmenter.segment(REPORT), segmenter.segment(clicks=clicks)
    both = segmenter.segment(REPORT, clicks)
    assert differ(plain, told) and differ(plain, clicked) and differ(told, both) and differ(clicked, both)
    assert same(segmenter.segment(), plain) and same(segmenter.segment(REPORT), told)
    assert same(segmenter.segment(REPORT, clicks), both)


@pytest.mark.parametrize("nothing", [None, "", " \n"])
def test_empty_report_equals_no_report(segmenter, nothing):
    segmenter.set_case(**arrays())
    answer = segmenter.segment(nothing, {})
    assert same(answer, segmenter.segment()) and answer.consistency is None and not answer.report_used


def test_report_path_equals_its_text(segmenter, tmp_path):
    (tmp_path / "report.txt").write_text(f"\ufeff{REPORT}\n")
    segmenter.set_case(**arrays())
    assert same(segmenter.segment(report_path=str(tmp_path / "report.txt")), segmenter.segment(REPORT))
    assert same(segmenter.segment(report_path=tmp_path / "report.txt"), segmenter.segment(REPORT))


def test_report_is_compared_with_the_answer_without_prompts(segmenter):
    segmenter.set_case(**arrays(seed=1))  # a tumour on the right
    right = segmenter.segment("Mass in the right hemisphere.")
    left = segmenter.segment("Mass in the left hemisphere.", {"ET": [middle("aligned")]})
    assert right.consistency.score > 0.9 and not right.consistency.warnings and right.report_used
    assert left.consistency.score < 0.1 and "right" in left.consistency.warnings[0] and not left.report_used
    assert segmenter.segment("Mass in the left hemisphere.").consistency == left.consistency


def test_report_of_another_place_is_used_only_without_screening(segmenter, bundle):
    wrong = "Mass in the left hemisphere."
    segmenter.set_case(**arrays(seed=1))
    assert same(segmenter.segment(wrong), segmenter.segment())
    trusting = Segmenter(bundle, device="cpu", screen_reports=False)
    trusting.set_case(**arrays(seed=1))
    heard = trusting.segment(wrong)
    assert heard.report_used and differ(heard, trusting.segment()) and heard.consistency.score < 0.1


def test_finding_that_the_image_contradicts_is_used_only_without_screening(segmenter, bundle):
    trusting = Segmenter(bundle, device="cpu", screen_reports=False)
    for each in (segmenter, trusting):
        each.set_case(**arrays(seed=6))
    ml = segmenter.segment().volumes_ml
    assert ml["ET"] > 3
    for report, fits in ((f"FLAIR abnormality of {1.2 * ml['WT']:.1f} ml.", True), ("No enhancement.", False)):
        screened, heard = segmenter.segment(report), trusting.segment(report)
        assert screened.report_used and (screened.consistency.warnings == ()) == fits
        assert same(screened, heard) if fits else differ(screened, heard)


def test_unchanged_steps_are_not_repeated(segmenter, tmp_path):
    paths = write(tmp_path, seed=4)
    segmenter.set_case(**paths)
    first = segmenter.segment().seconds
    assert set(first) == STEPS and all(value >= 0 for value in first.values())
    assert first["read"] > 0 and first["encode"] > 0 and first["decode"] > 0 and first["clicks"] < 0.01
    segmenter.set_case(**paths)
    again = segmenter.segment(clicks={"ET": [middle("aligned")]}).seconds
    assert again["read"] == again["slices"] == again["encode"] == again["decode"] == 0 < again["clicks"]
    told = segmenter.segment(REPORT).seconds
    assert told["encode"] == 0 < told["decode"] and told["report"] > 0
    assert segmenter.segment(REPORT).seconds["decode"] == 0


def test_known_files_are_read_again_only_after_a_change(segmenter, tmp_path):
    paths = write(tmp_path, seed=5)
    key = segmenter.set_case(**paths)
    before = segmenter.segment()
    assert segmenter.set_case(**{s: Path(path) for s, path in paths.items()}) == key
    assert segmenter.segment().seconds["encode"] == 0
    for sequence, image in draw(seed=6).items():
        nib.save(nib.Nifti1Image(image, ALIGNED), paths[sequence])
    assert segmenter.set_case(**paths) != key
    after = segmenter.segment()
    assert after.seconds["encode"] > 0 and differ(after, before)
    segmenter.set_case(**arrays(seed=6))
    assert same(segmenter.segment(), after)


def test_other_sequences_of_the_same_files_are_another_case(segmenter, files):
    everything = segmenter.set_case(**files)
    less = segmenter.set_case(**{s: files[s] for s in ("t1ce", "flair")})
    swapped = segmenter.set_case(**{**files, "t1": files["t2"], "t2": files["t1"]})
    assert len({everything, less, swapped}) == 3


def test_case_name_is_the_one_given_last(segmenter, files):
    segmenter.set_case(**files, case="first")
    assert segmenter.segment().case == "first"
    segmenter.set_case(**files, case="second")
    assert segmenter.segment().case == "second"


def test_earlier_cases_are_available_by_key(segmenter):
    keys = [segmenter.set_case(**arrays(seed=seed)) for seed in range(3)]
    assert len(set(keys)) == 3
    last = segmenter.segment()
    assert same(segmenter.segment(case=keys[2]), last)
    assert differ(segmenter.segment(case=keys[0]), last)
    assert same(segmenter.segment(), last)  # segmenting an earlier case does not make it the current one


def test_forgotten_case_is_unknown(segmenter):
    key = segmenter.set_case(**arrays(seed=7))
    segmenter.forget(key)
    for ask in ({"case": key}, {}):
        with pytest.raises(InputError, match="expected a key from set_case"):
            segmenter.segment(**ask)
    segmenter.forget("nonsense")


def test_evicted_case_is_encoded_again_with_the_same_answer(bundle, tmp_path):
    roomy = Segmenter(bundle, device="cpu")
    paths = write(tmp_path, seed=1)
    first = roomy.set_case(**paths)
    answers = [roomy.segment(), roomy.segment(REPORT)]
    one_case = roomy._cache.nbytes
    tight = Segmenter(bundle, device="cpu", cache_bytes=one_case)
    assert tight.set_case(**paths) == first
    assert same(tight.segment(), answers[0])
    files = {seed: write(tmp_path, seed=seed, name=f"BraTS2021_0000{seed}") for seed in (2, 3)}
    others = [tight.set_case(**files[seed]) for seed in (2, 3)]
    again = tight.segment(case=first)
    assert again.seconds["encode"] > 0 and same(again, answers[0])
    assert same(tight.segment(REPORT, case=first), answers[1])
    assert tight._cache.nbytes <= one_case
    for seed, key in zip((2, 3), others, strict=True):
        roomy.set_case(**files[seed])
        assert same(tight.segment(case=key), roomy.segment())
    assert len(roomy._cache) == 3 and len(tight._cache) == 1


def room_for(bundle, images: float, encodings: float) -> int:
    """Return the bytes that the images and the encodings of these numbers of cases take, without a report."""
    roomy = Segmenter(bundle, device="cpu")
    encoded = roomy._cache.get(roomy.set_case(**arrays()))
    roomy.segment()
    return int(images * sum(image.nbytes for image, _ in arrays().values()) + encodings * encoded.nbytes)


def test_evicted_images_in_memory_are_an_error(bundle, tmp_path):
    budget = room_for(bundle, images=2, encodings=1.2)
    segmenter = Segmenter(bundle, device="cpu", cache_bytes=budget)
    file = segmenter.set_case(**write(tmp_path))
    keys = [segmenter.set_case(**arrays(seed=seed), case=f"p{seed}") for seed in range(3)]
    for key in (keys[2], keys[1], file):
        assert segmenter.segment(case=key).label.any() and segmenter._cache.nbytes <= budget
    with pytest.raises(CaseError, match=r"case p0: found images given in memory that had to go .*set_case again"):
        segmenter.segment(case=keys[0])


def test_changed_file_is_not_used_for_a_case_set_before(bundle, tmp_path):
    segmenter = Segmenter(bundle, device="cpu", cache_bytes=0)
    paths = write(tmp_path, seed=1)
    key = segmenter.set_case(**paths)
    before = segmenter.segment()
    nib.save(nib.Nifti1Image(draw(seed=2)["t2"], ALIGNED), paths["t2"])
    os.utime(paths["t2"], ns=(1, 1))
    assert same(segmenter.segment(case=key), before)  # still encoded
    segmenter.set_case(**arrays(seed=3))  # which evicts its encoding
    with pytest.raises(CaseError, match=r"t2\.nii\.gz: found a file that has changed; expected set_case again"):
        segmenter.segment(case=key)
    Path(paths["t2"]).unlink()
    with pytest.raises(CaseError, match=r"t2\.nii\.gz: found no file"):
        segmenter.segment(case=key)


@pytest.mark.parametrize("grid", GRIDS)
def test_answer_holds_no_reference_to_case_or_segmenter(bundle, grid):
    segmenter = Segmenter(bundle, device="cpu")
    key = segmenter.set_case(**arrays(grid))
    answer, twin = segmenter.segment(REPORT), segmenter.segment(REPORT)
    expected = twin.probabilities["WT"], twin.attention["WT"]
    left = [weakref.ref(segmenter), weakref.ref(segmenter._cache.get(key)), weakref.ref(segmenter._network)]
    left.append(weakref.ref(segmenter._cache.get(key).encoded.features[0]))
    segmenter.forget(key)
    del segmenter, twin
    gc.collect()
    assert [ref() for ref in left] == [None] * 4
    assert np.array_equal(answer.probabilities["WT"], expected[0])
    assert np.array_equal(answer.attention["WT"], expected[1])


def test_answer_releases_its_functions_after_evaluation():
    def volumes() -> np.ndarray:
        return np.ones((3, 2, 2, 2), np.float32)

    ref = weakref.ref(volumes)
    fields = {"sequences_used": (), "sequences_missing": (), "report_used": False, "consistency": None, "seconds": {}}
    fields |= {"assessment": volumes, "errors": volumes}
    answer = Segmentation("p", np.zeros((2, 2, 2)), np.eye(4), **fields, probabilities=volumes, attention=volumes)
    del volumes, fields
    gc.collect()
    assert ref() is not None and list(answer.probabilities) == list(answer.attention) == list(REGIONS)
    assert answer.quality.all() and answer.error_probability.all()
    gc.collect()
    assert ref() is None and answer.probabilities["ET"].all()


def test_sentence_of_10000_words_is_read_once(segmenter, monkeypatch):
    read = []
    real = answer_path.compare_with_image
    monkeypatch.setattr(answer_path, "compare_with_image", lambda *a: read.append(a[0]) or real(*a))
    segmenter.set_case(**arrays())
    words = "lesion in the right hemisphere, with oedema and an enhancing rim around necrosis and a " * 800
    words = " ".join(words.split()[:10_000])
    started = time.process_time()
    first = segmenter.segment(words)
    assert time.process_time() - started < 10  # about 3 s on one core, most of it in CLIP
    clicked = segmenter.segment(words, {"ET": [middle("aligned")]})
    assert read == [words] and clicked.consistency == first.consistency and first.report_used
    for other in ("A mass.", "A lesion."):  # as many as the cache keeps
        segmenter.segment(other)
    segmenter.segment(words)
    assert read == [words, "A mass.", "A lesion.", words]


def test_answer_stays_complete_after_its_case_is_evicted(bundle):
    segmenter = Segmenter(bundle, device="cpu", cache_bytes=0)
    segmenter.set_case(**arrays(seed=1))
    old = segmenter.segment(REPORT, {"ET": [middle("aligned")]})
    segmenter.set_case(**arrays(seed=1))
    new = segmenter.segment(REPORT, {"ET": [middle("aligned")]})
    assert same(old, new)
    for region in REGIONS:
        assert np.array_equal(old.attention[region], new.attention[region])


def test_input_arrays_are_copied(bundle):
    given = arrays(seed=1)
    before = {s: image.copy() for s, (image, _) in given.items()}
    segmenter = Segmenter(bundle, device="cpu", cache_bytes=room_for(bundle, images=2, encodings=1.2))
    key = segmenter.set_case(**given)
    expected = segmenter.segment()
    assert all(np.array_equal(before[s], given[s][0]) for s in SEQUENCES)
    for image, _ in given.values():
        image[:] = image[::-1].copy()
    segmenter.set_case(**arrays(seed=2))  # which evicts the encoding of the first case
    again = segmenter.segment(case=key)
    assert again.seconds["encode"] > 0 and same(again, expected)


@pytest.mark.parametrize("given", [("flair",), ("t1",), ("t1", "t2", "flair"), ("t1ce", "flair")])
@pytest.mark.parametrize("grid", GRIDS)
def test_answer_lists_used_and_missing_sequences(segmenter, grid, given):
    case = {s: value for s, value in arrays(grid).items() if s in given}
    segmenter.set_case(**case)
    answer = segmenter.segment(REPORT)
    assert answer.sequences_used == given
    assert answer.sequences_missing == tuple(s for s in SEQUENCES if s not in given)
    assert answer.label.shape == GRIDS[grid][1] and np.allclose(answer.affine, GRIDS[grid][0])
    segmenter.set_case(**arrays(grid))
    whole = segmenter.segment(REPORT)
    assert whole.sequences_used == SEQUENCES and whole.sequences_missing == ()
    assert not np.array_equal(answer.probabilities["WT"], whole.probabilities["WT"])


def test_zero_image_for_a_missing_sequence_is_refused(segmenter):
    """An all-zero image is refused, like any constant image."""
    case = arrays()
    with pytest.raises(CaseError, match="t2"):
        segmenter.set_case(**{**case, "t2": (np.zeros_like(case["t2"][0]), ALIGNED)})


def test_invalid_constructor_arguments_are_errors(bundle, tmp_path):
    with pytest.raises(InputError, match=r"no configs/inference\.json"):
        Segmenter(tmp_path)
    with pytest.raises(WeightsError, match=r"none\.pt: found no file"):
        Segmenter(bundle, checkpoint=tmp_path / "none.pt", device="cpu")
    for cache_bytes in (-1, "2GB"):
        with pytest.raises(InputError, match="cache_bytes"):
            Segmenter(bundle, device="cpu", cache_bytes=cache_bytes)
    nowhere = ["gpu", "meta", 7.5] + ([] if torch.cuda.is_available() else ["cuda", "cuda:1"])
    for device in nowhere:
        with pytest.raises(
            InputError, match=rf"device: found '{device}'.*; expected cpu, or cuda where there is a GPU"
        ):
            Segmenter(tmp_path, device=device)  # before anything is read
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt"):
        Segmenter(bundle, checkpoint=tmp_path / "other.pt", device="cpu")


@pytest.mark.parametrize("keep", [True, False])
def test_keep_memory_option_controls_the_allocator(bundle, monkeypatch, keep):
    called = []
    monkeypatch.setattr(module, "keep_freed_memory", lambda: called.append(True))
    Segmenter(bundle, device="cpu", keep_memory=keep)
    assert bool(called) == keep


def test_other_weights_give_other_answers(segmenter, bundle, tmp_path):
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    state["head.logits.bias"] = state["head.logits.bias"] + 0.5
    torch.save(state, tmp_path / "other.pt")
    other = Segmenter(bundle, checkpoint=tmp_path / "other.pt", device="cpu")
    for one in (segmenter, other):
        one.set_case(**arrays())
    assert other.segment().volumes_ml["WT"] > segmenter.segment().volumes_ml["WT"]
    assert other.checkpoint == str(tmp_path / "other.pt")


def test_answer_repr_states_case_volumes_and_consistency():
    check = FindingCheck("side", "left", "left", 0.9)
    label = np.zeros((10, 10, 10), np.uint8)
    label[:5, :5, :4] = 2
    parts = {"sequences_used": SEQUENCES, "sequences_missing": (), "seconds": {}, "report_used": True}
    parts |= dict.fromkeys(("probabilities", "attention", "assessment", "errors"), lambda: label)
    with_report = Segmentation("p1", label, np.diag([2.0, 2, 2, 1]), consistency=Consistency(0.934, (check,)), **parts)
    without = Segmentation("p1", label, np.diag([2.0, 2, 2, 1]), consistency=None, **parts)
    volumes = "WT 0.8 ml, TC 0.0 ml, ET 0.0 ml"
    assert repr(with_report) == f"Segmentation(p1: {volumes}, consistency 0.93)"
    assert str(without) == f"Segmentation(p1: {volumes})"


@pytest.mark.parametrize("grid", GRIDS)
def test_answer_has_expected_dice_and_places_to_check(segmenter, grid):
    segmenter.set_case(**arrays(grid))
    answer = segmenter.segment()
    assert list(answer.expected_dice) == list(REGIONS) and all(0 <= d <= 1 for d in answer.expected_dice.values())
    assert json.loads(json.dumps(answer.quality.to_dict())) == answer.quality.to_dict()
    assert answer.quality.fitted is False  # no quality model was fitted for these weights
    assert answer.error_probability.shape == answer.label.shape
    assert 0 <= answer.error_probability.min() < 0.2 < answer.error_probability.max() <= 1
    assert answer.look_here or answer.volumes_ml["TC"] < 1  # a core this small may have no place worth checking
    for place in answer.look_here:
        assert all(0 <= v < size for v, size in zip(place["voxel"], answer.label.shape, strict=True))
        assert np.allclose((answer.affine @ [*place["voxel"], 1])[:3], place["ras_mm"], atol=0.1)
        assert place["region"] in REGIONS and place["ml"] > 0 and f"slice {place['slices']['axial']}" in place["text"]


def test_clicked_place_is_not_listed_again(segmenter):
    segmenter.set_case(**arrays())
    place = segmenter.segment().look_here[0]
    again = segmenter.segment(clicks=[(place["answered"], place["voxel"])]).look_here
    assert all(np.linalg.norm(np.subtract(other["ras_mm"], place["ras_mm"])) > 4 for other in again)


def test_quality_is_computed_lazily_and_once(segmenter, monkeypatch):
    asked = []
    monkeypatch.setattr("brats_clip.engines.answer_path.assess", lambda *given: asked.append(given) or "found")
    segmenter.set_case(**arrays())
    answer = segmenter.segment()
    assert not asked
    assert answer.quality == answer.quality == "found" and len(asked) == 1
