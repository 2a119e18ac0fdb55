"""A case keeps its id and patient permanently, so that no label is orphaned and no patient changes its side."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from app_folders import FREE, tiny_case, tiny_image
from sqlalchemy import select

from brats_clip.errors import InputError
from brats_label import store
from brats_label.datastore import CaseDatastore
from brats_label.doctor.served import look
from brats_label.labels.store import LabelStore
from brats_label.open_store import open_store
from brats_label.settings import Settings, Workspace
from brats_label.studies.dicomweb import DicomWebSource
from brats_label.studies.dicomweb.series import SeriesHeader
from brats_label.studies.dicomweb.series_choice import choose
from brats_label.studies.dicomweb.study_record import StudyRecord
from brats_label.studies.folder import FolderSource
from brats_label.studies.identity import Identities, Identity
from brats_label.studies.library import CaseLibrary
from brats_label.studies.open import open_studies


def open_source(studies: Path, **settings) -> FolderSource:
    return open_studies(str(studies), Settings(**settings))[0]


def open_datastore(studies: Path) -> CaseDatastore:
    source, workspace = open_studies(str(studies), Settings())
    library = CaseLibrary(source, workspace.cache)
    return CaseDatastore(source, LabelStore(workspace.labels, open_store(workspace)), workspace, library, studies)


def visit(folder: Path) -> None:
    for number, name in enumerate(FREE.values()):
        tiny_image(folder / name, seed=number)


def save_label(datastore: CaseDatastore, case_id: str, folder: Path) -> None:
    label = np.zeros((4, 5, 6), np.uint8)
    label[1:3, 1:3, 1:3] = 2
    nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "drawn.nii.gz")
    datastore.save_label(case_id, str(folder / "drawn.nii.gz"), "final", {"client_id": "anna"})


@pytest.mark.parametrize("restart", [False, True])
def test_labelled_case_keeps_its_id_when_a_case_of_the_same_name_appears(studies, tmp_path, restart):
    visit(studies / "alice" / "baseline")
    datastore = open_datastore(studies)
    patient = datastore.source.cases()["baseline"].patient
    save_label(datastore, "baseline", tmp_path)
    visit(studies / "bob" / "baseline")
    datastore = open_datastore(studies) if restart else datastore
    datastore.refresh()
    assert datastore.get_labeled_images() == ["baseline"]
    assert datastore.get_unlabeled_images() == ["bob__baseline"]
    assert datastore.source.cases()["baseline"].patient == patient
    assert Path(datastore.get_image_uri("baseline")).parent == studies / "alice" / "baseline"


def test_id_of_a_missing_case_is_not_reused(studies):
    visit(studies / "alice" / "baseline")
    assert list(open_source(studies).cases()) == ["baseline"]
    shutil.move(studies / "alice", studies.parent / "away")
    visit(studies / "bob" / "baseline")
    assert list(open_source(studies).cases()) == ["bob__baseline"]
    shutil.move(studies.parent / "away", studies / "alice")
    assert sorted(open_source(studies).cases()) == ["baseline", "bob__baseline"]


def test_new_case_ids_are_unique_ignoring_letter_case(studies):
    tiny_case(studies / "a" / "x", "CASE")
    assert list(open_source(studies).cases()) == ["CASE"]
    tiny_case(studies / "b" / "x", "case")
    tiny_case(studies / "b_x", "case")
    tiny_case(studies / "b" / "x" / "y", "b__x__case")
    ids = list(open_source(studies).cases())
    assert "CASE" in ids and len({case_id.lower() for case_id in ids}) == 4
    assert list(open_source(studies).cases()) == ids


def test_cases_of_one_folder_and_name_keep_their_ids(studies):
    tiny_case(studies / "p", "CASE")
    first = open_source(studies).cases()
    tiny_image(studies / "p" / "CASE.nii.gz", (4, 5, 6, 4))
    again = open_source(studies).cases()
    assert len(again) == 2 and again["CASE"].images == first["CASE"].images
    tiny_case(studies / "p", "CASE", "-{}.nii.gz", ("t1n", "t1c", "t2w", "t2f"))
    assert len(open_source(studies).cases()) == 3


def test_folder_name_that_is_not_utf8_gets_a_stable_id(studies):
    folder = Path(str(studies) + "/" + b"Zo\xeb".decode("utf-8", "surrogateescape"))
    visit(folder)
    assert list(open_source(studies).cases()) == list(open_source(studies).cases()) == ["Zo_"]


def written_down(studies: Path) -> dict[str, Identity]:
    with open_store(Workspace(studies)).read() as connection:
        rows = connection.execute(select(store.cases.c["place", "case_id", "patient"])).all()
    return {place: Identity(case_id, patient) for place, case_id, patient in rows}


def test_identities_are_stored_and_a_damaged_store_is_refused(studies):
    visit(studies / "alice")
    open_source(studies).cases()
    assert written_down(studies) == {"alice/alice": Identity("alice", "alice")}
    store.close_idle()
    path = Workspace(studies).store
    path.write_bytes(path.read_bytes()[:5000] + b"x" * 5000)
    with pytest.raises(InputError, match="backup"):
        open_source(studies)


def test_doctor_writes_no_identities(studies):
    visit(studies / "alice")
    look(str(studies), Settings())
    assert sorted(path.name for path in studies.iterdir()) == ["alice"]


def test_full_disk_hides_no_case(studies, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    visit(studies / "alice")
    source = open_source(studies)
    monkeypatch.setattr(store.Store, "write", full)
    assert list(source.cases()) == ["alice"] and "No space left" in caplog.text
    monkeypatch.undo()
    visit(studies / "bob")
    source.refresh()
    assert set(written_down(studies)) == {"alice/alice", "bob/bob"}


def test_concurrent_servers_agree_on_identities(tmp_path):
    path, start = tmp_path / "state" / "store.db", threading.Barrier(4)

    def name(number: int) -> list[Identity]:
        mine = Identities(store.Store(path))
        start.wait()
        places = [f"p{i}" for i in range(5)]
        return mine.of(places, lambda new, taken: [Identity(f"{number}-{i}", str(number)) for i in new])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(name, range(4)))
    assert found[0] == found[1] == found[2] == found[3]


STUDY = "1.9"
T1, T1CE, T2, FLAIR, LATER = ("1.9.1", "1.9.2", "1.9.3", "1.9.4", "1.9.5")


def series(uid: str, description: str, acquired: str = "20200101100000") -> SeriesHeader:
    return SeriesHeader(uid, description=description, slices=100, slice_mm=1.0, pixel_mm=(1, 1), acquired=acquired)


FOUR = (series(T1, "AX T1"), series(T1CE, "AX T1 POST GD"), series(T2, "AX T2"), series(FLAIR, "AX FLAIR"))


def dicom_source(headers, tmp_path: Path, patient: str = "p", **settings) -> DicomWebSource:
    """Return a source that has just listed one study."""
    workspace = Workspace(tmp_path)
    source = DicomWebSource(
        "http://127.0.0.1:9/dicom-web",
        Settings(**settings),
        workspace.cache,
        identities=Identities(open_store(workspace)),
    )
    record = StudyRecord(STUDY, patient, "", None, {h.uid: h for h in headers}, {}, (), choose(headers))
    source._studies.replace_listing({STUDY: record})
    source._studies.looked = float("inf")
    return source


def test_study_keeps_its_id_when_series_and_settings_change(tmp_path):
    first = dicom_source(FOUR[:1] + FOUR[2:], tmp_path)
    [(case_id, case)] = first.cases().items()
    assert case_id == FLAIR == case.images["flair"].image_id
    for headers, settings, reference in (
        (FOUR, {}, T1CE),
        ((*FOUR, series(LATER, "AX T1 POST GD", "20200101103000")), {}, None),
        (FOUR, {"reference": "t2"}, T2),
    ):
        source = dicom_source(headers, tmp_path, "renamed", **settings)
        [(again, found)] = source.cases().items()
        assert (again, found.patient) == (FLAIR, "p")
        assert reference in (None, found.images[found.reference].image_id)
        # The answer is on the grid of the series that a viewer shows.
        for sequence, image in found.images.items():
            assert source.resolve(image.image_id) == (found, sequence)
        assert source.resolve(STUDY) == (found, found.reference)


def test_former_series_of_a_study_id_still_resolves_to_the_study(tmp_path):
    dicom_source(FOUR, tmp_path)
    without = tuple(header for header in FOUR if header.uid != T1CE)
    source = dicom_source((*without, series(LATER, "AX T1 POST GD")), tmp_path)
    case, sequence = source.resolve(T1CE)
    assert (case.case_id, sequence, case.images["t1ce"].image_id) == (T1CE, "t1ce", LATER)


def patients(studies: Path) -> dict[str, str]:
    return {case_id: case.patient for case_id, case in open_source(studies).cases().items()}


def test_visits_in_one_folder_belong_to_one_patient(studies):
    for place in ("carol/visit1", "carol/visit2/anat", "dave/visit1", "erin"):
        visit(studies / place)
    tiny_image(studies / "carol" / "visit3.nii.gz", (4, 5, 6, 4))
    tiny_image(studies / "frank.nii.gz", (4, 5, 6, 4))
    assert patients(studies) == {
        "anat": "carol",
        "carol__visit1": "carol",
        "visit3": "carol",
        "dave__visit1": "dave",
        "erin": "erin",
        "frank": "frank",
    }


@pytest.mark.parametrize(
    "above", ["training", "site1", "Site B", "HGG", "Task01_BrainTumour/imagesTr", "BraTS2021_TrainingData", "data/val"]
)
def test_collection_folder_is_not_a_patient(studies, above):
    visit(studies / above / "carol" / "visit1")
    visit(studies / above / "carol" / "visit2")
    visit(studies / above / "dave")
    tiny_image(studies / above / "BRATS_001.nii.gz", (4, 5, 6, 4))
    tiny_case(
        studies / above / "BraTS-GLI-00002-001", "BraTS-GLI-00002-001", "-{}.nii.gz", ("t1n", "t1c", "t2w", "t2f")
    )
    assert set(patients(studies).values()) == {"carol", "dave", "BRATS_001", "BraTS-GLI-00002"}


@pytest.mark.parametrize("name", ["Traina", "Parton", "Valerie", "patient1", "sub-01", "Testa", "case_7", "Imogen"])
def test_a_patients_folder_is_not_taken_for_a_collection(studies, name):
    visit(studies / name / "visit1")
    visit(studies / name / "visit2")
    assert set(patients(studies).values()) == {name}


def test_study_fingerprint_depends_on_series_and_instance_counts(tmp_path):
    source = dicom_source(FOUR, tmp_path)
    [case] = source.cases().values()
    first = source.fingerprint(case)
    source._studies.records[STUDY].counts[T2] = 101
    assert source.fingerprint(case) != first and not Workspace(tmp_path).cache.exists()
