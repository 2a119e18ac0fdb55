"""The datastore: a patient is one image, whichever sequence a client shows, and no label is lost."""

from __future__ import annotations

import io
import json
import shutil
import threading
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from app_folders import as_four_d, voxels
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from sqlalchemy import select, update

from brats_clip.cases import SEQUENCES
from brats_label.datastore import CaseDatastore
from brats_label.errors import NotFound, Refused
from brats_label.labels.store import LabelStore
from brats_label.open_store import open_store
from brats_label.settings import Settings, Workspace
from brats_label.store import revisions
from brats_label.studies.folder import FolderSource
from brats_label.studies.library import CaseLibrary

CASE, OTHER = "PHANTOM_0", "PHANTOM_1"
WHO = {"client_id": "user-xyz", "comment": "rim redrawn", "report": "a secret finding"}


def resampled(path: Path) -> None:
    """Overwrite an image with thick slices in another orientation."""
    image = nib.load(path)
    array = np.asarray(image.dataobj)[:, :, ::2]
    affine = image.affine @ np.diag([1, 1, 2, 1])
    turned = np.ascontiguousarray(array[::-1].transpose(1, 0, 2))
    swap = np.eye(4)[[1, 0, 2, 3]]
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = array.shape[0] - 1
    nib.save(nib.Nifti1Image(turned, affine @ flip @ swap), path)


