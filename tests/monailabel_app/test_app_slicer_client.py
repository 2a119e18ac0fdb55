"""MONAI Label's client class, as the Slicer module uses it: info, inference, sessions, labels and training."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from app_folders import copy_cases
from app_server import RunningServer, wait_for
from monailabel.client import MONAILabelClient

from brats_clip.cases import SEQUENCES, find_cases

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tiny_data_set, tmp_path_factory):
    studies = tmp_path_factory.mktemp("studies")
    copy_cases(tiny_data_set, studies)
    with RunningServer(studies, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(server, tmp_path):
    return MONAILabelClient(server.url, str(tmp_path), "annotator-1")


def test_info_lists_models_strategies_and_cases(client):
    info = client.info()
    assert info["models"]["segmentation"]["type"] == "segmentation"
    assert info["models"]["deepedit"]["type"] == "deepedit"
    assert info["models"]["segmentation"]["config"]["report"] == ""
    assert info["models"]["segmentation"]["labels"] == {"NCR/NET": 1, "ED": 2, "ET": 4, "TC": 5, "WT": 6}
    assert list(info["strategies"]) == ["expected_gain", "random"]
    assert info["datastore"]["total"] == 3


def test_next_sample_serves_each_patient_once(client):
    served, seconds = [], []
    for _ in range(3):
        begun = time.monotonic()
        served.append(client.next_sample("random", {}))
        seconds.append(time.monotonic() - begun)
    assert sorted(sample["id"] for sample in served) == ["PHANTOM_0", "PHANTOM_1", "PHANTOM_2"]
    assert all(Path(sample["path"]).name == f"{sample['id']}_t1ce.nii.gz" for sample in served)
    assert sorted(seconds)[1] < 1


def test_report_and_click_are_applied_and_reported(client):
    file, told = client.infer("segmentation", "PHANTOM_0", {"report": "No enhancement is seen."})
    plain = np.asarray(nib.load(file).dataobj)
    assert nib.load(file).shape == (48, 60, 48) and set(np.unique(plain)) <= {0, 1, 2, 4}
    assert told["report"]["from"] == "typed" and told["sequences_used"] == list(SEQUENCES)
    assert told["volumes_ml"]["WT"] > 0 and told["model"]["version"] and told["seconds"]["total"] > 0
    assert set(told["label_names"].values()) == set(np.unique(plain)) - {0}

    file, told = client.infer("segmentation", "PHANTOM_0", {})
    assert told["report"]["from"] == "found with the case" and "consistency" in told["report"]

    voxel = [int(v) for v in np.argwhere(plain == 0)[len(np.argwhere(plain == 0)) // 2]]
    file, told = client.infer("deepedit", "PHANTOM_0", {"ET": [voxel], "background": []})
    assert np.asarray(nib.load(file).dataobj)[tuple(voxel)] == 4 and told["clicks"] == {"ET": 1}


def test_region_output_on_another_sequence_has_its_own_label_value(client):
    whole, _ = client.infer("segmentation", "PHANTOM_0@flair", {"output": "WT"})
    tissues, _ = client.infer("segmentation", "PHANTOM_0", {})
    whole, tissues = (np.asarray(nib.load(f).dataobj) for f in (whole, tissues))
    np.testing.assert_array_equal(whole == 6, tissues > 0)


def test_session_image_is_segmented(client, server, tmp_path):
    names = [f"PHANTOM_0_{sequence}.nii.gz" for sequence in SEQUENCES]
    stack = np.stack([nib.load(Path(server.studies) / "PHANTOM_0" / name).get_fdata() for name in names], axis=-1)
    affine = nib.load(Path(server.studies) / "PHANTOM_0" / names[0]).affine
    nib.save(nib.Nifti1Image(stack.astype(np.int16), affine), tmp_path / "visitor.nii.gz")
    four_d = tmp_path / "visitor.nii.gz"
    session = client.create_session(str(four_d))["session_id"]
    assert client.get_session(session)["name"] == session
    file, told = client.infer("segmentation", "", {"use_report": False}, session_id=session)
    assert nib.load(file).shape == (48, 60, 48) and told["sequences_missing"] == []
    client.remove_session(session)


def test_labels_are_saved_and_a_training_starts_and_stops(client, server, tmp_path):
    for case in ("PHANTOM_0", "PHANTOM_1", "PHANTOM_2"):
        file, _ = client.infer("segmentation", case, {})
        # Slicer numbers its segments in its own order, and sends their names.
        label = np.asarray(nib.load(file).dataobj)
        drawn = np.select([label == 4, label == 1, label == 2], [1, 2, 3], 0).astype(np.uint8)
        drawn[24, 30, 24] = 1
        nib.save(nib.Nifti1Image(drawn, nib.load(file).affine), tmp_path / "drawn.nii.gz")
        names = [{"name": "ET", "idx": 1}, {"name": "NCR/NET", "idx": 2}, {"name": "ED", "idx": 3}]
        client.save_label(case, str(tmp_path / "drawn.nii.gz"), "", {"label_info": names, "model": "segmentation"})
        stored = np.asarray(nib.load(client.download_label(case, "final")).dataobj)
        assert stored[24, 30, 24] == 4 and set(np.unique(stored)) <= {0, 1, 2, 4}
    assert client.info()["datastore"]["completed"] == 3
    assert client.next_sample("expected_gain", {}) == {}

    client.train_start("segmentation", {"max_epochs": 200, "patch_size": 64, "spacing": 4.0})
    assert client.train_status(check_if_running=True)
    state = wait_for(
        lambda: client.train_status()["progress"],
        lambda state: state.get("stage") == "training",
        possible=lambda state: state["status"] == "running",
    )
    assert (state["status"], state["stage"], state["left_out"]) == ("running", "training", [])
    assert min(state["training_cases"], state["validation_cases"]) >= 1
    assert state["training_cases"] + state["validation_cases"] == 3
    client.train_stop()
    assert not client.train_status(check_if_running=True)
    assert client.train_status()["progress"]["status"] == "stopped"


@pytest.mark.real
def test_real_cases_are_segmented_and_corrected(tmp_path_factory):
    given = os.environ.get("BRATS_DIR")
    if not given:
        pytest.skip("BRATS_DIR names no folder of real cases")
    studies = tmp_path_factory.mktemp("real")
    case = find_cases(given)[0]
    folder = Path(case["t1"]).parent
    shutil.copytree(folder, studies / folder.name)
    with RunningServer(studies, tmp_path_factory.mktemp("server")) as server:
        client = MONAILabelClient(server.url, str(tmp_path_factory.mktemp("results")))
        name = client.next_sample("random", {})["id"]
        file, _ = client.infer("segmentation", name, {})
        truth = np.asarray(nib.load(case["label"]).dataobj) > 0
        answer = np.asarray(nib.load(file).dataobj) > 0
        assert 2 * (truth & answer).sum() / (truth.sum() + answer.sum()) > 0.7
        client.save_label(name, file)
        assert client.info()["datastore"]["completed"] == 1
