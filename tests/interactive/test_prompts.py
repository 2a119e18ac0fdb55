"""Clicks and reports at their limits are either obeyed or refused with a reason."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from brats_clip import Segmenter
from brats_clip.clicks import KINDS
from brats_clip.errors import CaseError, InputError, ReportError
from tests.interactive.conftest import ALIGNED, GRIDS, arrays, write

LABELS = {"WT": {1, 2, 4}, "TC": {1, 4}, "ET": {4}, "NCR": {1}, "ED": {2}, "background": {0}}


def corners(grid: str) -> list[tuple]:
    return list(itertools.product(*((0, side - 1) for side in GRIDS[grid][1])))


@pytest.fixture(params=GRIDS)
def grid(request, segmenter) -> str:
    segmenter.set_case(**arrays(request.param))
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_click_is_obeyed_at_any_position(segmenter, grid, kind):
    """In the tumour, in healthy brain, and in each corner of the volume, far outside the network's input."""
    shape = GRIDS[grid][1]
    tumour = np.argwhere(segmenter.segment().label > 0)[::40]
    voxels = [*map(tuple, tumour), tuple(side // 2 for side in shape), tuple(side // 3 for side in shape)]
    for voxel in voxels + corners(grid):
        answer = segmenter.segment(clicks={kind: [voxel]})
        assert int(answer.label[tuple(voxel)]) in LABELS[kind], voxel


def test_many_clicks_of_all_kinds_are_all_obeyed(segmenter, grid):
    random = np.random.default_rng(0)
    cells = random.permutation(np.prod(GRIDS[grid][1]))[:60]
    voxels = np.stack(np.unravel_index(cells, GRIDS[grid][1]), axis=1).tolist()
    clicks = {kind: voxels[10 * i : 10 * i + 10] for i, kind in enumerate(KINDS)}
    label = segmenter.segment(clicks=clicks).label
    for kind, positions in clicks.items():
        assert {int(label[tuple(voxel)]) for voxel in positions} <= LABELS[kind]


def test_world_and_voxel_clicks_give_the_same_label(segmenter, grid):
    affine, shape = GRIDS[grid]
    voxels = [[shape[0] // 2, shape[1] // 2, shape[2] // 2], [shape[0] // 3, shape[1] // 2, shape[2] // 2]]
    world = (np.c_[voxels, np.ones(2)] @ affine.T)[:, :3]
    a = segmenter.segment(clicks={"NCR": voxels[:1], "background": voxels[1:]})
    b = segmenter.segment(clicks={"NCR": world[:1], "background": world[1:]}, space="world")
    assert np.array_equal(a.label, b.label) and a.label[tuple(voxels[0])] == 1


@pytest.mark.parametrize(("first", "second"), [("ET", "background"), ("background", "ET"), ("ED", "NCR")])
def test_later_of_contradicting_clicks_wins(segmenter, grid, first, second):
    voxel = [side // 2 for side in GRIDS[grid][1]]
    label = segmenter.segment(clicks={first: [voxel], second: [voxel]}).label
    assert int(label[tuple(voxel)]) in LABELS[second]


@pytest.mark.parametrize("last", ["ET", "background"])
def test_alternating_kinds_are_obeyed_in_order(segmenter, grid, last):
    voxel = [side // 2 for side in GRIDS[grid][1]]
    first = {"ET": "background", "background": "ET"}[last]
    label = segmenter.segment(clicks=[(last, voxel), (first, voxel), (last, voxel)]).label
    assert int(label[tuple(voxel)]) in LABELS[last]


def test_pairs_and_positions_by_kind_give_the_same_label(segmenter, grid):
    voxel = [side // 2 for side in GRIDS[grid][1]]
    near = [voxel[0] - 3, *voxel[1:]]
    pairs = segmenter.segment(clicks=[("ET", voxel), ("background", near)])
    assert np.array_equal(pairs.label, segmenter.segment(clicks={"ET": [voxel], "background": [near]}).label)


def test_clicked_piece_of_tumour_is_kept_however_small(segmenter):
    """At 4 mm, pieces below four voxels are removed; the piece that results from a click may be smaller."""
    segmenter.set_case(**arrays())
    plain = segmenter.segment().label
    for voxel in ((22, 26, 8), (30, 20, 22)):
        label = segmenter.segment(clicks={"WT": [voxel]}).label
        assert label[voxel] > 0
        assert plain[voxel] == 0


def test_1000_clicks_are_obeyed_within_30_seconds(segmenter):
    segmenter.set_case(**arrays())
    random = np.random.default_rng(1)
    cells = random.permutation(np.prod(GRIDS["aligned"][1]))[:1000]
    voxels = np.stack(np.unravel_index(cells, GRIDS["aligned"][1]), axis=1)
    kinds = list(KINDS)
    clicks = {kind: voxels[i::6].tolist() for i, kind in enumerate(kinds)}
    started = time.process_time()
    label = segmenter.segment(clicks=clicks).label
    assert time.process_time() - started < 30
    for i, kind in enumerate(kinds):
        assert {int(label[tuple(voxel)]) for voxel in voxels[i::6]} <= LABELS[kind]


def test_report_of_10000_words_is_read_to_its_end(segmenter):
    segmenter.set_case(**arrays())
    words = "The lesion in the right hemisphere enhances in a ring around necrosis with some oedema. " * 715
    assert len(words.split()) > 10_000
    a = segmenter.segment(words)
    b = segmenter.segment(f"{words} No enhancement at all.")
    assert a.report_used and not np.array_equal(a.probabilities["ET"], b.probabilities["ET"])


@pytest.mark.parametrize(
    ("clicks", "what"),
    [
        ({"ET": [(44, 0, 0)]}, "outside the volume"),
        ({"ET": [(22, 26, 20), (0, -1, 0)]}, "outside the volume"),
        ({"oedema": [(1, 1, 1)]}, "one of WT, TC, ET, NCR, ED, background"),
        ({"ET": [(1, 1)]}, "three finite numbers"),
        ({"ET": [(1, 1, float("nan"))]}, "three finite numbers"),
        ({"ET": (1, 1, 1)}, "three finite numbers"),
        ([(1, 1, 1)], "positions by kind"),
        ({"ET": [(1, 1, 1)] * 1001}, "at most 1000"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_invalid_clicks_are_refused_naming_the_case(segmenter, clicks, what):
    segmenter.set_case(**arrays(), case="p7")
    with pytest.raises(InputError, match=what) as error:
        segmenter.segment(clicks=clicks)
    assert "clicks of case p7" in str(error.value)


def test_world_click_outside_and_an_unknown_space_are_refused(segmenter):
    segmenter.set_case(**arrays())
    with pytest.raises(InputError, match="outside"):
        segmenter.segment(clicks={"ET": [(500, 0, 0)]}, space="world")
    with pytest.raises(InputError, match="space: found 'mm'"):
        segmenter.segment(clicks={"ET": [(1, 1, 1)]}, space="mm")


def test_unreadable_report_is_refused(segmenter, tmp_path):
    segmenter.set_case(**arrays())
    (tmp_path / "binary.txt").write_bytes(b"\x00\x01 report")
    paths = [{"report_path": path} for path in (tmp_path / "binary.txt", str(tmp_path / "none.txt"))]
    for report in (*paths, {"report": "a \x00 b"}):
        with pytest.raises(ReportError):
            segmenter.segment(**report)


def test_path_given_as_a_report_is_used_as_text_and_logs_a_hint(segmenter, tmp_path, caplog):
    segmenter.set_case(**arrays())
    segmenter.segment(str(tmp_path / "none.txt"))
    assert "report_path" in caplog.text and str(tmp_path) not in caplog.text


@pytest.mark.parametrize("report", [5, ["A mass."], b"A mass."])
def test_report_that_is_not_text_is_refused(segmenter, report):
    segmenter.set_case(**arrays())
    with pytest.raises(InputError, match="report"):
        segmenter.segment(report)


def test_segment_before_set_case_is_an_error(bundle):
    segmenter = Segmenter(bundle, device="cpu")
    with pytest.raises(InputError, match="set_case before segment"):
        segmenter.segment()
    with pytest.raises(InputError, match=r"'nonsense'; expected a key from set_case"):
        segmenter.segment(case="nonsense")


def spoilt(**changes) -> dict:
    return {**arrays(), **changes}


IMAGE = arrays()["t1"][0]


@pytest.mark.parametrize(
    ("case", "what"),
    [
        ({}, "no sequence.*t1, t1ce, t2, flair"),
        (spoilt(t1="/nowhere/t1.nii.gz"), "t1.nii.gz: found no file"),
        (spoilt(t2=IMAGE), "t2: found a ndarray; expected a path"),
        (spoilt(t2=(IMAGE, ALIGNED * np.nan)), "t2.*affine"),
        (spoilt(t2=(IMAGE, np.eye(3))), "t2.*affine"),
        (spoilt(flair=(np.where(IMAGE > 0, np.nan, IMAGE), ALIGNED)), "flair.*NaN"),
        (spoilt(flair=(np.full_like(IMAGE, 7), ALIGNED)), "flair.*7 in every voxel"),
        (spoilt(flair=(IMAGE[..., 0], ALIGNED)), "flair.*3D"),
        (spoilt(flair=object()), "flair: found a object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_case_error_names_the_sequence(segmenter, case, what):
    kept = segmenter.set_case(**arrays(seed=3))
    with pytest.raises(CaseError, match=what):
        segmenter.set_case(**case, case="p9")
    # The previous case is not used in its place, and is still available by its key.
    with pytest.raises(InputError, match="set_case before segment"):
        segmenter.segment()
    assert segmenter.segment(case=kept).label.any()


@pytest.mark.parametrize(
    ("t2", "what"),
    [((IMAGE[..., :-1], ALIGNED), "t2.*grid of 44 x 52 x 39"), ((IMAGE, ALIGNED + np.eye(4)), "t2.*grid")],
)
def test_sequence_on_another_grid_is_refused_without_preprocessing(bundle, t2, what):
    with pytest.raises(CaseError, match=what):
        Segmenter(bundle, device="cpu", preprocess="never").set_case(**spoilt(t2=t2))


def test_one_file_for_two_sequences_is_refused(segmenter, tmp_path):
    paths = write(tmp_path)
    with pytest.raises(CaseError, match="one file for t1 and t2"):
        segmenter.set_case(**{**paths, "t2": paths["t1"]})
