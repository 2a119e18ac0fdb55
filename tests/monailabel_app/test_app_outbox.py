"""The outbox delivers the newest label to the DICOM server, after restores, removals, failures and restarts."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import RunningServer, wait_for
from stored_segs import find_segs

from brats_label.datastore import CaseDatastore
from brats_label.demo.orthanc import LocalOrthanc
from brats_label.demo.phantom_study import write_study
from brats_label.dicom.client import delete_series
from brats_label.dicom.seg import read_seg
from brats_label.errors import Unreachable
from brats_label.labels.outbox import SegExchange
from brats_label.labels.store import LabelStore
from brats_label.open_store import open_store
from brats_label.settings import Settings, Workspace
from brats_label.studies.dicomweb import DicomWebSource
from brats_label.studies.library import CaseLibrary

pytestmark = [pytest.mark.e2e]
until = functools.partial(wait_for, seconds=30, every=0.05)


@pytest.fixture(scope="module")
def orthanc(needs_orthanc, tmp_path_factory):
    with LocalOrthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def study(orthanc, tiny_data_set, tmp_path):
    """Upload a separate study for each test."""
    written = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "dicom", tmp_path.name)
    orthanc.upload(written.files())
    return written


def open_datastore(url: str, folder: Path, **changed) -> CaseDatastore:
    workspace = Workspace(folder)
    source = DicomWebSource(url, Settings(), workspace.cache)
    exchange, library = SegExchange(source), CaseLibrary(source, workspace.cache)
    given = {"on_stored": exchange.store, "on_removed": exchange.withdraw} | changed
    return CaseDatastore(source, LabelStore(workspace.labels, open_store(workspace)), workspace, library, **given)


@pytest.fixture
def datastore(orthanc, study, tmp_path):
    return open_datastore(orthanc.url, tmp_path / "workspace")


def drawn(datastore, study, folder: Path, size: int) -> Path:
    """Write a cube of oedema on the grid of the T1ce; an empty label for size 0."""
    image = nib.load(datastore.get_image_uri(study.series["t1ce"]))
    array = np.zeros(image.shape, np.uint8)
    array[20 : 20 + size, 20 : 20 + size, 20 : 20 + size] = 2
    path = folder / f"drawn_{size}.nii.gz"
    nib.save(nib.Nifti1Image(array, image.affine), path)
    return path


def save(datastore, study, folder: Path, size: int):
    params = {"user": "anna", "empty": True}
    return datastore.store_label(study.series["t1ce"], drawn(datastore, study, folder, size), "final", params)


def on_server(datastore, study) -> list[tuple[str, str, int]]:
    """Return label, description and voxel count of each SEG on the server, the newest last."""
    image = nib.load(datastore.get_image_uri(study.series["t1ce"]))
    return [
        (ds.ContentLabel, ds.SeriesDescription, int((read_seg(ds, image.affine, image.shape)[0] > 0).sum()))
        for ds in find_segs(datastore.source.client, study.study_uid)
    ]


def test_restored_label_is_the_newest_on_the_server_with_its_version(datastore, study, tmp_path):
    for size in (3, 4):
        assert save(datastore, study, tmp_path, size).delivered is True
    restored = datastore.restore_label(study.series["flair"], 1, "adam")
    assert (restored.revision.number, restored.delivered) == (3, True)
    assert on_server(datastore, study) == [
        ("VERSION_1", "Brain tumour segmentation, version 1", 27),
        ("VERSION_2", "Brain tumour segmentation, version 2", 64),
        ("VERSION_3", "Brain tumour segmentation, version 3", 27),
    ]


def test_removed_label_is_deleted_on_the_server_and_restored_label_is_delivered(datastore, study, tmp_path):
    for size in (3, 4):
        save(datastore, study, tmp_path, size)
    removed = datastore.withdraw_label(study.series["t1ce"], "final", "adam")
    assert (removed.delivered, removed.notes, removed.revision.record["who"]) == (True, (), "adam")
    assert on_server(datastore, study) == []
    datastore.restore_label(study.series["t1ce"], 2, "adam")
    assert [(name, voxels) for name, _, voxels in on_server(datastore, study)] == [("VERSION_4", 64)]


def test_server_without_deletion_is_noted(datastore, study, tmp_path, monkeypatch):
    save(datastore, study, tmp_path, 3)
    monkeypatch.setattr("brats_label.dicom.client._by_orthanc", lambda client, series: False)  # as on other servers
    removed = datastore.withdraw_label(study.series["t1ce"], "final", "adam")
    [note] = removed.notes
    assert "does not delete" in note and "version 1" in note
    assert not datastore.status()["problems"]  # a retry would not help


def test_missing_series_counts_as_deleted(datastore, study):
    assert delete_series(datastore.source.client, study.study_uid, "1.2.3.4")


def test_empty_label_is_delivered(datastore, study, tmp_path):
    save(datastore, study, tmp_path, 3)
    assert save(datastore, study, tmp_path, 0).delivered is True
    assert on_server(datastore, study)[-1] == ("VERSION_2", "Brain tumour segmentation, version 2, no tumour", 0)


def test_failed_delivery_is_reported_survives_a_restart_and_is_retried_once(orthanc, study, tmp_path):
    away, here = [True], tmp_path / "workspace"

    def put(case, label, version):
        if away[0]:
            raise Unreachable("The DICOMweb server at here cannot be reached.")
        exchange.store(case, label, version)

    datastore = open_datastore(orthanc.url, here, on_stored=put)
    exchange = SegExchange(datastore.source)
    for size in (3, 4):
        stored = save(datastore, study, tmp_path, size)
        assert stored.delivered is False and "cannot be reached" in stored.notes[-1]
    [problem] = datastore.status()["problems"]
    assert study.series["t1ce"] in problem and "cannot be reached" in problem
    away[0] = False
    restarted = open_datastore(orthanc.url, here)
    assert restarted.status()["problems"] == [problem]
    restarted.outbox.retry()
    assert [(name, voxels) for name, _, voxels in on_server(restarted, study)] == [("VERSION_2", 64)]
    assert restarted.status()["problems"] == []
    restarted.outbox.retry()
    assert len(on_server(restarted, study)) == 1


def test_label_stored_before_a_kill_is_delivered_later(datastore, study, tmp_path):
    store, label = datastore.labels, nib.load(drawn(datastore, study, tmp_path, 3))
    datastore.outbox.add(study.series["t1ce"])
    store.save(study.series["t1ce"], label, "final", {"who": "anna"})  # the process is killed here
    datastore.outbox.retry()
    assert [name for name, _, _ in on_server(datastore, study)] == ["VERSION_1"]


def test_repeated_delivery_makes_no_second_series(datastore, study, tmp_path):
    stored = save(datastore, study, tmp_path, 3)
    datastore.outbox.add(stored.case.case_id)
    datastore.outbox.retry()
    assert len(on_server(datastore, study)) == 1


def test_successful_delivery_retries_pending_ones(datastore, study, tmp_path, orthanc, tiny_data_set):
    other = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "other", "OTHER", seed=77)
    orthanc.upload(other.files())
    datastore.refresh()
    label = nib.load(drawn(datastore, other, tmp_path, 4))
    datastore.outbox.add(other.series["t1ce"])
    datastore.labels.save(other.series["t1ce"], label, "final", {"who": "anna"})
    save(datastore, study, tmp_path, 3)
    until(lambda: [name for name, _, _ in on_server(datastore, other)] == ["VERSION_1"])


@pytest.mark.slow
def test_clients_get_the_delivery_status_and_a_returning_server_gets_the_label(needs_orthanc, tiny_data_set, tmp_path):
    study = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "dicom", "P")
    conf = {"workspace": tmp_path / "workspace"}
    image = study.series["t1ce"]
    with (
        LocalOrthanc(tmp_path / "orthanc") as orthanc,
        RunningServer(orthanc.url, tmp_path / "server", conf) as server,
    ):
        orthanc.upload(study.files())
        own = open_datastore(orthanc.url, tmp_path / "own")
        until(lambda: requests.get(f"{server.url}/datastore/image?image={image}", timeout=60).ok)

        def put(size: int) -> dict:
            with drawn(own, study, tmp_path, size).open("rb") as file:
                answer = requests.put(
                    f"{server.url}/datastore/label?image={image}",
                    files={"label": file},
                    data={"params": json.dumps({"client_id": "anna", "empty": True})},
                    timeout=60,
                )
            assert answer.status_code == 200, answer.text
            return answer.json()

        told = put(3)
        assert (told["version"], told["passed_on"]) == (1, True)
        params = {"params": json.dumps({"save_label": True, "label_tag": "final"})}
        inferred = requests.post(f"{server.url}/infer/segmentation?image={image}&output=json", data=params, timeout=120)
        assert inferred.status_code == 200, inferred.text
        saved = inferred.json()["saved"]
        assert (saved["version"], saved["passed_on"]) == (2, True) and saved["notes"]
        restored = requests.post(f"{server.url}/datastore/label/restore?image={image}&version=1", timeout=60).json()
        assert (restored["version"], restored["passed_on"]) == (3, True)
        assert on_server(own, study)[-1][0] == "VERSION_3"
        gone = requests.delete(f"{server.url}/datastore/label?id={image}&tag=final", timeout=60).json()
        assert (gone["version"], gone["passed_on"]) == (4, True) and on_server(own, study) == []
        history = requests.get(f"{server.url}/datastore/label/history?image={image}", timeout=60).json()
        assert history[-1]["removed"] and history[-1]["who"] == "admin"  # MONAI Label's name for anyone not logged in

        orthanc.stop()
        told = put(4)
        assert (told["version"], told["passed_on"]) == (5, False)
        assert "cannot be reached" in told["notes"][-1]
        assert "not delivered: The DICOMweb server" in server.text()
        problems = requests.get(f"{server.url}/info/", timeout=60).json()["datastore"]["problems"]
        assert any("not on the DICOM server yet" in problem for problem in problems)
        server.kill()
        orthanc.start()
        server.start()
        until(lambda: [name for name, _, _ in on_server(own, study)] == ["VERSION_5"])
