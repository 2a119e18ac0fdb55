"""Training routes: one training at a time, and every labelled case that is left out is reported."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from app_folders import copy_cases
from app_server import RunningServer, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
OPTIONS = {"max_epochs": 200, "patch_size": 64, "spacing": 4.0}
BROKEN = "PHANTOM_2"


@pytest.fixture(scope="module")
def server(tiny_data_set, tmp_path_factory):
    """Serve three labelled patients; an image of one was damaged after labelling."""
    studies = tmp_path_factory.mktemp("studies")
    copy_cases(tiny_data_set, studies)
    with RunningServer(studies, tmp_path_factory.mktemp("server")) as server:
        for case in tiny_data_set.cases:
            files = {"label": ("label.nii.gz", (studies / case / f"{case}_seg.nii.gz").read_bytes())}
            url = f"{server.url}/datastore/label?image={case}"
            assert requests.put(url, files=files, timeout=60).status_code == 200
        (studies / BROKEN / f"{BROKEN}_t2.nii.gz").write_bytes(b"spoilt")
        yield server


def progress(server: RunningServer) -> dict:
    return requests.get(f"{server.url}/train/", timeout=60).json()["progress"]


def is_left_out(state: dict, studies: Path) -> bool:
    [case] = state["left_out"]
    return case["case"] == BROKEN and "expected" in case["reason"] and str(studies) not in json.dumps(state["left_out"])


def test_concurrent_training_is_refused_and_a_left_out_case_is_reported(server):
    ways = [("", {"segmentation": OPTIONS}), ("segmentation", OPTIONS)]  # as OHIF and as Slicer request it
    with ThreadPoolExecutor(2) as pool:
        ask = [pool.submit(requests.post, f"{server.url}/train/{way}", json=body, timeout=60) for way, body in ways]
        answers = [future.result() for future in ask]
    assert sorted(answer.status_code for answer in answers) == [200, 429]
    assert all("running" in answer.json()["detail"] for answer in answers if answer.status_code == 429)
    state = wait_for(lambda: progress(server), lambda state: state.get("stage") in ("validating", "training"))
    assert state["status"] == "running" and state["total_epochs"] == 200
    assert (state["training_cases"], state["validation_cases"]) == (1, 1)
    assert is_left_out(state, server.studies)
    assert requests.delete(f"{server.url}/train/", timeout=60).json()["status"] == "STOPPED"
    assert progress(server)["status"] == "stopped"


def test_training_with_too_few_readable_cases_is_refused_with_the_reason(server):
    url = f"{server.url}/datastore/label?id=PHANTOM_1&tag=final"
    assert requests.delete(url, timeout=60).status_code == 200
    answer = requests.post(f"{server.url}/train/segmentation", json=OPTIONS, timeout=60)
    assert answer.status_code == 200, answer.text  # two patients have labels; the unreadable one is found later
    state = wait_for(lambda: progress(server), lambda state: state["status"] != "running")
    assert state["status"] == "refused" and f"Case {BROKEN} is labelled and left out" in state["sentence"]
    assert is_left_out(state, server.studies)
    assert '"status": 5' not in server.text()
