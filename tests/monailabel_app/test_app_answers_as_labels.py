"""Answers that are stored as labels: one by one, as a person ticks the box, and all patients' in one go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import RunningServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CASES = ("PHANTOM_0", "PHANTOM_1", "PHANTOM_2")
TEXT = "Ring-enhancing glioma in the left frontal lobe."


@pytest.fixture
def server(tiny_data_set, tmp_path):
    """Three cases, the last without its FLAIR."""
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


def test_a_submitted_answer_is_a_label_and_an_original_leaves_the_patient_with_who_has_it(server):
    longest, _, mine = (next_sample(server, "me") for _ in range(3))
    told = infer(server, mine, save_label=True)
    assert (told["saved"]["version"], told["saved"]["tag"]) == (1, "original") and labels(server) == {"original": 1}
    label = {"label": ("label.nii.gz", Path(server.studies, mine, f"{mine}_seg.nii.gz").read_bytes())}
    saved = requests.put(f"{server.url}/datastore/label?image={mine}&tag=original", files=label, timeout=30)
    assert saved.status_code == 200, saved.text
    assert saved.json()["version"] == 2 and saved.json()["notes"] == ["Read as values of BraTS 2018 to 2022."]
    # All are with somebody: who had a patient longest is followed first.
    assert next_sample(server, "you") == longest

    told = infer(server, mine, submit=True)
    assert told["saved"]["tag"] == "final" and labels(server) == {"final": 1, "original": 1}
    stored = nib.load(Path(server.studies) / "labels" / "final" / f"{mine}.nii.gz")
    ml = np.count_nonzero(np.asarray(stored.dataobj)) * np.prod(stored.header.get_zooms()) / 1000
    assert ml == pytest.approx(told["volumes_ml"]["WT"], abs=0.01)


def test_a_typed_report_that_ends_like_a_file_is_a_text(server):
    secret = Path(server.studies) / "PHANTOM_1" / "secret.txt"
    secret.write_text(TEXT)
    plain = infer(server, "PHANTOM_0", report=TEXT)["report"]
    for typed in (str(secret), f"{TEXT} See report.txt"):
        told = infer(server, "PHANTOM_0", report=typed)["report"]
        assert told["from"] == "typed"
        assert (told == plain) == (typed != str(secret))