@pytest.fixture(scope="module")
def studies_once(tiny_data_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for case in (CASE, OTHER):
        shutil.copytree(tiny_data_set.folder / case, folder / case)
    resampled(folder / CASE / f"{CASE}_flair.nii.gz")
    return folder


@pytest.fixture
def studies(studies_once, tmp_path):
    return Path(shutil.copytree(studies_once, tmp_path / "studies"))


def open_datastore(studies: Path, settings: Settings = Settings(), **options) -> CaseDatastore:  # noqa: B008
    workspace = Workspace(studies)
    source = FolderSource(studies, settings, workspace.cache)
    library = CaseLibrary(source, workspace.cache)
    labels = LabelStore(workspace.labels, open_store(workspace))
    return CaseDatastore(source, labels, workspace, library, studies, **options)


@pytest.fixture
def datastore(studies):
    return open_datastore(studies)


def truth(studies: Path, case: str = CASE) -> nib.Nifti1Image:
    return nib.load(studies / case / f"{case}_seg.nii.gz")


def drawn_on(datastore, image_id: str, folder: Path, value: int = 2) -> Path:
    """Write a label with a box on the grid of the image shown."""
    image = nib.load(datastore.get_image_uri(image_id))
    array = np.zeros(image.shape[:3], np.uint8)
    middle = [size // 2 for size in array.shape]
    array[tuple(slice(centre - 5, centre + 5) for centre in middle)] = value
    path = folder / f"drawn_{value}.nii.gz"
    nib.save(nib.Nifti1Image(array, image.affine), path)
    return path


def centre_mm(image: nib.Nifti1Image) -> np.ndarray:
    where = np.argwhere(np.asarray(image.dataobj)).mean(axis=0)
    return image.affine[:3, :3] @ where + image.affine[:3, 3]


def test_datastore_implements_the_interface_and_keeps_its_description(datastore):
    assert isinstance(datastore, Datastore) and not CaseDatastore.__abstractmethods__
    datastore.set_name("Ward 7")
    datastore.set_description("Follow-ups")
    again = open_datastore(datastore.workspace.root)
    assert (again.name(), again.description()) == ("Ward 7", "Follow-ups")


def test_a_patient_is_one_image(datastore):
    assert datastore.list_images() == [CASE, OTHER]
    assert datastore.get_unlabeled_images() == [CASE, OTHER]
    assert datastore.status()["total"] == 2 and datastore.status()["completed"] == 0


def test_image_id_selects_a_sequence(datastore, studies):
    for sequence in SEQUENCES:
        assert Path(datastore.get_image_uri(f"{CASE}@{sequence}")) == studies / CASE / f"{CASE}_{sequence}.nii.gz"
    assert datastore.get_image_uri(CASE) == datastore.get_image_uri(f"{CASE}@t1ce")
    content = (studies / CASE / f"{CASE}_t1ce.nii.gz").read_bytes()
    assert datastore.get_image(CASE).read() == content


def test_image_info_lists_chosen_images_with_reasons(datastore):
    info = json.loads(json.dumps(datastore.get_image_info(f"{CASE}@flair")))
    assert (info["case"], info["image"], info["sequence"], info["reference"]) == (
        CASE,
        f"{CASE}@flair",
        "flair",
        "t1ce",
    )
    assert set(info["sequences"]) == set(SEQUENCES) and info["missing"] == [] and info["left_out"] == []
    assert info["sequences"]["t2"]["image"] == f"{CASE}@t2" and info["sequences"]["t2"]["reason"]
    assert datastore.get_image_info(CASE)["name"].endswith(".nii.gz")


def test_image_info_updates_survive_a_restart(datastore):
    datastore.update_image_info(f"{CASE}@t2", {"strategy": {"random": {"ts": 5}}})
    datastore.update_image_info(CASE, {"dice": 0.5})
    datastore.get_image_info(CASE)["strategy"]["random"]["ts"] = 6  # changes only a copy
    for store in (datastore, open_datastore(datastore.workspace.root)):
        info = store.get_image_info(CASE)
        assert info["strategy"] == {"random": {"ts": 5}} and info["dice"] == 0.5
    assert "dice" not in datastore.get_image_info(OTHER)
    with pytest.raises(Refused, match="JSON"):
        datastore.update_image_info(CASE, {"what": {1, 2}})


def test_a_label_is_saved_and_found(datastore, studies):
    label = studies / CASE / f"{CASE}_seg.nii.gz"
    assert datastore.save_label(CASE, str(label), DefaultLabelTag.FINAL, dict(WHO)) == CASE
    assert datastore.get_labeled_images() == [CASE] and datastore.get_unlabeled_images() == [OTHER]
    assert datastore.get_label_by_image_id(f"{CASE}@t1", "final") == CASE
    assert datastore.get_labels_by_image_id(CASE) == {"final": CASE}
    assert datastore.get_label_by_image_id(OTHER, "final") == ""
    path = studies / "labels" / "final" / f"{CASE}.nii.gz"
    assert datastore.get_label_uri(CASE, "final") == str(path)
    np.testing.assert_array_equal(voxels(path), np.asarray(truth(studies).dataobj))
    assert datastore.get_label(CASE, "final").read() == path.read_bytes()
    assert datastore.status()["completed"] == 1 and datastore.status()["label_tags"] == {"final": 1}
    assert datastore.list_images() == [CASE, OTHER]  # the label is not listed as an image


def test_label_info_names_the_author_and_omits_the_report(datastore, studies):
    label = studies / CASE / f"{CASE}_seg.nii.gz"
    params = {"model": "segmentation", "params": {"model": {"version": "v7"}, "report": "a secret finding"}, **WHO}
    datastore.save_label(CASE, label, "final", params)
    info = json.loads(json.dumps(datastore.get_label_info(CASE, "final")))
    expected = {
        "who": "user-xyz",
        "model": "segmentation",
        "model_version": "v7",
        "comment": "rim redrawn",
        "version": 1,
    }
    assert expected.items() <= info.items() and info["volumes_ml"]["WT"] > 0
    kept = [path.read_text() for path in studies.rglob("*.json")]
    assert kept and not any("secret" in text for text in kept)
    datastore.update_label_info(CASE, "final", {"checked": True})
    assert datastore.get_label_info(CASE, "final")["checked"]
    datastore.save_label(CASE, label, "final", {"user": "dr-b", **WHO})
    info = datastore.get_label_info(CASE, "final")
    assert info["who"] == "dr-b" and info["version"] == 2 and "checked" not in info


def test_label_drawn_on_another_grid_is_resampled_to_the_case_and_back(datastore, studies, tmp_path):
    drawn = drawn_on(datastore, f"{CASE}@flair", tmp_path)
    stored = datastore.store_label(f"{CASE}@flair", drawn, "final", WHO)
    label, image = nib.load(datastore.get_label_uri(CASE, "final")), nib.load(datastore.get_image_uri(CASE))
    assert label.shape == image.shape
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-4)
    np.testing.assert_allclose(centre_mm(label), centre_mm(nib.load(drawn)), atol=4.1)
    assert "Drawn on flair" in " ".join(stored.notes)
    np.testing.assert_array_equal(voxels(stored.revision.as_drawn), voxels(drawn))
    assert stored.revision.as_drawn.name == "0001_as_drawn.nii.gz"
    back = nib.load(datastore.get_label_uri(f"{CASE}@flair", "final"))
    np.testing.assert_array_equal(np.asarray(back.dataobj), voxels(drawn))
    np.testing.assert_allclose(back.affine, nib.load(drawn).affine, atol=1e-4)
    later = drawn_on(datastore, f"{CASE}@flair", tmp_path, value=4)
    datastore.save_label(f"{CASE}@flair", later, "final", WHO)
    np.testing.assert_array_equal(voxels(datastore.get_label_uri(f"{CASE}@flair", "final")), voxels(later))


def test_label_on_the_wrong_grid_is_refused_and_the_earlier_one_stays(datastore, studies, tmp_path):
    datastore.save_label(CASE, studies / CASE / f"{CASE}_seg.nii.gz", "final", WHO)
    before = Path(datastore.get_label_uri(CASE, "final")).read_bytes()
    page = tmp_path / "label.nii.gz"
    page.write_text("<html>Bad Gateway</html>")
    for wrong, says in ((drawn_on(datastore, f"{CASE}@flair", tmp_path), "another grid"), (page, "HTML")):
        with pytest.raises(Refused, match=says):
            datastore.save_label(CASE, wrong, "final", WHO)
    assert Path(datastore.get_label_uri(CASE, "final")).read_bytes() == before
    assert datastore.get_label_info(CASE, "final")["version"] == 1


def test_label_without_a_voxel_on_the_case_grid_is_refused(datastore, tmp_path):
    path = datastore.source.native_files(datastore.source.resolve(CASE)[0])["flair"]
    image = nib.load(path)
    fine = nib.Nifti1Image(
        np.kron(np.asarray(image.dataobj), np.ones((3, 3, 1))), image.affine @ np.diag([1 / 3, 1 / 3, 1, 1])
    )
    nib.save(fine, path)
    datastore.refresh()
    refused = 0
    for i, j in np.ndindex(3, 3):  # one of nine dots is at a voxel centre of the reference, the others lie between
        array = np.zeros(fine.shape, np.uint8)
        array[60 + i, 60 + j, 10] = 1
        nib.save(nib.Nifti1Image(array, fine.affine), tmp_path / "dot.nii.gz")
        try:
            datastore.save_label(f"{CASE}@flair", tmp_path / "dot.nii.gz", "final", WHO)
        except Refused as error:
            assert "leaves no voxel" in str(error)
            refused += 1
    assert refused >= 7


@pytest.mark.parametrize("image_id", ["NOBODY", "../../etc/passwd", f"{CASE}@t3", f"{CASE}/../{OTHER}", "", "labels"])
def test_an_unknown_id_is_not_found(datastore, studies, image_id):
    label = str(studies / CASE / f"{CASE}_seg.nii.gz")
    before = sorted(studies.rglob("*.nii.gz"))
    for call in (
        lambda: datastore.get_image_uri(image_id),
        lambda: datastore.get_image(image_id),
        lambda: datastore.get_image_info(image_id),
        lambda: datastore.update_image_info(image_id, {"a": 1}),
        lambda: datastore.get_labels_by_image_id(image_id),
        lambda: datastore.get_label_uri(image_id, "final"),
        lambda: datastore.get_label_info(image_id, "final"),
        lambda: datastore.update_label_info(image_id, "final", {}),
        lambda: datastore.save_label(image_id, label, "final", {}),
        lambda: datastore.remove_label(image_id, "final"),
        lambda: datastore.remove_image(image_id),
    ):
        with pytest.raises(NotFound):
            call()
    assert sorted(studies.rglob("*.nii.gz")) == before


def test_missing_label_is_not_found_and_unknown_tag_is_refused(datastore, studies):
    for call in (datastore.get_label_uri, datastore.get_label_info, datastore.remove_label):
        with pytest.raises(NotFound, match="no label"):
            call(CASE, "final")
        with pytest.raises(Refused, match="final or original"):
            call(CASE, "../final")
    with pytest.raises(Refused, match="final or original"):
        datastore.save_label(CASE, studies / CASE / f"{CASE}_seg.nii.gz", "../../x", WHO)


def test_removing_a_label_keeps_its_versions(datastore, studies):
    datastore.save_label(CASE, studies / CASE / f"{CASE}_seg.nii.gz", "final", WHO)
    datastore.remove_label(CASE, "final", user="admin")
    assert datastore.get_labeled_images() == []
    first, removal = datastore.labels.history(CASE)
    assert first.path.exists() and removal.removed and removal.record["who"] == "admin"


def test_removing_an_image_is_refused(datastore, studies):
    with pytest.raises(Refused, match="studies folder"):
        datastore.remove_image(CASE)
    assert (studies / CASE / f"{CASE}_t1ce.nii.gz").exists()


def test_on_stored_is_called_for_final_labels_only(studies):
    heard = []
    datastore = open_datastore(studies, on_stored=lambda *given: heard.append(given))
    label = studies / CASE / f"{CASE}_seg.nii.gz"
    assert datastore.store_label(CASE, label, "original", WHO).delivered is None
    assert datastore.store_label(CASE, label, "final", WHO).delivered is True
    [(case, image, version)] = heard
    assert (case.case_id, version.number, version.tag) == (CASE, 2, "final")
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(truth(studies).dataobj))


