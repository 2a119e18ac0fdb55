"""The review queue on a real server: correction of a case with its recorded effort, and a server without weights."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from app_folders import as_brats
from app_server import RunningServer

import brats_clip
from brats_clip.clicks.strokes import rasterise

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def studies(tiny_data_set, tmp_path) -> Path:
    for number in range(2):
        as_brats(tiny_data_set.folder / tiny_data_set.cases[number], tmp_path / "studies", f"P{number}")
    return tmp_path / "studies"


def infer(server, case_id: str, **params) -> np.ndarray:
    url = f"{server.url}/infer/deepedit?image={case_id}&output=image"
    response = requests.post(url, data={"params": json.dumps({"client_id": "anna", **params})}, timeout=240)
    assert response.status_code == 200, response.text
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(response.content)).dataobj)


def test_strokes_undo_redo_and_kept_regions(studies, tmp_path):
    with RunningServer(studies, tmp_path / "server") as server:
        done = requests.post(f"{server.url}/batch/infer/segmentation?run_sync=true", json={}, timeout=600).json()
        assert done["finished"] == 2, done
        rows = requests.get(f"{server.url}/review/?output=json", timeout=60).json()["cases"]
        assert all(row["state"] == "pre-annotated" and 0 <= row["gain"] <= 1 for row in rows)

        url = f"{server.url}/activelearning/expected_gain"
        case_id = requests.post(url, json={"client_id": "anna"}, timeout=60).json()["id"]
        assert case_id == rows[0]["case_id"]
        plain = infer(server, case_id)
        line = [[8, 20, 24], [20, 40, 24], [40, 40, 24]]
        stroked = infer(server, case_id, strokes={"ET": [line], "background": [[[24, 30, 10], [30, 30, 10]]]})
        assert (stroked[tuple(rasterise(line).T)] == 4).all() and not stroked[24:31, 30, 10].any()
        kept = infer(server, case_id, keep="ET", background=[[20, 40, 24], [24, 30, 10]])
        np.testing.assert_array_equal(kept == 4, stroked == 4)
        for step, expected in (("undo", stroked), ("undo", plain), ("redo", stroked), ("redo", kept)):
            np.testing.assert_array_equal(infer(server, case_id, history=step), expected)

        params = {"client_id": "anna", "submit": True, "strokes": {"ET": [line]}, "ET": [[24, 30, 24]]}
        url = f"{server.url}/infer/deepedit?image={case_id}&output=json"
        told = requests.post(url, data={"params": json.dumps(params)}, timeout=240).json()
        assert set(told["expected_dice"]) == {"WT", "TC", "ET"} and len(told["look_here"]) <= 3
        assert all(place["text"] and len(place["voxel"]) == 3 for place in told["look_here"])
        table = requests.get(f"{server.url}/review/export.csv", timeout=60)
        assert table.headers["content-type"].startswith("text/csv")
        (row,) = csv.DictReader(io.StringIO(table.text))
        assert (row["case"], row["who"], row["clicks"], row["state"]) == (case_id, "anna", "2", "corrected")
        assert float(row["seconds"]) > 0


def test_the_queue_works_without_weights(studies, tmp_path):
    with RunningServer(studies, tmp_path / "server", {"bundle": without_weights(tmp_path)}) as server:
        rows = requests.get(f"{server.url}/review/?output=json", timeout=60).json()["cases"]
        assert [(row["case_id"], row["state"]) for row in rows] == [("P0", "new"), ("P1", "new")]
        assert requests.get(f"{server.url}/review/", timeout=60).text.count('<tr data-case="P0"') == 1
        assert requests.post(f"{server.url}/review/P0/lease?client_id=anna", timeout=60).json()["editor"] == "anna"
        label = {"label": ("label.nii.gz", (studies / "P0" / "P0_seg.nii.gz").read_bytes())}
        assert requests.put(f"{server.url}/datastore/label?image=P0", files=label, timeout=60).status_code == 200
        assert requests.get(f"{server.url}/review/P0/thumbnail.png", timeout=60).content[:4] == b"\x89PNG"


def without_weights(folder: Path) -> Path:
    """Make a bundle folder without ``model.pt``."""
    bundle = folder / "bundle"
    (bundle / "models").mkdir(parents=True)
    for part in ("configs", "brats_clip", "models/clip"):
        (bundle / part).symlink_to(brats_clip.bundle_root() / part)
    return bundle
