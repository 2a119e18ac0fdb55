"""The review queue: states, order, stopping estimate, acceptance, agreement, thumbnails, and the CSV export."""

from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from review_archive import Archive, ball

from brats_label.case_info import Notes
from brats_label.errors import Conflict, NotFound
from brats_label.labels import prediction_of
from brats_label.review.agreement import Agreements, agreement
from brats_label.review.export import labels_as_csv
from brats_label.review.queue import summary
from brats_label.review.thumbnail import HEIGHT, draw_thumbnail


@pytest.fixture
def archive(tmp_path) -> Archive:
    return Archive(tmp_path)


def test_rows_have_a_state_and_open_cases_are_sorted_by_expected_gain(archive):
    archive.add("new", "good", "bad", "unpredicted", "edited", "corrected", "accepted")
    for case_id, dice in (("good", 0.9), ("bad", 0.2), ("unpredicted", None), ("edited", 0.5), ("accepted", 0.7)):
        archive.suggest(case_id, dice)
    archive.leases.grant("edited", "random", "bob")
    archive.label("corrected", "anna")
    archive.queue.accept("accepted", "carol")
    rows = {row.case_id: row for row in archive.queue.rows()}
    assert list(rows) == ["bad", "edited", "good", "new", "unpredicted", "accepted", "corrected"]
    assert {case_id: row.described for case_id, row in rows.items()} == {
        "new": "new",
        "good": "pre-annotated",
        "bad": "pre-annotated",
        "unpredicted": "pre-annotated",
        "edited": "being edited by bob until 00:13 UTC",
        "corrected": "corrected by anna",
        "accepted": "accepted by carol",
    }
    told = rows["edited"].to_dict()
    assert (told["editor"], told["until"], told["gain"]) == ("bob", "2023-11-15T00:13:20+00:00", 0.5)
    assert rows["new"].gain is None and rows["unpredicted"].version == 1


def test_stopping_estimate_covers_unread_cases(archive):
    assert summary(archive.queue.rows())["sentence"] == "There are no cases."
    archive.add("a", "b", "c", "d")
    assert "4 cases have no prediction yet" in summary(archive.queue.rows())["sentence"]
    for case_id, dice in (("a", 0.5), ("b", 0.8), ("c", 0.9)):
        archive.suggest(case_id, dice)
    archive.label("a", "anna")
    found = summary(archive.queue.rows())
    assert found["sentence"] == "The other 2 cases have an expected mean Dice of 0.85; 1 more has no prediction."
    assert (found["remaining"], found["without_prediction"], found["expected_mean_dice"]) == (3, 1, pytest.approx(0.85))
    assert found["states"] == {"corrected": 1, "pre-annotated": 2, "new": 1}
    for case_id in "bcd":
        archive.label(case_id, "anna")
    assert summary(archive.queue.rows())["sentence"] == "Every case has a label."


def test_stopping_estimate_warns_if_the_expected_dice_was_not_fitted(archive):
    archive.add("a", "b")
    archive.suggest("a", 0.9)
    archive.suggest("b", 0.7, quality_fitted=False)
    sentence = summary(archive.queue.rows())["sentence"]
    assert sentence.startswith("The 2 cases have an expected mean Dice of 0.80. Predicted quality was not fitted")
    assert archive.queue.accept("b", "anna").revision.record["quality_fitted"] is False
    assert "not fitted" not in summary(archive.queue.rows())["sentence"]  # b has its final label


def test_accept_stores_the_pre_annotation_as_final_label_with_its_prediction(archive):
    archive.add("a")
    made = archive.suggest("a", 0.7, look_here=[{"region": "ET"}])
    archive.leases.grant("a", "random", "anna")
    stored = archive.queue.accept("a", "anna", version=1).revision
    np.testing.assert_array_equal(nib.load(stored.path).dataobj, nib.load(made.path).dataobj)
    record = stored.record
    assert (record["who"], record["accepted_from"], record["clicks"]) == ("anna", 1, 0)
    assert record["expected_dice"]["ET"] == 0.7 and record["look_here"] == [{"region": "ET"}]
    row = archive.queue.row("a")
    assert (row.state, row.until, row.readers) == ("accepted", None, ("anna",))


def test_invalid_accept_is_refused_with_the_reason(archive):
    archive.add("new", "taken", "done", "changed")
    for case_id in ("taken", "done", "changed", "changed"):
        archive.suggest(case_id, 0.5)
    archive.leases.grant("taken", "random", "bob")
    archive.label("done", "anna")
    for case_id, error, says in (
        ("new", NotFound, "has no pre-annotation"),
        ("taken", Conflict, "being edited by bob until"),
        ("done", Conflict, "is corrected by anna"),
        ("changed", Conflict, "version 2 now"),
        ("nobody", NotFound, "no such case"),
    ):
        with pytest.raises(error, match=says):
            archive.queue.accept(case_id, "carol", version=1)
    assert archive.labels.labelled() == ["done"]


def test_concurrent_accepts_succeed_once(archive):
    archive.add("a")
    archive.suggest("a", 0.5)

    def accept(who: str) -> str:
        try:
            archive.queue.accept("a", who)
        except Conflict:
            return ""
        return who

    with ThreadPoolExecutor(8) as pool:
        done = [who for who in pool.map(accept, map(str, range(8))) if who]
    assert len(done) == 1 and archive.queue.row("a").readers == tuple(done)
    assert len(archive.labels.history("a")) == 2