@pytest.mark.parametrize("error", [Refused("The server refused the series."), RuntimeError("boom")])
def test_label_is_kept_when_on_stored_fails(studies, error):
    def fail(case, label, version):
        raise error

    datastore = open_datastore(studies, on_stored=fail)
    stored = datastore.store_label(CASE, studies / CASE / f"{CASE}_seg.nii.gz", "final", WHO)
    assert stored.delivered is False and datastore.get_labeled_images() == [CASE]
    assert "The label is stored" in stored.notes[-1] and "boom" not in stored.notes[-1]


def test_datalist_report_ending_in_a_file_name_is_text(datastore, studies):
    (studies / CASE / f"{CASE}_report.txt").write_text("Mass on the left, see /etc/notes.txt")
    datastore.save_label(CASE, studies / CASE / f"{CASE}_seg.nii.gz", "final", WHO)
    [entry] = datastore.datalist()
    assert entry["report"] == "Mass on the left, see /etc/notes.txt"


def test_datalist_images_and_label_are_on_one_grid(datastore, studies, tmp_path):
    datastore.save_label(f"{CASE}@flair", drawn_on(datastore, f"{CASE}@flair", tmp_path), "final", WHO)
    datastore.save_label(OTHER, studies / OTHER / f"{OTHER}_seg.nii.gz", "original", WHO)
    [entry] = datastore.datalist()
    assert entry["case"] == CASE and entry["patient"] and entry["image"] == entry["t1ce"]
    assert entry["report"].strip() == (studies / CASE / f"{CASE}_report.txt").read_text().strip()
    shapes = {nib.load(entry[key]).shape for key in (*SEQUENCES, "label")}
    assert shapes == {nib.load(studies / CASE / f"{CASE}_t1ce.nii.gz").shape}
    label = Path(entry["label"]).read_bytes()
    datastore.save_label(CASE, studies / CASE / f"{CASE}_seg.nii.gz", "final", WHO)
    assert Path(entry["label"]).read_bytes() == label  # a running training keeps its label


