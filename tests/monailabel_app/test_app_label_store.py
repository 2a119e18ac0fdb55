"""The label store: versions, the current label, and labels copied in by hand."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import datetime, timedelta, timezone

import nibabel as nib
import numpy as np
import pytest
from app_folders import voxels

from brats_label.errors import NotFound, Refused, Unreachable
from brats_label.labels import store as label_store
from brats_label.labels.store import LabelStore
from brats_label.store import Store

AFFINE = np.diag([2.0, 2, 2, 1])
WHO = {"who": "reader-1", "client_id": "slicer", "model": "segmentation", "model_version": "v3", "comment": "rim"}


def label(number: int = 1) -> nib.Nifti1Image:
    """Return a label that is different for each number."""
    array = np.zeros((8, 9, 10), np.uint8)
    array.ravel()[: 10 + number] = 2
    array[4:6, 4:6, 4:6], array[4, 4, 4] = 4, 1
    return nib.Nifti1Image(array, AFFINE)


def same(path, expected: nib.Nifti1Image) -> bool:
    return np.array_equal(voxels(path), np.asarray(expected.dataobj))


def open_labels(root):
    return LabelStore(root, Store(root.parent / "store.db"))


@pytest.fixture
def store(tmp_path):
    return open_labels(tmp_path / "labels")


def test_saved_label_is_in_the_folder_of_monai_label(store):
    version = store.save("CASE", label(), "final", WHO)
    final = store.root / "final" / "CASE.nii.gz"
    assert store.current_path("CASE") == final
    assert same(final, label()) and same(version.path, label())
    assert nib.load(final).get_data_dtype() == np.uint8
    np.testing.assert_allclose(nib.load(final).affine, AFFINE)


def test_record_has_author_time_model_and_volumes(store):
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    version = store.save("CASE", label(), "final", WHO)
    [found] = open_labels(store.root).history("CASE")
    assert found == version
    record = json.loads(json.dumps(found.record))
    assert WHO.items() <= record.items()
    assert before < datetime.fromisoformat(record["when"]) < datetime.now(timezone.utc) + timedelta(seconds=1)
    assert record["sha256"] == hashlib.sha256(version.path.read_bytes()).hexdigest()
    array = np.asarray(label().dataobj)
    assert record["volumes_ml"]["WT"] == pytest.approx((array > 0).sum() * 0.008)
    assert record["volumes_ml"]["ET"] == pytest.approx(7 * 0.008)


def test_earlier_versions_are_kept(store):
    versions = [store.save("CASE", label(number), "final", WHO) for number in range(3)]
    assert [v.number for v in store.history("CASE")] == [1, 2, 3]
    assert all(same(version.path, label(number)) for number, version in enumerate(versions))
    assert store.current("CASE").number == 3


def test_original_label_does_not_replace_the_final_label(store):
    store.save("CASE", label(1), "final", WHO)
    store.save("CASE", label(2), "original", WHO)
    assert store.current("CASE", "final").number == 1
    assert same(store.root / "final" / "CASE.nii.gz", label(1))
    assert same(store.root / "original" / "CASE.nii.gz", label(2))
    assert store.labelled("final") == store.labelled("original") == ["CASE"]


def test_restored_version_becomes_a_new_version(store):
    store.save("CASE", label(1), "final", WHO, as_drawn=label(5))
    store.save("CASE", label(2), "final", WHO)
    version = store.restore("CASE", 1, {"who": "reader-2"})
    assert (version.number, version.tag, version.record["restored_from"]) == (3, "final", 1)
    assert (version.record["who"], version.record["drawn_by"]) == ("reader-2", "reader-1")
    assert same(store.current_path("CASE"), label(1)) and same(version.as_drawn, label(5))
    with pytest.raises(NotFound, match="it has 1, 2, 3"):
        store.restore("CASE", 7)


def test_label_as_drawn_is_kept_beside_its_version(store):
    version = store.save("CASE", label(1), "final", WHO, as_drawn=label(7))
    assert version.as_drawn == store.root / "versions" / "CASE" / "0001_as_drawn.nii.gz"
    assert same(version.as_drawn, label(7))


def test_removed_label_is_not_current_and_its_versions_stay(store):
    version = store.save("CASE", label(), "final", WHO)
    store.remove("CASE", "final", {"who": "admin"})
    assert store.current("CASE") is None and store.current_path("CASE") is None
    assert store.labelled() == []
    assert not (store.root / "final" / "CASE.nii.gz").exists()
    assert same(version.path, label())
    assert store.history("CASE")[-1].removed and store.history("CASE")[-1].record["who"] == "admin"
    with pytest.raises(NotFound):
        store.remove("CASE", "final", {})
    assert open_labels(store.root).labelled() == []
    assert same(store.restore("CASE", 1).path, label())


@pytest.mark.parametrize("case_id", ["../CASE", "a/b", ".hidden", "", "..", "a\0b", "a\nb", "x" * 300])
def test_unsafe_case_id_is_not_found(store, case_id):
    with pytest.raises(NotFound):
        store.save(case_id, label(), "final", WHO)
    with pytest.raises(NotFound):
        store.current(case_id)


def test_an_unknown_tag_is_refused(store):
    with pytest.raises(Refused, match="final or original"):
        store.save("CASE", label(), "../../etc", WHO)


def test_failed_save_changes_nothing(store, monkeypatch):
    store.save("CASE", label(1), "final", WHO)
    before = {path: path.read_bytes() for path in store.root.rglob("*.*") if path.is_file()}

    def full(table):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(label_store, "insert", full)
    with pytest.raises(OSError, match="space"):
        store.save("CASE", label(2), "final", WHO)
    monkeypatch.undo()
    assert same(store.current_path("CASE"), label(1))
    again = open_labels(store.root)
    assert {path: path.read_bytes() for path in store.root.rglob("*.*") if path.is_file()} == before
    assert again.save("CASE", label(2), "final", WHO).number == 2


def test_new_store_repairs_what_a_killed_process_left(store):
    store.save("CASE", label(1), "final", WHO)
    old = (store.root / "final" / "CASE.nii.gz").read_bytes()
    store.save("CASE", label(2), "final", WHO)
    store.save("OTHER", label(3), "final", WHO)
    (store.root / "final" / "CASE.nii.gz").write_bytes(old)  # the version exists, but its copy was not made
    (store.root / "final" / "OTHER.nii.gz").unlink()
    (store.root / "final" / ".tmp-1-CASE.nii.gz").write_bytes(b"half")
    (store.root / "versions" / "CASE" / ".tmp-1-0003.json").write_bytes(b"{")
    (store.root / "versions" / "CASE" / "0003.nii.gz").write_bytes(old)  # no record: never acknowledged
    again = open_labels(store.root)
    assert again.labelled() == ["CASE", "OTHER"]
    assert same(again.root / "final" / "CASE.nii.gz", label(2))
    assert same(again.root / "final" / "OTHER.nii.gz", label(3))
    assert [v.number for v in again.history("CASE")] == [1, 2]
    assert not list(again.root.rglob(".tmp-*")) and not (store.root / "versions" / "CASE" / "0003.nii.gz").exists()


def test_two_stores_on_one_folder_see_each_others_labels(store):
    other = open_labels(store.root)
    assert other.labelled() == []
    for number in range(1, 6):
        writer, reader = (store, other) if number % 2 else (other, store)
        assert writer.save("CASE", label(number), "final", WHO).number == number
        assert reader.current("CASE").number == number
        assert same(reader.current_path("CASE"), label(number))


def test_concurrent_saves_get_distinct_versions(store):
    got, lock = [], threading.Lock()

    def annotate(reader):
        for number in range(8):
            case = f"CASE_{number % 2}"
            version = store.save(case, label(reader * 10 + number), "final", {"who": f"reader-{reader}"})
            with lock:
                got.append((case, version.number, reader * 10 + number))

    threads = [threading.Thread(target=annotate, args=(reader,)) for reader in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((case, number) for case, number, _ in got) == [(f"CASE_{c}", n) for c in (0, 1) for n in range(1, 17)]
    history = {(v.case_id, v.number): v for case in ("CASE_0", "CASE_1") for v in store.history(case)}
    for case, number, drawn in got:
        assert same(history[case, number].path, label(drawn))
        assert history[case, number].record["who"] == f"reader-{drawn // 10}"
    assert all(same(store.current_path(case), nib.load(store.current(case).path)) for case in ("CASE_0", "CASE_1"))


def by_hand(store, number, name="CASE.nii.gz", tag="final"):
    nib.save(label(number), store.root / tag / name)
    return store.root / tag / name


def test_label_copied_in_by_hand_becomes_a_version_after_validation(store):
    store.save("CASE", label(1), "final", WHO)
    path = by_hand(store, 2)
    content = path.read_bytes()
    assert store.unimported_files() == [("CASE", "final")]
    assert same(store.current_path("CASE"), label(1))  # until it is validated
    asked = []
    taken = store.import_found(lambda case, file: asked.append((case, file)) or nib.load(file))
    assert asked == [("CASE", path)]
    assert [(v.number, v.record["who"]) for v in taken] == [(2, "found on disk")]
    assert same(store.current_path("CASE"), label(2)) and store.current_path("CASE") == path
    assert content in [p.read_bytes() for p in (store.root / "versions" / "CASE").glob("found_*")]
    assert store.unimported_files() == [] and store.import_found(None) == []


def refuse(case, file):
    raise Refused("The label lies on another grid.")


def test_invalid_label_copied_in_by_hand_is_reported_and_not_used(store):
    store.save("CASE", label(1), "final", WHO)
    path = by_hand(store, 2)
    content = path.read_bytes()
    assert store.import_found(refuse) == []
    assert store.problems() == ["final/CASE.nii.gz: The label lies on another grid."]
    assert path.read_bytes() == content
    assert store.unimported_files() == []
    assert same(store.current_path("CASE"), label(1))
    assert same(open_labels(store.root).current_path("CASE"), label(1))
    store.save("CASE", label(3), "final", WHO)
    assert store.problems() == []
    assert content in [p.read_bytes() for p in (store.root / "versions" / "CASE").glob("found_*")]


def test_invalid_label_is_validated_again_after_a_change(store):
    by_hand(store, 2)
    store.import_found(refuse)
    by_hand(store, 3)
    assert store.problems() == []
    assert store.unimported_files() == [("CASE", "final")]


def test_unreachable_server_does_not_make_a_label_invalid(store):
    by_hand(store, 2)

    def unreachable(case, file):
        raise Unreachable("The DICOMweb server does not answer.")

    assert store.import_found(unreachable) == [] and store.problems() == []
    assert store.unimported_files() == [("CASE", "final")]


def test_file_name_that_is_no_case_id_is_reported(store):
    by_hand(store, 1, "my label (2).nii.gz")
    assert store.unimported_files() == []
    assert "my label (2).nii.gz" in store.problems()[0]


@pytest.mark.parametrize("name", ["CASE.nii", "CASE.nrrd", "CASE.seg.nrrd"])
def test_label_copied_in_by_hand_in_another_format_is_reported(store, name):
    (store.root / "final" / name).write_bytes(b"label")
    assert [problem for problem in store.problems() if problem.startswith(f"final/{name}: not used")]
