"""``scripts/serve_demo.py`` draws a patient, prints an address for the browser, and stops both servers on Ctrl-C."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from brats_label.demo.orthanc import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.usefixtures("needs_orthanc")]

SCRIPT = Path(__file__).parents[2] / "scripts" / "serve_demo.py"
START_S = 240


def start_demo(folder: Path, port: int, out: Path) -> subprocess.Popen:
    command = [sys.executable, SCRIPT, "--work", folder, "--count", "1", "--raw", "0", "--port", port]
    command += ["--size", 48, 60, 48, "--spacing", 4, 4, 4]
    with out.open("wb") as file:
        process = subprocess.Popen([str(part) for part in command], stdout=file, stderr=subprocess.STDOUT)
    until = time.monotonic() + START_S
    while "Ctrl-C" not in out.read_text() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.3)
    return process


def test_demo_serves_a_patient_stops_both_servers_and_can_be_restarted(tmp_path):
    port = free_port()
    for number, said in enumerate(("drawing", "there already")):
        out = tmp_path / f"out{number}.txt"
        process = start_demo(tmp_path / "work", port, out)
        try:
            text = out.read_text()
            assert said in text and "Ctrl-C" in text, text
            address = next(word for word in text.split() if "StudyInstanceUIDs=" in word)
            assert "<title>" in requests.get(address, timeout=30).text
            images = requests.get(f"http://127.0.0.1:{port}/datastore/?output=all", timeout=30).json()
            assert len(images["objects"]) == 1
            dicom = next(word for word in text.split() if word.endswith("/dicom-web"))
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        for url in (dicom, f"http://127.0.0.1:{port}/info/"):
            with pytest.raises(requests.ConnectionError):
                requests.get(url, timeout=5)


def test_port_in_use_is_reported(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, str(SCRIPT), "--work", str(tmp_path), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "is in use" in done.stderr and "Traceback" not in done.stderr