def test_a_case_that_cannot_be_read_is_left_out_of_the_datalist(datastore, studies, caplog):
    for case in (CASE, OTHER):
        datastore.save_label(case, studies / case / f"{case}_seg.nii.gz", "final", WHO)
    (studies / OTHER / f"{OTHER}_t2.nii.gz").write_bytes(b"broken")
    assert [entry["case"] for entry in datastore.datalist()] == [CASE]
    assert OTHER in caplog.text
    entries, left_out = datastore.labelled_cases()
    assert [entry["case"] for entry in entries] == [CASE]
    [told] = left_out
    assert told["case"] == OTHER and "expected" in told["reason"] and str(studies) not in told["reason"]


def test_labelled_patients_are_listed_without_opening_files(datastore, studies, monkeypatch):
    datastore.save_label(CASE, studies / CASE / f"{CASE}_seg.nii.gz", "final", WHO)
    datastore.save_label(OTHER, studies / OTHER / f"{OTHER}_seg.nii.gz", "original", WHO)
    monkeypatch.setattr(datastore.source, "native_files", None)
    monkeypatch.setattr(datastore.source, "report", None)
    assert datastore.labelled_patients() == {CASE: datastore.source.resolve(CASE)[0].patient}


def test_labels_copied_in_by_hand_are_used_after_validation(datastore, studies):
    final = studies / "labels" / "final"
    shutil.copy(studies / CASE / f"{CASE}_seg.nii.gz", final / f"{CASE}.nii.gz")
    (final / f"{OTHER}.nii.gz").write_text("<html></html>")
    (final / "NOBODY.nii.gz").write_text("")
    datastore.refresh()
    assert datastore.get_labeled_images() == [CASE]
    assert datastore.get_label_info(CASE, "final")["who"] == "found on disk"
    problems = " ".join(datastore.status()["problems"])
    assert OTHER in problems and "HTML" in problems and "NOBODY" in problems
    assert (final / f"{OTHER}.nii.gz").read_text() == "<html></html>"


