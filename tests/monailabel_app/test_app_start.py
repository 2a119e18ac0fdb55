"""Starting the server prints its address, or one sentence with the problem."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from app_folders import tiny_case

from brats_clip.errors import InputError
from brats_label.demo.orthanc import free_port
from brats_label.server.patches import StartLog
from brats_label.studies.open import remove_created_folder

ROOT = Path(__file__).parents[2]
SERVE = [sys.executable, str(ROOT / "scripts" / "serve.py")]
PLAIN = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(ROOT / "monailabel_app")]


def refused(*arguments: object) -> str:
    done = subprocess.run(
        [*SERVE, *map(str, arguments)], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2 and done.stdout == "", done
    (sentence,) = done.stderr.splitlines()
    return sentence


def test_missing_studies_folder_is_refused_and_not_created(tmp_path):
    assert "no such folder" in refused("--studies", tmp_path / "nothere")
    (tmp_path / "file").write_text("")
    assert "found a file" in refused("--studies", tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_port_in_use_is_refused_with_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        sentence = refused("--studies", tmp_path, "--port", number)
    assert f"port {number}" in sentence and f"PORT={number + 1}" in sentence


@pytest.mark.slow
def test_misspelt_setting_is_refused_with_one_sentence(tmp_path):
    sentence = refused("--studies", tmp_path, "--port", free_port(), "--conf", "preproces", "always")
    assert "preproces" in sentence and "preprocess" in sentence


def test_existing_empty_folder_is_accepted_and_one_just_created_is_refused(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    with pytest.raises(InputError, match="no such folder"):
        remove_created_folder(str(new))
    assert not new.exists()
    old.mkdir()
    os.utime(old, (time.time() - 86400,) * 2)
    remove_created_folder(str(old))
    full = tmp_path / "full"
    tiny_case(full / "A", "A")
    remove_created_folder(str(full))
    assert old.is_dir() and len(list((full / "A").iterdir())) == 4


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, text, args, None)


def test_traceback_of_an_input_error_is_replaced_by_its_message():
    log = StartLog()
    said = record('Traceback (most recent call last):\n  File "x"\nbrats_clip.errors.InputError: --conf a: found b.\n')
    assert log.filter(said) and said.getMessage() == "--conf a: found b."
    other = record("Traceback (most recent call last):\nValueError: x\n")
    assert log.filter(other) and "ValueError" in other.getMessage()


@pytest.mark.e2e
@pytest.mark.slow
def test_the_address_is_printed_once_the_server_answers(tmp_path):
    tiny_case(tmp_path / "studies" / "A", "A")
    text = output_until_ready([*SERVE, "--studies", str(tmp_path / "studies")], tmp_path)
    assert "Served: 1 case of the folder" in text and "Ctrl-C stops it" in text
    assert "USING::" not in text and "timeloop" not in text.lower()


def output_until_ready(command: list[str], folder: Path) -> str:
    """Return the output until the address is printed or the process ends."""
    port, out = free_port(), folder / "out.txt"
    with out.open("wb") as file:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=file, stderr=subprocess.STDOUT, cwd=folder)
    try:
        until = time.monotonic() + 240
        while "Ctrl-C" not in out.read_text() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.3)
        text = out.read_text()
        assert process.poll() is not None or f"Server ready: http://127.0.0.1:{port}/" in text, text
        return text
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.mark.e2e
@pytest.mark.slow
def test_monailabel_command_refuses_a_missing_folder_and_creates_none(tmp_path):
    text = output_until_ready([*PLAIN, "--host", "127.0.0.1", "--studies", str(tmp_path / "nothere")], tmp_path)
    assert "found no such folder" in text and "Traceback" not in text and "Server ready" not in text
    assert not (tmp_path / "nothere").exists()
