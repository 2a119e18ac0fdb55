"""A server that is killed while it saves, trains and scores comes back with all that it acknowledged."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import RunningServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
TRAIN = {"max_epochs": 400, "patch_size": 64, "spacing": 4.0, "patience": 400}


def wait_for(what, seconds: float = 240.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.3)
    raise AssertionError("it did not come")


def save(server: RunningServer, case: str, label: np.ndarray, affine: np.ndarray) -> requests.Response:
    content = gzip.compress(nib.Nifti1Image(label, affine).to_bytes())
    return requests.put(
        f"{server.url}/datastore/label?image={case}",
        files={"label": ("label.nii.gz", content)},
        data={"params": json.dumps({"client_id": "annotator"})},
        timeout=60,
    )


def test_every_acknowledged_label_is_there_and_the_training_goes_on(tiny_data_set, tmp_path):
    studies = tmp_path / "studies"
    for case in tiny_data_set.cases:
        shutil.copytree(tiny_data_set.folder / case, studies / case)
    truth = {case: nib.load(studies / case / f"{case}_seg.nii.gz") for case in tiny_data_set.cases}
    chance, acknowledged, number = random.Random(0), {}, 0
    server = RunningServer(studies, tmp_path / "server", {"scoring": "true"})

    def save_for_ever() -> None:
        nonlocal number
        while True:
            case = ("PHANTOM_0", "PHANTOM_1")[number % 2]
            label = np.asarray(truth[case].dataobj).astype(np.uint8)
            label[: number % 47 + 1, 0, 0] = 2
            try:
                if save(server, case, label, truth[case].affine).status_code == 200:
                    acknowledged[case] = [label]
                    number += 1
            except requests.RequestException:
                acknowledged.setdefault(case, []).append(label)  # it may have come through, or not
                return

    server.start()
    try:
        for case in ("PHANTOM_0", "PHANTOM_1"):
            label = np.asarray(truth[case].dataobj).astype(np.uint8)
            assert save(server, case, label, truth[case].affine).status_code == 200
            acknowledged[case] = [label]
        assert requests.post(f"{server.url}/train/segmentation", json=TRAIN, timeout=60).status_code == 200
        epoch = wait_for(lambda: requests.get(f"{server.url}/train/", timeout=60).json()["progress"].get("epoch"))
        for _ in range(2):
            saver = threading.Thread(target=save_for_ever)
            saver.start()
            time.sleep(chance.uniform(0.5, 2.0))
            server.kill()
            saver.join()
            server.start()
            for case, labels in acknowledged.items():
                path = studies / "labels" / "final" / f"{case}.nii.gz"
                stored = np.asarray(nib.load(path).dataobj)
                assert any(np.array_equal(stored, label) for label in labels), case
                acknowledged[case] = [stored]
                history = requests.get(f"{server.url}/datastore/label/history?image={case}", timeout=60).json()
                versions = studies / "labels" / "versions" / case
                for version in history:  # each of them whole
                    np.asarray(nib.load(versions / f"{version['version']:04d}.nii.gz").dataobj)
                assert not [p for p in (studies / "labels").rglob("*tmp*") if p.is_file()]
        assert number >= 4

        progress = requests.get(f"{server.url}/train/", timeout=60).json()["progress"]
        assert progress["status"] == "stopped" and progress["epoch"] >= epoch
        assert requests.post(f"{server.url}/train/segmentation", json=TRAIN, timeout=60).status_code == 200
        later = wait_for(
            lambda: (p := requests.get(f"{server.url}/train/", timeout=60).json()["progress"])
            and p.get("stage") == "training"
            and p
        )
        assert later["epoch"] >= progress["epoch"]  # not from the start again
        requests.delete(f"{server.url}/train/", timeout=60)

        scores = wait_for(lambda: list((studies / ".brats_clip" / "scores").rglob("PHANTOM_2*.json")))
        assert all(json.loads(Path(path).read_text()) for path in scores)
    finally:
        server.stop()