def test_labels_present_at_start_are_imported(studies):
    final = studies / "labels" / "final"
    final.mkdir(parents=True)
    shutil.copy(studies / CASE / f"{CASE}_seg.nii.gz", final / f"{CASE}.nii.gz")
    datastore = open_datastore(studies)
    datastore.refresh()  # waits for the thread that imports them
    assert datastore.get_labeled_images() == [CASE] and len(datastore.labels.history(CASE)) == 1


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_4d_file_becomes_a_case(datastore, studies, tmp_path, ending):
    upload = as_four_d(studies / OTHER, tmp_path / f"upload{ending}")
    assert datastore.add_image("NEW_1", str(upload), {"note": "ward 7"}) == "NEW_1"
    assert "NEW_1" in datastore.list_images() and datastore.get_image_info("NEW_1")["note"] == "ward 7"
    np.testing.assert_allclose(
        voxels(datastore.get_image_uri("NEW_1@t2")), voxels(studies / OTHER / f"{OTHER}_t2.nii.gz")
    )
    with pytest.raises(Refused, match="already"):
        datastore.add_image("NEW_1", str(upload), {})


def test_invalid_image_upload_is_refused_and_leaves_no_files(datastore, studies, tmp_path):
    good = as_four_d(studies / OTHER, tmp_path / "good.nii.gz")
    page, flat = tmp_path / "page.nii.gz", tmp_path / "flat.nii.gz"
    page.write_text("<html></html>")
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 4), np.uint8), np.eye(4)), flat)
    (tmp_path / "half.nii.gz").write_bytes(good.read_bytes()[:5000])
    before = sorted(studies.rglob("*"))
    for image_id, path, says in (
        ("NEW", studies / CASE / f"{CASE}_t1.nii.gz", "four 3D files"),
        ("NEW", page, "HTML"),
        ("NEW", flat, "the value 0 in every voxel"),
        ("NEW", tmp_path / "half.nii.gz", "truncated or damaged"),
        ("../NEW", good, "letters, digits"),
        (None, good, "letters, digits"),
        (CASE, good, "already"),
    ):
        with pytest.raises(Refused, match=says):
            datastore.add_image(image_id, str(path), {})
    assert sorted(studies.rglob("*")) == before


