"""Segmentations saved as labels: one at a time by the submit option, and for all patients in a batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import RunningServer, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CASES = ("PHANTOM_0", "PHANTOM_1", "PHANTOM_2")
TEXT = "Ring-enhancing glioma in the left frontal lobe."


@pytest.fixture
def server(tiny_data_set, tmp_path):
    """Three cases, the last without FLAIR."""
    for case in tiny_data_set.cases:
        shutil.copytree(tiny_data_set.folder / case, tmp_path / "studies" / case)
    (tmp_path / "studies" / "PHANTOM_2" / "PHANTOM_2_flair.nii.gz").unlink()
    conf = {"allow_missing_sequences": "true"}
    with RunningServer(tmp_path / "studies", tmp_path / "server", conf) as server:
        yield server


def infer(server, case: str, **params) -> dict:
    query = {"image": case, "output": "json"}
    response = requests.post(
        f"{server.url}/infer/segmentation", params=query, data={"params": json.dumps(params)}, timeout=60
    )
    assert response.status_code == 200, response.text
    return response.json()


def next_sample(server, client_id: str) -> str:
    return requests.post(f"{server.url}/activelearning/random", json={"client_id": client_id}, timeout=30).json()["id"]


def labels(server) -> dict:
    return requests.get(f"{server.url}/info/", timeout=30).json()["datastore"]["label_tags"]


def test_submit_saves_a_final_label_and_an_original_label_keeps_the_lease(server):
    longest, _, mine = (next_sample(server, "me") for _ in range(3))
    told = infer(server, mine, save_label=True)
    assert (told["saved"]["version"], told["saved"]["tag"]) == (1, "original") and labels(server) == {"original": 1}
    label = {"label": ("label.nii.gz", Path(server.studies, mine, f"{mine}_seg.nii.gz").read_bytes())}
    saved = requests.put(f"{server.url}/datastore/label?image={mine}&tag=original", files=label, timeout=30)
    assert saved.status_code == 200, saved.text
    assert saved.json()["version"] == 2 and saved.json()["notes"] == ["Read as values of BraTS 2018-2022 (ET=4)."]
    # "me" holds all leases: "you" gets no case, and "me" gets the case with its oldest lease again.
    assert requests.post(f"{server.url}/activelearning/random", json={"client_id": "you"}, timeout=30).json() == {}
    assert next_sample(server, "me") == longest

    told = infer(server, mine, submit=True)
    assert told["saved"]["tag"] == "final" and labels(server) == {"final": 1, "original": 1}
    stored = nib.load(Path(server.studies) / "labels" / "final" / f"{mine}.nii.gz")
    ml = np.count_nonzero(np.asarray(stored.dataobj)) * np.prod(stored.header.get_zooms()) / 1000
    assert ml == pytest.approx(told["volumes_ml"]["WT"], abs=0.01)


def test_typed_report_ending_in_a_file_name_is_read_as_text(server):
    secret = Path(server.studies) / "PHANTOM_1" / "secret.txt"
    secret.write_text(TEXT)
    plain = infer(server, "PHANTOM_0", report=TEXT)["report"]
    for typed in (str(secret), f"{TEXT} See report.txt"):
        told = infer(server, "PHANTOM_0", report=typed)["report"]
        assert told["from"] == "typed"
        assert (told == plain) == (typed != str(secret))


def batch(server, method: str, path: str = "", **more) -> requests.Response:
    return requests.request(method, f"{server.url}/batch/infer{path}", timeout=60, **more)


def test_batch_segments_all_patients_beside_interactive_requests(server):
    (Path(server.studies) / "PHANTOM_1" / "PHANTOM_1_t2.nii.gz").write_bytes(b"<html>")
    assert batch(server, "GET").status_code == 404 and batch(server, "DELETE").json() is None
    body = {"max_workers": 1, "multi_gpu": True, "device": "cuda", "gpus": "all", "label_tag": "original"}
    task = batch(server, "POST", "/segmentation", json=body).json()
    assert task["status"] == "RUNNING" and task["total"] == 3 and task["request"]["images"] == "all"
    assert infer(server, "PHANTOM_0")["volumes_ml"]["WT"] > 0
    wait_for(lambda: batch(server, "GET").json()["status"] != "RUNNING", seconds=120)
    done = batch(server, "GET").json()
    assert (done["id"], done["status"], done["finished"], done["failed"]) == (task["id"], "DONE", 2, 1)
    assert [line.split(":")[0] for line in done["details"]] == list(CASES) and "version 1" in done["details"][0]
    assert labels(server) == {"original": 2}  # no label was annotated by a person
    assert requests.get(f"{server.url}/info/", timeout=30).json()["datastore"]["completed"] == 0
    history = requests.get(f"{server.url}/datastore/label/history?image=PHANTOM_0", timeout=30).json()
    assert history[0]["model"] == "segmentation" and history[0]["tag"] == "original"

    infer(server, "PHANTOM_0", submit=True)
    assert batch(server, "POST", "/segmentation?images=labeled&run_sync=true", json={}).json()["finished"] == 1
    task = batch(server, "POST", "/deepedit?images=unlabeled", json={"use_flair": False}).json()
    assert task["total"] == 2
    second = batch(server, "POST", "/segmentation", json={})
    assert second.status_code == 429 and "batch" in second.json()["detail"]
    assert batch(server, "DELETE").json()["status"] in ("STOPPED", "DONE", "ERROR")
    assert batch(server, "GET", "?check_if_running=true").status_code == 404
    assert len(batch(server, "GET", "?all=true").json()) == 3


def test_log_contains_no_uploaded_file_names_or_patient_data(server):
    name = "DOE_JANE_t1.nii.gz"
    session = requests.put(f"{server.url}/session/", files={"files": (name, b"abc")}, timeout=30).json()
    requests.post(f"{server.url}/infer/segmentation", files={"file": (name, b"abc")}, timeout=30)
    requests.put(f"{server.url}/datastore/image/info?image=PHANTOM_0", data={"info": '{"who": "DOE_JANE"}'}, timeout=30)
    for _ in range(3):
        next_sample(server, "DOE_JANE")
    requests.delete(f"{server.url}/session/{session['session_id']}", timeout=30)
    assert "DOE_JANE" not in server.text()
