"""A server killed while it saves, trains and pre-annotates restarts with everything that it acknowledged."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests
from app_folders import as_brats
from app_server import RunningServer, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
TRAIN = {"max_epochs": 400, "patch_size": 64, "spacing": 4.0, "patience": 400}
LABELLED = ("PHANTOM_0", "PHANTOM_1")
TASK, TRAINER = "monailabel.interfaces.utils.app", "brats_label.training.run"


class KillableServer:
    """A server with labels, a running training and a running batch, which is killed repeatedly."""

    def __init__(self, studies: Path, folder: Path) -> None:
        self.studies = studies
        self.server = RunningServer(studies, folder)
        self.truth = {case: nib.load(studies / case / f"{case}_seg.nii.gz") for case in LABELLED}
        self.acknowledged: dict[str, list[np.ndarray]] = {}
        self.saves, self.chance, self.left = 0, random.Random(0), []

    def get(self, path: str) -> dict:
        return requests.get(self.server.url + path, timeout=60).json()

    def progress(self) -> dict:
        return self.get("/train/")["progress"]

    def save(self, case: str, label: np.ndarray) -> None:
        content = gzip.compress(nib.Nifti1Image(label, self.truth[case].affine).to_bytes())
        answer = requests.put(
            f"{self.server.url}/datastore/label?image={case}",
            files={"label": ("label.nii.gz", content)},
            data={"params": json.dumps({"client_id": "annotator"})},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        self.acknowledged[case] = [label]

    def save_until_killed(self) -> None:
        while True:
            case = LABELLED[self.saves % 2]
            label = self.drawn(case)
            label[: self.saves % 47 + 1, 0, 0] = 2
            try:
                self.save(case, label)
            except requests.RequestException:
                self.acknowledged[case].append(label)  # this save may or may not have succeeded
                return
            self.saves += 1

    def drawn(self, case: str) -> np.ndarray:
        return np.asarray(self.truth[case].dataobj).astype(np.uint8)

    def train(self) -> dict:
        """Start a training and return its progress, which must already be that of the new run."""
        before = self.get("/train/").get("progress", {}).get("run")
        answer = requests.post(f"{self.server.url}/train/segmentation", json=TRAIN, timeout=60)
        assert answer.status_code == 200, answer.text
        progress = self.progress()
        assert progress["run"] != before and progress["status"] == "running"
        assert (progress["stage"], progress["epoch"], progress["epochs"]) == ("starting", 0, [])
        return progress

    def training_progress(self) -> dict | None:
        """Return the progress if training steps are being made, otherwise None."""
        progress = self.progress()
        assert progress["status"] == "running", progress
        return progress if progress["stage"] == "training" else None

    def batch_is_running(self) -> bool:
        """Return whether a batch runs; start a new one if the last has ended."""
        requests.post(f"{self.server.url}/batch/infer/segmentation", json={}, timeout=60)
        return self.get("/batch/infer")["status"] == "RUNNING"

    def pre_annotated(self) -> int:
        return sum(row["version"] is not None for row in self.get("/review/?output=json")["cases"])

    def kill(self, training: str, before=lambda: None) -> None:
        """Kill only the server while it saves, pre-annotates and runs ``training``; its children must end too."""
        saver = threading.Thread(target=self.save_until_killed)
        saver.start()
        time.sleep(self.chance.uniform(0.5, 2.0))
        before()
        wait_for(self.batch_is_running)
        assert training in commands(self.server.children())
        assert saver.is_alive()
        children = self.server.kill()
        self.left += children
        saver.join()
        wait_for(lambda: not alive(children), seconds=60)  # a process that is still importing ends after that
        private = self.studies / ".brats_clip"
        files = written(private)
        time.sleep(1.5)
        assert files and written(private) == files  # no process keeps writing beside the next server

    def start_again(self) -> None:
        self.server.start()
        for case, labels in self.acknowledged.items():
            path = self.studies / "labels" / "final" / f"{case}.nii.gz"
            stored = np.asarray(nib.load(path).dataobj)
            assert any(np.array_equal(stored, label) for label in labels), case
            self.acknowledged[case] = [stored]
            versions = self.studies / "labels" / "versions" / case
            for version in self.get(f"/datastore/label/history?image={case}"):  # each is a complete file
                np.asarray(nib.load(versions / f"{version['version']:04d}.nii.gz").dataobj)
        assert not [p for p in (self.studies / "labels").rglob("*tmp*") if p.is_file()]

    def end(self) -> None:
        self.server.stop()
        for process in alive(self.left):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def commands(processes: list[psutil.Process]) -> str:
    lines = []
    for process in processes:
        with suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return "\n".join(lines)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; zombies do not count."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += [process] if process.is_running() and process.status() != psutil.STATUS_ZOMBIE else []
    return found


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def killed(tiny_data_set, tmp_path):
    studies = tmp_path / "studies"
    for case in LABELLED:
        shutil.copytree(tiny_data_set.folder / case, studies / case)
    for number in range(8):  # enough that a batch is running whenever the server is killed
        as_brats(tiny_data_set.folder / "PHANTOM_2", studies, f"P{number}")
    killed = KillableServer(studies, tmp_path / "server")
    killed.server.start()
    yield killed
    killed.end()


def test_acknowledged_labels_survive_kills_and_the_training_resumes(killed):
    for case in LABELLED:
        killed.save(case, killed.drawn(case))
    wait_for(lambda: killed.batch_is_running() and killed.pre_annotated())  # before a training uses the cores
    first = killed.train()
    epoch = wait_for(lambda: (p := killed.training_progress()) and p["epoch"])
    killed.kill(TRAINER)
    killed.start_again()
    stopped = killed.progress()
    assert (stopped["run"], stopped["status"]) == (first["run"], "stopped") and stopped["epoch"] >= epoch >= 1
    made = killed.pre_annotated()

    # Kill it again while the process of a training is still starting.
    killed.kill(TASK, before=killed.train)
    killed.start_again()
    assert killed.saves >= 4
    begun = killed.progress()
    assert begun["status"] == "stopped" and begun["epoch"] == 0 and begun["run"] != first["run"]
    assert killed.pre_annotated() >= made >= 1

    # With the labels that it started with, the training resumes; with others, a new one starts.
    for case in LABELLED:
        url = f"{killed.server.url}/datastore/label/restore?image={case}&version=1"
        assert requests.post(url, timeout=60).status_code == 200
    killed.train()
    later = wait_for(killed.training_progress)
    assert later["resumed_from"] >= stopped["epoch"] and later["epoch"] >= later["resumed_from"]
    assert later["beginning"].startswith(f"Resumed after epoch {later['resumed_from']} of 400")
    assert requests.delete(f"{killed.server.url}/train/", timeout=60).status_code == 200
    assert killed.progress()["status"] == "stopped"
    label = killed.drawn(LABELLED[0])
    label[:3, 0, 0] = 2
    killed.save(LABELLED[0], label)
    killed.train()
    new = wait_for(lambda: (p := killed.training_progress()) and p["beginning"] and p)
    assert new["resumed_from"] is None and f"changed labels, reports or images: {LABELLED[0]}" in new["beginning"]
    requests.delete(f"{killed.server.url}/train/", timeout=60)