def test_dicomweb_datastore_refuses_image_uploads(datastore, studies, tmp_path):
    datastore._studies = None
    with pytest.raises(Refused, match="DICOMweb"):
        datastore.add_image("NEW", str(as_four_d(studies / OTHER, tmp_path / "good.nii.gz")), {})


def test_dataset_archive_can_be_opened_as_a_datastore(datastore, studies, tmp_path):
    with pytest.raises(NotFound, match="No case has a final label"):
        datastore.get_dataset_archive(None)
    for case in (CASE, OTHER):
        datastore.save_label(case, studies / case / f"{case}_seg.nii.gz", "final", WHO)
    with zipfile.ZipFile(datastore.get_dataset_archive(1)) as archive:
        assert archive.testzip() is None
        assert {Path(name).parts[0] for name in archive.namelist()} == {CASE, "metadata.json"}
    with zipfile.ZipFile(io.BytesIO(Path(datastore.get_dataset_archive(None)).read_bytes())) as archive:
        archive.extractall(tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "metadata.json").read_text())[CASE]["who"] == "user-xyz"
    again = open_datastore(tmp_path / "copy")
    assert again.list_images() == [CASE, OTHER]
    np.testing.assert_array_equal(voxels(tmp_path / "copy" / CASE / f"{CASE}_seg.nii.gz"), truth(studies).dataobj)


def test_json_lists_images_and_labels(datastore, studies):
    datastore.save_label(CASE, studies / CASE / f"{CASE}_seg.nii.gz", "final", WHO)
    content = json.loads(json.dumps(datastore.json()))
    assert set(content["objects"]) == {CASE, OTHER}
    assert content["objects"][CASE]["labels"]["final"]["info"]["who"] == "user-xyz"
    assert content["objects"][OTHER]["labels"] == {}
    assert content["objects"][OTHER]["image"]["info"]["case"] == OTHER


