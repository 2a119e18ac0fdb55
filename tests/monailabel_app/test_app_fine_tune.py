"""Fine-tuning started by clients: requirements, options, progress, publishing, resuming and stopping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import torch
from app_server import wait_for
from monailabel.utils.async_tasks.utils import run_background_task, stop_background_task

from brats_clip.cases import SEQUENCES
from brats_clip.errors import InputError
from brats_label.errors import Busy, NotFound, Refused
from brats_label.models import ModelRegistry
from brats_label.open_store import open_store
from brats_label.settings import Settings, Workspace
from brats_label.training import TrainOptions
from brats_label.training.progress import ProgressFile, progress, stats
from brats_label.training.run import FineTuning
from brats_label.training.snapshot import Snapshot, read_cases
from brats_label.training.split import PatientSplit
from brats_label.training.task import FineTune

ROOT = Path(__file__).resolve().parents[2]
# Two epochs on tiny phantoms improve these weights; the default ones are fine-tuned on real scans and get worse.
WEIGHTS = ROOT / "bundle" / "models" / "model_phantoms.pt"
# Without augmentation, since two epochs on two cases learn only from unchanged images.
TINY = {"spacing": 4.0, "patch_size": 48, "max_epochs": 2, "min_gain": 0.0, "augment": False}


class Labelled:
    """The part of a datastore that training uses: labelled cases, and those that cannot be read."""

    def __init__(self, cases: list[dict], left_out: tuple[dict, ...] = ()) -> None:
        self.cases, self.left_out = cases, list(left_out)

    def labelled_patients(self) -> dict[str, str]:
        patients = {case["case"]: case["patient"] for case in self.cases}
        return patients | {case["case"]: case["case"] for case in self.left_out}

    def labelled_cases(self) -> tuple[list[dict], list[dict]]:
        return self.cases, self.left_out


def entry(folder: Path, case: str, patient: str | None = None) -> dict:
    files = {sequence: str(folder / case / f"{case}_{sequence}.nii.gz") for sequence in SEQUENCES}
    report = str(folder / case / f"{case}_report.txt")
    label = str(folder / case / f"{case}_seg.nii.gz")
    return {"case": case, "patient": patient or case, **files, "label": label, "report_path": report}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "studies")


def fine_tune(workspace: Workspace, **settings) -> FineTune:
    return FineTune(
        workspace, ModelRegistry(workspace.models, WEIGHTS, open_store(workspace)), Settings(device="cpu", **settings)
    )


@pytest.fixture
def labelled(tiny_data_set) -> Labelled:
    return Labelled([entry(tiny_data_set.folder, case) for case in tiny_data_set.cases])


# Requirements and options.


@pytest.mark.parametrize(
    ("patients", "sentence"),
    [([], "there is none. Label and submit 2 more"), (["A"], "there is one. Label and submit 1 more")],
)
def test_too_few_labels_are_refused_with_what_is_needed(workspace, tmp_path, patients, sentence):
    datastore = Labelled([entry(tmp_path, case) for case in patients])
    with pytest.raises(Refused, match=sentence):
        fine_tune(workspace)({}, datastore)
    state = progress(workspace)
    assert state["status"] == "refused" and sentence in state["sentence"]
    assert not workspace.models.exists()


class NothingIsRead(Labelled):
    def labelled_cases(self):
        raise AssertionError("it takes minutes to fetch and convert all cases")


def test_check_reads_no_images_and_assigns_no_sides(workspace, tmp_path):
    task = fine_tune(workspace)
    with pytest.raises(Refused, match="there is one"):
        task.check({}, NothingIsRead([entry(tmp_path, "A")]))
    task.check({}, NothingIsRead([entry(tmp_path, case) for case in "AB"]))
    assert task.split.sides() == {}  # a patient whose images cannot be read would keep a side forever


def test_unreadable_labelled_cases_are_reported_with_the_reason(workspace, tmp_path):
    left_out = {"case": "B", "reason": "found no image; expected a NIfTI file"}
    datastore = Labelled([entry(tmp_path, "A")], (left_out,))
    task = fine_tune(workspace)
    task.check({}, datastore)
    with pytest.raises(Refused, match=r"there is one.*Case B is labelled and left out: found no image"):
        task({}, datastore)
    state = progress(workspace)
    assert state["status"] == "refused" and state["left_out"] == [left_out] and "Case B" in state["sentence"]
    assert "B" not in task.split.sides()


def test_two_cases_of_one_patient_are_too_few(workspace, tmp_path):
    with pytest.raises(Refused, match="two patients"):
        fine_tune(workspace).check({}, Labelled([entry(tmp_path, "A1", "A"), entry(tmp_path, "A2", "A")]))


def test_labels_on_one_side_only_are_refused_and_the_split_stays(workspace, tmp_path):
    split = PatientSplit(open_store(workspace), 1e-9, 0)
    sides = split.assign(["A", "B", "C"])
    left = [case for case, side in sides.items() if side == "training"]
    with pytest.raises(Refused, match="All 2 labelled patients are for training"):
        fine_tune(workspace).check({}, Labelled([entry(tmp_path, case) for case in left]))
    assert split.sides() == sides


def test_all_cases_of_a_patient_are_on_the_same_side(workspace, tmp_path):
    cases = [entry(tmp_path, f"{patient}{i}", patient) for patient in "ABCDE" for i in range(3)]
    sides = fine_tune(workspace, validation_share=0.5)._sides(cases, [])
    patients = {side: {case["patient"] for case in some} for side, some in sides.items()}
    assert not patients["training"] & patients["validation"]
    assert sum(map(len, sides.values())) == 15


def test_relative_case_paths_are_made_absolute(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = [entry(Path(), case) for case in "AB"]
    relative[1]["report"] = "Mass in the left frontal lobe."
    sides = fine_tune(workspace)._sides(relative, [])
    one, other = sorted([*sides["training"], *sides["validation"]], key=lambda case: case["case"])
    assert one == entry(tmp_path, "A")
    assert other == {**entry(tmp_path, "B"), "report": relative[1]["report"]}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"max_epochs": "7", "learning_rate": "1e-3"}, {"max_epochs": 7, "learning_rate": 1e-3}),
        ({"resume": "false", "start_from": ["0.2.0", "0.2.0+site.1"]}, {"resume": False, "start_from": "0.2.0"}),
        ({"model": "segmentation", "segmentation": {"max_epochs": 3}}, {"max_epochs": 3}),
        ({"max_epochs": " ", "patch_size": None, "unknown": 5, "gpus": "all", "start_from": True}, {}),
    ],
)
def test_options_are_read_as_client_panels_send_them(given, found):
    assert TrainOptions().read(given).model_dump() == {**TrainOptions().model_dump(), **found}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"max_epochs": 0}, "max_epochs is '0'; a whole number from 1 to 1000"),
        ({"max_epochs": "many"}, "max_epochs is 'many'"),
        ({"max_epochs": 2.5}, "a whole number"),
        ({"max_epochs": True}, "a whole number"),
        ({"learning_rate": "nan"}, "learning_rate is 'nan'; a number from 1e-07 to 1"),
        ({"learning_rate": [-1]}, "learning_rate is '-1'"),
        ({"patch_size": 50}, "divisible by 16"),
        ({"resume": "maybe"}, "true or false"),
    ],
)
def test_invalid_options_are_refused_by_name(workspace, labelled, given, sentence):
    with pytest.raises(Refused, match=sentence):
        fine_tune(workspace).check(given, labelled)


def test_unknown_weights_to_start_from_are_refused(workspace, labelled):
    with pytest.raises(NotFound, match=r"there are 0\.2\.0"):
        fine_tune(workspace).check({"start_from": "9.9"}, labelled)


def test_config_offers_current_weights_first(workspace):
    task = fine_tune(workspace)
    assert task.info()["config"]["start_from"] == ["current", "0.2.0"]
    task.models.publish(WEIGHTS, {}, {})
    task.models.use(0)
    config = task.config()
    assert config["start_from"] == ["current", "0.2.0", "0.2.0+site.1"]
    assert {"max_epochs", "learning_rate", "resume"} < set(config) and "spacing" not in config
    assert json.dumps(config)


# The snapshot, and whether a training resumes from it.


def test_snapshot_keeps_labels_from_the_start_of_the_training(workspace, tmp_path):
    images = tmp_path / "A"
    images.mkdir()
    case = entry(tmp_path, "A")
    Path(case["label"]).write_bytes(b"first")
    Path(case["report_path"]).write_text("$__import__('os').abort()")
    snapshot = Snapshot(workspace.training / "run")
    snapshot.begin({"training": [case], "validation": []}, TrainOptions(max_epochs=3), {"number": 0})
    Path(case["label"]).write_bytes(b"second")
    [kept] = read_cases(str(snapshot.folder), "training")
    assert Path(kept["label"]).read_bytes() == b"first"
    assert kept["report"].strip() == "$__import__('os').abort()"
    assert kept["flair"] == case["flair"] and "patient" not in kept
    assert snapshot.options().max_epochs == 3
    assert not snapshot.resumable()


def test_corrected_cases_have_more_weight_and_phantoms_are_added(workspace, tiny_data_set):
    cases = [entry(tiny_data_set.folder, case) for case in tiny_data_set.cases[:2]]
    snapshot = Snapshot(workspace.training / "run")
    snapshot.begin({"training": [{**cases[0], "corrected": True}], "validation": cases[1:]}, TrainOptions(), {})
    found = read_cases(str(snapshot.folder), "training", str(tiny_data_set.folder))
    assert found[0]["weight"] == 2.0 and "synthetic" not in found[0]
    assert {case["case"] for case in found[1:]} == set(tiny_data_set.cases)
    assert all(case["synthetic"] for case in found[1:])
    assert [case["weight"] for case in read_cases(str(snapshot.folder), "validation")] == [1.0]


def test_missing_label_starts_no_training(workspace, tmp_path):
    (tmp_path / "A").mkdir()
    Path(entry(tmp_path, "A")["report_path"]).write_text("Mass.")
    snapshot = Snapshot(workspace.training / "run")
    with pytest.raises(InputError, match=r"A_seg\.nii\.gz"):
        snapshot.begin({"training": [entry(tmp_path, "A")], "validation": []}, TrainOptions(), {"number": 0})
    with pytest.raises(InputError, match="no training"):
        snapshot.content()


class Interrupted:
    """A training on A and B, validated on C, that was interrupted after its third epoch."""

    def __init__(self, workspace: Workspace, folder: Path, **options) -> None:
        self.workspace, self.cases = workspace, {"training": [], "validation": []}
        for side, case in (("training", "A"), ("training", "B"), ("validation", "C")):
            self.add(folder, case, side)
        self.snapshot = Snapshot(workspace.training / "run")
        self.start(**options)
        self.snapshot.note(before={"mean": 0.5}, compared_with=0)
        self.snapshot.checkpoints.mkdir()
        torch.save({}, self.snapshot.checkpoints / "checkpoint_epoch=3.pt")
        assert self.snapshot.resumable() and self.snapshot.epoch() == 3

    def add(self, folder: Path, case: str, side: str) -> None:
        (folder / case).mkdir()
        self.cases[side].append(entry(folder, case))
        for key in (*SEQUENCES, "label"):
            Path(self.cases[side][-1][key]).write_text(f"{key} of {case}")
        Path(self.cases[side][-1]["report_path"]).write_text(f"Mass in {case}.")

    def start(self, **options) -> tuple[dict, bool, str]:
        """Begin as the training process does; return the snapshot, whether it is resumed, and the reason."""
        models = {"models": self.workspace.models, "checkpoint": WEIGHTS, "store": self.workspace.store}
        job = {**models, "options": TrainOptions(**options).model_dump(), "cases": self.cases}
        return FineTuning(job, self.workspace.training, ProgressFile(self.workspace.training, "one"))._begin()


def change(interrupted: Interrupted, tmp_path: Path, what: str) -> None:
    first = interrupted.cases["training"][0]
    if what == "new":
        interrupted.add(tmp_path, "D", "training")
    elif what == "removed":
        interrupted.cases["training"].pop(0)
    elif what == "label":
        Path(first["label"]).write_text("drawn anew")
    elif what == "report":
        Path(first["report_path"]).write_text("No mass.")
    elif what == "images":
        first["flair"] = first["t2"]
    elif what == "weights":
        weights(tmp_path / "other.pt", 2.0)
        ModelRegistry(interrupted.workspace.models, WEIGHTS, open_store(interrupted.workspace)).publish(
            tmp_path / "other.pt", {}, {}
        )


@pytest.mark.parametrize(
    ("what", "options", "reason"),
    [
        ("new", {}, "new labelled cases: D"),
        ("removed", {}, "cases no longer there: A"),
        ("label", {}, "changed labels, reports or images: A"),
        ("report", {}, "changed labels, reports or images: A"),
        ("images", {}, "changed labels, reports or images: A"),
        ("weights", {}, "it started from 0.2.0"),
        ("", {"learning_rate": 1e-3}, "learning_rate was 0.0002 and is 0.001"),
        ("", {"max_epochs": 11}, "max_epochs was 10 and is 11"),
        ("", {"resume": False}, "resume is off"),
    ],
)
def test_changed_inputs_start_a_new_training_with_the_reason(workspace, tmp_path, what, options, reason):
    interrupted = Interrupted(workspace, tmp_path)
    change(interrupted, tmp_path, what)
    content, resumed, beginning = interrupted.start(**options)
    assert not resumed and beginning.endswith(f"; the one interrupted after epoch 3 is discarded: {reason}.")
    assert beginning.startswith(
        "A new training from 0.2.0+site.1" if what == "weights" else "A new training from 0.2.0;"
    )
    kept = {side: [case["case"] for case in content[side]] for side in ("training", "validation")}
    assert kept == {side: [case["case"] for case in some] for side, some in interrupted.cases.items()}
    assert content["options"] == TrainOptions(**options).model_dump() and interrupted.snapshot.epoch() == 0
    for case, now in zip(content["training"], interrupted.cases["training"], strict=True):
        assert Path(case["label"]).read_bytes() == Path(now["label"]).read_bytes()


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"start_from": "0.2.0"}])
def test_unchanged_training_is_resumed(workspace, tmp_path, options):
    interrupted = Interrupted(workspace, tmp_path)
    content, resumed, beginning = interrupted.start(**options)
    assert resumed and interrupted.snapshot.epoch() == 3
    assert beginning.startswith("Resumed after epoch 3 of 10 of the training that was interrupted")
    assert content["options"]["threads"] == options.get("threads", 1)


def test_training_without_an_interrupted_one_is_new(workspace, tmp_path):
    interrupted = Interrupted(workspace, tmp_path)
    interrupted.snapshot.drop()
    assert interrupted.start()[1:] == (False, "A new training from 0.2.0.")


# Progress.


def test_progress_is_idle_before_any_training(workspace):
    assert progress(workspace)["status"] == "idle" and stats(workspace) == {}
    assert fine_tune(workspace).stats() == {}


def test_progress_distinguishes_a_running_training_from_a_dead_process(workspace, labelled):
    file = ProgressFile(workspace.training, "one")
    file.update(epoch=3, total_epochs=8, best={"epoch": 2, "mean": 0.6}, before={"mean": 0.7})
    assert progress(workspace)["status"] == "running"
    told = stats(workspace)
    assert (told["epoch"], told["total_epochs"], told["best_metric"]) == (3, 8, 0.7)
    assert "current_time" in told and "total_time" not in told  # to clients, total_time means ended
    with pytest.raises(Busy):
        fine_tune(workspace)(TINY, labelled)
    file.update(process_started=file.state["process_started"] - 60)  # as if another process had the same id
    state = progress(workspace)
    assert state["status"] == "stopped" and "after epoch 3 of 8" in state["sentence"]
    assert stats(workspace)["total_time"]


def test_announced_training_replaces_the_earlier_progress(workspace, labelled):
    before = ProgressFile(workspace.training, "before")
    before.update(stage="training", epoch=7, process_started=before.state["process_started"] - 60)
    assert progress(workspace)["status"] == "stopped"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        fine_tune(workspace).announce("new", process.pid)
        state = progress(workspace)
        assert (state["run"], state["status"], state["stage"], state["epoch"]) == ("new", "running", "starting", 0)
        assert state["resumed_from"] is None
        with pytest.raises(Busy):
            fine_tune(workspace).check(TINY, labelled)
        with pytest.raises(Refused):  # not Busy: this is the announced run
            fine_tune(workspace)({"run": "new"}, Labelled([]))
        fine_tune(workspace).announce("new", process.pid)
    finally:
        process.communicate(b"\n")
    state = progress(workspace)
    assert state["status"] == "stopped" and state["sentence"] == "Stopped before an epoch was done; start again."
    fine_tune(workspace).announce("gone", process.pid)
    assert progress(workspace)["run"] == "new"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_damaged_progress_file_counts_as_idle(workspace, content):
    workspace.training.mkdir(parents=True)
    (workspace.training / "progress.json").write_text(content)
    assert progress(workspace)["status"] == "idle"


# Training, publishing and stopping.


@pytest.mark.slow
def test_better_weights_are_published_and_worse_ones_are_not(workspace, labelled, tmp_path, monkeypatch):
    (tmp_path / "brats_label").mkdir()
    (tmp_path / "brats_label" / "__init__.py").write_text("raise SystemExit('somebody else's')")
    monkeypatch.chdir(tmp_path)
    labelled.cases[0]["report"] = "$[][0] is no program. Mass in the left frontal lobe."
    labelled.left_out = [{"case": "OTHER", "reason": "found no image; expected a NIfTI file"}]
    task = fine_tune(workspace)
    seen: list[dict] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            seen.append(progress(workspace))

    watcher = threading.Thread(target=look)
    watcher.start()
    nice, threads = os.nice(0), os.environ.get("OMP_NUM_THREADS")
    try:
        task({**TINY, "learning_rate": 1e-3}, labelled)
    finally:
        done.set()
        watcher.join()
    assert (os.nice(0), os.environ.get("OMP_NUM_THREADS")) == (
        nice,
        threads,
    )  # unchanged in this process, which may be the server

    stages = {(state["status"], state.get("stage")) for state in seen}
    assert {("running", "validating"), ("running", "training")} <= stages
    assert {state["epoch"] for state in seen if state["status"] == "running"} >= {0, 1}
    state = progress(workspace)
    assert state["status"] == "done" and state["published"] == "0.2.0+site.1"
    assert (state["training_cases"], state["validation_cases"]) == (2, 1)
    assert state["left_out"] == labelled.left_out and state["beginning"] == "A new training from 0.2.0."
    assert all(s["left_out"] == labelled.left_out for s in seen if s.get("stage") in ("validating", "training"))
    assert [row["epoch"] for row in state["epochs"]] == [1, 2] and all(row["loss"] > 0 for row in state["epochs"])
    assert state["best"]["mean"] == max(row["dice"]["mean"] for row in state["epochs"]) > state["before"]["mean"]
    assert "Better: mean Dice" in state["sentence"]
    published = task.models.current()
    assert published.number == 1 and published.metrics["mean"] == state["best"]["mean"]
    assert published.trained_on == {
        side: sorted(case for case, s in task.split.sides().items() if s == side) for side in ("training", "validation")
    }
    assert sorted(p.name for p in workspace.training.iterdir()) == [".lock", "progress.json", "tmp"]

    # The second training starts from the published weights; its learning rate can only make them worse.
    task({**TINY, "learning_rate": 1.0}, labelled)
    after = progress(workspace)
    assert after["before"]["mean"] == pytest.approx(state["best"]["mean"], abs=1e-4)  # the best epoch's weights
    assert after["status"] == "done" and after["published"] is None
    assert "Not better" in after["sentence"] and "0.2.0+site.1 stays in use" in after["sentence"]
    assert task.models.current() == published and len(task.models.versions()) == 2


class Finished(FineTuning):
    """A fine-tuning whose epochs are done; its validation returns ``measured``."""

    def __init__(self, workspace: Workspace, compared_with: int, measured: float = 0.0) -> None:
        workspace.training.mkdir(parents=True)
        file = ProgressFile(workspace.training, "one")
        job = {"models": workspace.models, "checkpoint": WEIGHTS, "store": workspace.store}
        super().__init__(job, workspace.training, file)
        self.measured = measured
        self.snapshot.begin({"training": [], "validation": []}, TrainOptions(), {"number": 0})
        self.snapshot.note(before={"mean": 0.5}, compared_with=compared_with)
        self.snapshot.checkpoints.mkdir()
        weights(self.snapshot.checkpoints / "model.pt", 1.0)

    def _measure(self, weights: Path) -> dict:
        return {"mean": self.measured}

    def end(self, mean: float | None) -> dict:
        best = None if mean is None else {"epoch": 2, "mean": mean}
        self._publish(self.snapshot.content(), best)
        return self.file.state


def weights(path: Path, value: float) -> Path:
    torch.save({"weight": torch.full((3,), value)}, path)
    return path


@pytest.mark.parametrize(
    ("mean", "published"), [(0.51, "0.2.0+site.1"), (0.504, None), (0.5, None), (0.4, None), (None, None)]
)
def test_weights_are_published_only_if_mean_dice_improves_beyond_noise(workspace, mean, published):
    training = Finished(workspace, compared_with=0)
    assert training.end(mean)["published"] == published
    assert training.registry.current().number == int(published is not None)
    assert not training.snapshot.folder.exists()


@pytest.mark.parametrize(("measured", "published"), [(0.7, None), (0.55, "0.2.0+site.2")])
def test_weights_must_exceed_those_published_during_the_training(workspace, tmp_path, measured, published):
    training = Finished(workspace, compared_with=0, measured=measured)
    training.registry.publish(weights(tmp_path / "other.pt", 2.0), {}, {})
    state = training.end(0.6)
    assert state["published"] == published and state["before"] == {"mean": measured}
    assert training.registry.current().parent == 0


def test_kill_between_publishing_and_reporting_is_recovered(workspace):
    training = Finished(workspace, compared_with=0, measured=0.6)
    training.registry.publish(training.snapshot.checkpoints / "model.pt", {}, {})
    state = training.end(0.6)
    assert state["published"] == "0.2.0+site.1" and "0.500 before" in state["sentence"]
    assert len(training.registry.versions()) == 2


@pytest.mark.slow
def test_unusable_label_fails_the_training_and_is_named(workspace, labelled, tmp_path):
    label = tmp_path / "torn_seg.nii.gz"
    label.write_bytes(b"<html>not found</html>")
    labelled.cases[1]["label"] = str(label)
    with pytest.raises(RuntimeError, match=r"The training failed: .*_seg\.nii\.gz"):
        fine_tune(workspace)(TINY, labelled)
    assert progress(workspace)["status"] == "failed"
    assert not Snapshot(workspace.training / "run").resumable()
    assert fine_tune(workspace).models.current().number == 0


APP = """
import json, sys
from pathlib import Path
sys.path[:0] = [{app!r}, {bundle!r}]
import brats_label
from brats_label.models import ModelRegistry
from brats_label.settings import Settings, Workspace
from brats_label.open_store import open_store
from brats_label.training.task import FineTune
from monailabel.interfaces.app import MONAILabelApp