def test_lease_is_exclusive_and_given_back_only_by_its_holder(archive):
    archive.add("a")
    assert archive.queue.lease("a", "anna").editor == "anna"
    for refused in (archive.queue.lease, archive.queue.give_back):
        with pytest.raises(Conflict, match="being edited by anna"):
            refused("a", "bob")
    assert archive.queue.give_back("a", "anna").state == "new"
    assert archive.queue.lease("a", "bob").editor == "bob"


def test_restored_label_keeps_its_readers_and_removed_label_has_none(archive):
    archive.add("a")
    archive.label("a", "anna")
    archive.label("a", "bob", value=1)
    archive.labels.restore("a", 1, {"who": "admin"})
    assert archive.queue.row("a").readers == ("anna", "bob")
    archive.labels.remove("a", "final", {"who": "admin"})
    assert archive.queue.row("a").readers == () and archive.queue.row("a").open


def test_agreement_of_two_readers_is_dice_and_hd95_per_region(archive):
    same, smaller = (np.asarray(ball(4, radius).dataobj) for radius in (4.0, 3.0))
    found = agreement(same, smaller, (1, 1, 2))
    expected = 2 * smaller.astype(bool).sum() / (same.astype(bool).sum() + smaller.astype(bool).sum())
    assert found["ET"]["dice"] == pytest.approx(expected, abs=1e-4) and 1 <= found["ET"]["hd95_mm"] <= 3
    assert agreement(same, same, (1, 1, 1))["WT"] == {"dice": 1.0, "hd95_mm": 0.0}
    core = np.where(same, 1, 0).astype(np.uint8)
    assert agreement(same, core, (1, 1, 1))["TC"]["dice"] == 1.0
    assert agreement(same, core, (1, 1, 1))["ET"] == {"dice": 0.0, "hd95_mm": 373.13}

    archive.add("twice", "once")
    archive.label("once", "anna")
    archive.label("twice", "anna", value=4)
    archive.label("twice", "bob", value=1)
    agreements = Agreements(archive.queue, Notes(archive.store))
    report = agreements.report(archive.queue.rows())
    assert report["cases"]["twice"]["readers"] == ["anna", "bob"] and set(report["cases"]) == {"twice"}
    assert report["mean"]["WT"] == {"dice": 1.0, "hd95_mm": 0.0} and report["mean"]["ET"]["dice"] == 0.0
    archive.label("twice", "bob", value=4)  # compared again
    assert agreements.report(archive.queue.rows())["mean"]["ET"]["dice"] == 1.0


def test_csv_export_has_author_time_and_clicks_and_escapes_formulas(archive):
    archive.add("a")
    archive.suggest("a", 0.7)
    archive.queue.accept("a", "anna")
    archive.label("a", "=cmd()", seconds=312.5, clicks=7, comment='said "no"\nand more', when="2026-11-28T10:00:00")
    archive.labels.remove("a", "final", {"who": "admin"})
    rows = list(csv.DictReader(io.StringIO(labels_as_csv(archive.labels.by_case()), newline="")))
    assert [(r["case"], r["version"], r["who"], r["state"]) for r in rows] == [
        ("a", "2", "anna", "accepted"),
        ("a", "3", "'=cmd()", "corrected"),
    ]
    assert (rows[0]["expected_dice_ET"], rows[0]["clicks"], rows[0]["seconds"]) == ("0.7", "0", "")
    assert (rows[1]["seconds"], rows[1]["clicks"], rows[1]["comment"]) == ("312.5", "7", 'said "no"\nand more')
    assert float(rows[1]["ml_WT"]) > 0 and rows[0]["when"]


def test_prediction_is_read_from_incomplete_records():
    assert prediction_of({}) == {"expected_dice": {}, "look_here": [], "quality_fitted": True}
    assert prediction_of({"expected_dice": {"WT": 0.5, "TC": None}, "look_here": None})["expected_dice"] == {"WT": 0.5}
    assert prediction_of({"quality": {"fitted": False}})["quality_fitted"] is False


def test_thumbnail_shows_the_slice_with_most_tumour_in_radiological_orientation(tmp_path):
    image = np.full((20, 20, 10), 50, np.float32)
    image[:, :, 7] = 100
    label = np.zeros(image.shape, np.uint8)
    label[2:6, 8:12, 7] = 4  # low x in LAS: the patient's right
    for affine, left in ((np.diag([-1, 1, 1, 1]), False), (np.diag([1, 1, 1, 1]), True)):
        nib.save(nib.Nifti1Image(image, affine.astype(float)), tmp_path / "t1ce.nii.gz")
        nib.save(nib.Nifti1Image(label, affine.astype(float)), tmp_path / "label.nii.gz")
        drawn = draw_thumbnail(tmp_path / "t1ce.nii.gz", tmp_path / "label.nii.gz")
        pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
        assert pixels.shape == (HEIGHT, HEIGHT, 3)
        coloured = np.abs(pixels[..., 0] - pixels[..., 2]) > 20
        columns = np.flatnonzero(coloured.any(axis=0))
        assert len(columns) and (columns.mean() > HEIGHT / 2) == left
    plain = draw_thumbnail(tmp_path / "t1ce.nii.gz", None)
    assert Image.open(io.BytesIO(plain)).size == (HEIGHT, HEIGHT)