def test_concurrent_annotators_lose_no_labels_or_notes(datastore, studies, tmp_path):
    errors, rounds = [], 6

    def annotate(who, image_id, value):
        folder = tmp_path / who
        folder.mkdir()
        path = drawn_on(datastore, image_id, folder, value)
        try:
            for _ in range(rounds):
                datastore.save_label(image_id, path, "final", {"user": who})
                datastore.update_image_info(image_id, {who: value})
        except Exception as error:
            errors.append(error)

    people = [("reader-1", CASE, 2), ("reader-2", CASE, 4), ("reader-3", OTHER, 1)]
    threads = [threading.Thread(target=annotate, args=person) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(datastore.labels.history(CASE)) == 2 * rounds and len(datastore.labels.history(OTHER)) == rounds
    for version in [*datastore.labels.history(CASE), *datastore.labels.history(OTHER)]:
        value = {who: value for who, _, value in people}[version.record["who"]]
        assert set(np.unique(voxels(version.path))) == {0, value}
    assert {"reader-1": 2, "reader-2": 4}.items() <= datastore.get_image_info(CASE).items()


def shifted_flair(studies: Path, mm: float = 3.0) -> None:
    """Replace the FLAIR by the T2, with the origin shifted along the first axis and the same voxels."""
    path = studies / CASE / f"{CASE}_flair.nii.gz"
    image = nib.load(studies / CASE / f"{CASE}_t2.nii.gz")
    affine = image.affine.copy()
    affine[0, 3] += mm
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


@pytest.mark.parametrize("noted", [True, False])
def test_label_keeps_its_position_when_the_reference_changes(studies, tmp_path, noted):
    shifted_flair(studies, mm=8.0)
    datastore = open_datastore(studies)
    drawn = nib.load(drawn_on(datastore, CASE, tmp_path))
    datastore.save_label(CASE, tmp_path / "drawn_2.nii.gz", "final", WHO)
    if not noted:  # as earlier versions stored labels
        with open_store(Workspace(studies)).write() as connection:
            record = dict(connection.scalar(select(revisions.c.record)))
            del record["reference"]
            connection.execute(update(revisions).values(record=record))
    again = open_datastore(studies, Settings(reference="flair"))
    on_t1ce = nib.load(again.get_label_uri(f"{CASE}@t1ce", "final"))
    np.testing.assert_array_equal(np.asarray(on_t1ce.dataobj), np.asarray(drawn.dataobj))
    np.testing.assert_allclose(on_t1ce.affine, drawn.affine, atol=1e-4)
    found = centre_mm(drawn) + np.array(
        [8, 0, 0]
    )  # registration aligns the FLAIR by its content, whatever its header says
    for shown in (CASE, f"{CASE}@flair"):
        label, image = nib.load(again.get_label_uri(shown, "final")), nib.load(again.get_image_uri(shown))
        np.testing.assert_allclose(label.affine, image.affine, atol=1e-4)
        np.testing.assert_allclose(centre_mm(label), found, atol=2.1)
    assert ("flair" in again.get_label_info(CASE, "final").get("resampled", "")) == noted
    [entry] = again.datalist()
    label, image = nib.load(entry["label"]), nib.load(entry["flair"])
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-4)
    np.testing.assert_allclose(centre_mm(label), found, atol=2.1)
    # The stored label is the drawn one; it is returned unchanged once the reference is the old one again.
    back = open_datastore(studies)
    assert "resampled" not in back.get_label_info(CASE, "final")
    assert Path(back.get_label_uri(CASE, "final")) == studies / "labels" / "final" / f"{CASE}.nii.gz"
    assert back.datalist()[0]["label"].endswith("0001.nii.gz")


def test_label_is_resampled_when_the_missing_reference_arrives_later(studies, tmp_path):
    t1ce = studies / CASE / f"{CASE}_t1ce.nii.gz"
    t1ce.rename(tmp_path / t1ce.name)
    datastore = open_datastore(studies)
    path = drawn_on(datastore, CASE, tmp_path)  # on the thick FLAIR
    datastore.save_label(CASE, path, "final", WHO)
    (tmp_path / t1ce.name).rename(t1ce)
    datastore = open_datastore(studies)
    label, image = nib.load(datastore.get_label_uri(CASE, "final")), nib.load(t1ce)
    assert label.shape == image.shape
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-4)
    np.testing.assert_allclose(centre_mm(label), centre_mm(nib.load(path)), atol=4.1)


def test_label_outside_its_case_is_left_out_of_training_and_reported(studies, tmp_path):
    datastore = open_datastore(studies)
    for case in (CASE, OTHER):
        datastore.save_label(case, studies / case / f"{case}_seg.nii.gz", "final", WHO)
    for path in (studies / CASE).glob(f"{CASE}_*.nii.gz"):  # exported again at another position
        image = nib.load(path)
        affine = image.affine.copy()
        affine[:3, 3] += 1000
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)
    datastore = open_datastore(studies)
    assert [entry["case"] for entry in datastore.datalist()] == [OTHER]
    [problem] = datastore.status()["problems"]
    assert CASE in problem and "lies nowhere in t1ce" in problem
    assert datastore.get_label_uri(CASE, "final") == str(studies / "labels" / "final" / f"{CASE}.nii.gz")


def test_status_lists_files_that_form_no_case(studies):
    (studies / "Other").mkdir()
    shutil.copy(studies / CASE / f"{CASE}_t1.nii.gz", studies / "Other" / "image.nii.gz")
    [problem] = open_datastore(studies).status()["problems"]
    assert problem.startswith("Other: image.nii.gz")