class Labelled:
    def labelled_cases(self):
        return json.loads((Path(__file__).parent / "cases.json").read_text()), []

class App(MONAILabelApp):
    def init_datastore(self):
        return Labelled()

    def init_trainers(self):
        workspace = Workspace(Path(self.studies))
        models = ModelRegistry(workspace.models, {weights!r}, open_store(workspace))
        return {{"segmentation": FineTune(workspace, models, Settings(device="cpu"))}}
"""

SERVER = """
import sys, json, time
from monailabel.utils.async_tasks.utils import run_background_task
import os
run_background_task({**json.loads(sys.argv[1]), "server_pid": os.getpid()}, "train")
time.sleep(600)
"""


@pytest.fixture
def app(tmp_path, workspace, labelled, monkeypatch) -> dict:
    """Write a MONAI Label app around the training task, set the environment of its tasks, and return a request."""
    folder = tmp_path / "app"
    folder.mkdir()
    source = APP.format(app=str(ROOT / "monailabel_app"), bundle=str(ROOT / "bundle"), weights=str(WEIGHTS))
    (folder / "main.py").write_text(source)
    (folder / "cases.json").write_text(json.dumps(labelled.cases))
    workspace.root.mkdir()
    environment = {
        "PYTHONPATH": str(ROOT),
        "MONAI_LABEL_APP_DIR": str(folder),
        "MONAI_LABEL_STUDIES": str(workspace.root),
        "MONAI_LABEL_SESSIONS": "false",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return {"model": "segmentation", **TINY, "max_epochs": 12, "patience": 12, "learning_rate": 1e-3}


def wait_for_training(workspace: Workspace, good) -> dict:
    """Return the progress once it is ``good``; a training that fails or ends never gets there."""
    possible = ("idle", "running", "stopped")
    return wait_for(lambda: progress(workspace), good, 180, 0.02, lambda state: state["status"] in possible)


def has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_training_ends_with_the_server_stops_on_request_and_resumes(app, workspace, labelled):
    server = subprocess.Popen([sys.executable, "-c", SERVER, json.dumps(app)], stdout=subprocess.DEVNULL)
    try:
        first = wait_for_training(workspace, lambda s: s["status"] == "running" and s["epoch"] >= 1)
        assert psutil.Process(first["pid"]).nice() >= 10
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    wait_for(lambda: has_ended(first["pid"]), seconds=30)
    stopped = progress(workspace)
    assert stopped["status"] == "stopped" and "to resume there" in stopped["sentence"]
    saved = Snapshot(workspace.training / "run").epoch()
    assert saved >= stopped["epoch"] >= 1

    run_background_task({**app, "server_pid": os.getpid()}, "train")
    epochs: list[int] = []

    def goes_on(state: dict) -> bool:
        epochs.extend([state["epoch"]] if state["resumed_from"] and state["status"] == "running" else [])
        return bool(epochs) and epochs[-1] > saved

    second = wait_for_training(workspace, goes_on)
    assert min(epochs) == saved
    assert second["resumed_from"] == saved and second["beginning"].startswith(f"Resumed after epoch {saved} of 12")
    assert stop_background_task("train")["status"] == "STOPPED"
    wait_for(lambda: has_ended(second["pid"]), seconds=30)
    saved = Snapshot(workspace.training / "run").epoch()
    assert progress(workspace)["status"] == "stopped" and saved >= second["epoch"]

    task = fine_tune(workspace)
    assert task.models.current().number == 0 and len(task.models.versions()) == 1  # nothing was published
    task(app, labelled)
    state = progress(workspace)
    assert state["status"] == "done" and state["resumed_from"] == saved
    assert [row["epoch"] for row in state["epochs"]] == list(range(1, 13))
    assert state["before"] == first["before"] and state["published"] == "0.2.0+site.1"
