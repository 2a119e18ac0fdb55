"""The script make_phantoms: files written, files left unchanged, and errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from brats_clip.cases import find_cases
from brats_clip.phantoms import draw_phantom, write_phantom

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_phantoms.py"
GRID = ("--size", "96", "96", "80", "--spacing", "2", "2", "2")


@pytest.fixture
def make(tmp_path):
    """Run from another folder without PYTHONPATH: the script finds its bundle by itself."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "out"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)

    return run


@pytest.mark.slow
def test_patients_of_a_seed_are_written_once(make, tmp_path):
    result = make("--count", "1", "--seed", "4", "--first", "2", "--workers", "1", *GRID)
    assert result.returncode == 0, result.stderr
    assert "1 phantoms in" in result.stdout and "(1 new)" in result.stdout
    (case,) = find_cases(tmp_path / "out")
    assert case["case"] == "PHANTOM_4_00002" and {"label", "report_path"} <= case.keys()

    expected = write_phantom(draw_phantom((4, 2)), tmp_path / "expected", case["case"], (96, 96, 80), (2, 2, 2))
    for path in sorted(expected.iterdir()):
        written = tmp_path / "out" / case["case"] / path.name
        if path.suffix == ".gz":
            np.testing.assert_array_equal(np.asarray(nib.load(written).dataobj), np.asarray(nib.load(path).dataobj))
            assert nib.load(written).shape == (96, 96, 80)
        else:
            assert written.read_text() == path.read_text()

    before = Path(case["t1"]).stat().st_mtime_ns
    again = make("--count", "1", "--seed", "4", "--first", "2", *GRID)
    assert again.returncode == 0 and "(0 new)" in again.stdout
    assert Path(case["t1"]).stat().st_mtime_ns == before


@pytest.mark.slow
def test_workers_end_with_a_killed_command(tmp_path):
    command = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "out"), "--count", "50", "--workers", "1", *GRID]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not list((tmp_path / "out").glob("PHANTOM_*")) and time.monotonic() < end:
            time.sleep(0.1)
        workers = process.children(recursive=True)
        assert workers
    finally:
        process.kill()
        process.wait()
    ended, alive = psutil.wait_procs(workers, timeout=60)
    assert ended and not alive


@pytest.mark.parametrize(
    "arguments",
    [
        ("--count", "0"),
        ("--count", "many"),
        ("--size", "8", "96", "80"),
        ("--size", "96", "96"),
        ("--spacing", "0", "2", "2"),
        ("--spacing", "nan", "2", "2"),
        ("--seed", "-1"),
        ("--first", "-1"),
        ("--shift", "-1"),
        ("--shift", "nan"),
        ("--raw", "--spacing", "2", "2", "2"),
    ],
    ids=" ".join,
)
def test_bad_arguments_are_refused_in_one_line_before_any_work(tmp_path, monkeypatch, capsys, arguments):
    from make_phantoms import main

    monkeypatch.setattr(sys, "argv", ["make_phantoms.py", "--output", str(tmp_path / "out"), *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("make_phantoms.py: error: ")
    assert not (tmp_path / "out").exists()
