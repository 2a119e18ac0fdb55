"""The doctor reports each problem with a remedy; its exit code says whether the server will work."""

from __future__ import annotations

import importlib.metadata
import json
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from app_folders import tiny_case, tiny_image

from brats_label import doctor as machine
from brats_label.demo.orthanc import free_port
from brats_label.doctor import OK, PROBLEM, WARNING, guarded, served
from brats_label.settings import Settings

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "doctor.py"


@pytest.fixture
def doctor():
    return runpy.run_path(str(SCRIPT))["main"]


def run(doctor, capsys, *arguments: str) -> tuple[int, dict]:
    """Return the exit code, and the findings by check."""
    code = doctor([*map(str, arguments), "--json", "--port", str(free_port())])
    told = json.loads(capsys.readouterr().out)
    by_check: dict[str, list] = {}
    for finding in told["findings"]:
        by_check.setdefault(finding["check"], []).append(finding)
    assert told["problems"] == sum(f["level"] == PROBLEM for f in told["findings"])
    return code, by_check


def test_usable_folder_exits_with_zero_and_its_anomalies_are_listed(doctor, capsys, tmp_path):
    tiny_case(tmp_path / "A", "A")
    tiny_case(tmp_path / "B", "B", sequences=("t1", "t1ce", "t2"))
    tiny_image(tmp_path / "C" / "what_is_this.nii.gz")
    brought = tmp_path / "labels" / "final" / "A.seg.nrrd"
    brought.parent.mkdir(parents=True)
    brought.write_bytes(b"label")
    code, found = run(doctor, capsys, "--studies", tmp_path)
    assert code == 0, found
    assert found["labels"][0]["says"].startswith("final/A.seg.nrrd: not used")
    assert found["studies"][0]["level"] == OK and "2 cases" in found["studies"][0]["says"]
    assert "B has no flair" in found["incomplete"][0]["says"] and "allow_missing" in found["incomplete"][0]["remedy"]
    assert "what_is_this" in found["left out"][0]["says"]
    assert found["viewer"][0]["level"] == OK and "3D Slicer" in found["viewer"][0]["says"]
    assert found["weights"][0]["level"] == found["CLIP"][0]["level"] == OK
    assert not (tmp_path / ".brats_clip").exists()


def test_text_output_has_level_message_and_remedy(doctor, capsys, tmp_path):
    assert doctor(["--studies", str(tmp_path / "nowhere"), "--port", str(free_port())]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("PROBLEM") and "no such folder" in line)
    assert lines[at + 1].strip().startswith("->")
    assert lines[-1].startswith("1 problem, ")


@pytest.mark.slow
def test_doctor_runs_without_arguments():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weights:" in done.stdout and "Traceback" not in done.stderr


def test_missing_and_damaged_weights_are_problems(tmp_path):
    def of(checkpoint: Path):
        return next(served.weights(ROOT / "bundle", checkpoint, None))

    missing = of(tmp_path / "model.pt")
    assert missing.level == PROBLEM and "no file" in missing.says and "checkpoint" in missing.remedy
    (tmp_path / "model.pt").write_text("<html>")
    assert of(tmp_path / "model.pt").level == PROBLEM
    assert of(ROOT / "bundle" / "models" / "model.pt").level == OK


def test_unknown_setting_is_a_problem_with_a_suggestion(doctor, capsys):
    code, found = run(doctor, capsys, "--conf", "divice", "cpu")
    assert code == 1 and "device" in found["settings"][0]["says"]


def test_empty_folder_is_a_problem_with_the_expected_file_names(tmp_path):
    (finding,), workspace = served.look(str(tmp_path), Settings())
    assert finding.level == PROBLEM and "no case" in finding.says and "_t1.nii.gz" in finding.remedy
    assert workspace is not None and not list(tmp_path.iterdir())


def test_an_unreachable_server_is_a_problem_without_a_traceback(tmp_path):
    address = f"http://127.0.0.1:{free_port()}/dicom-web"
    (finding,), _ = served.look(address, Settings(workspace=str(tmp_path)))
    assert finding.level == PROBLEM and "cannot be reached" in finding.says and "start it" in finding.remedy


def with_versions(monkeypatch, **changed: str | None) -> dict:
    """Return the findings for other package versions; None means not installed."""
    true = importlib.metadata.version

    def version(name: str) -> str:
        key = name.replace("-", "_")
        if key not in changed:
            return true(name)
        if changed[key] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return changed[key]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return {f.check: f for f in [*machine.packages(ROOT), *machine.torch_fits_torchvision()]}


def test_versions_incompatible_with_monai_label_are_problems(monkeypatch):
    found = with_versions(
        monkeypatch, pydicom="3.0.1", pynetdicom="3.0.4", dicomweb_client="0.60.1", numpy="2.3.0", highdicom=None
    )
    bad = {name for name, finding in found.items() if finding.level == PROBLEM}
    assert bad == {"pydicom", "pynetdicom", "dicomweb-client", "numpy", "highdicom"}
    assert "<3" in found["pydicom"].says and "make venv" in found["pydicom"].remedy


def test_unpinned_versions_and_missing_test_tools_are_warnings(monkeypatch):
    found = with_versions(monkeypatch, scipy="1.0.0", playwright=None)
    assert found["scipy"].level == WARNING and "1.0.0" in found["scipy"].says
    assert found["playwright"].level == WARNING


def test_gpu_build_counts_as_pinned_and_torch_must_match_torchvision(monkeypatch):
    pinned = next(pin.version for pin in machine.pins(ROOT) if pin.name == "torch")
    assert "torch" not in with_versions(monkeypatch, torch=f"{pinned}+cu128")
    monkeypatch.undo()
    assert with_versions(monkeypatch, torch="2.9.0")["torchvision"].level == PROBLEM


def test_a_python_that_is_too_new_is_a_problem(monkeypatch):
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.13.1")
    assert next(machine.python(ROOT)).level == PROBLEM


def test_a_port_in_use_is_a_warning():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert next(machine.port(number)).level == WARNING
    assert next(machine.port(number)).level == OK


def test_more_threads_than_cores_are_a_warning(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4000")
    assert next(machine.threads()).level == WARNING


def test_a_disk_without_room_for_an_upload_is_a_problem(tmp_path):
    assert [f.level for f in machine.room({"the cache": tmp_path / "not" / "yet"}, 2**70)] == [PROBLEM, PROBLEM]


def test_failing_check_is_reported_as_a_problem():
    def fails():
        raise ModuleNotFoundError("No module named 'torch'")

    (finding,) = guarded("device", fails)
    assert finding.level == PROBLEM and "torch" in finding.says and finding.remedy == "make venv"
