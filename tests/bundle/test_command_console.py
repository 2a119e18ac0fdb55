"""Console output of a running command."""

from __future__ import annotations

import re
import shutil

import pytest

pytestmark = pytest.mark.slow


def test_redirected_inference_log_has_one_format_and_no_progress_bar(
    command, tiny, tiny_weights, tiny_data_set, tmp_path
):
    name = tiny_data_set.cases[0]
    shutil.copytree(tiny_data_set.folder / name, tmp_path / "data" / name)
    options = {"bundle_root": "bundle", "dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", **tiny}
    options |= {"config_file": "bundle/configs/inference.json", "checkpoint": tiny_weights, "progress_bar": "true"}
    result = command("run", "inferring", **options)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line]
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ [\w.]+: ", line) for line in lines), result.stdout
    assert any(f"{name}: WT " in line for line in lines)
    assert "INFO root:" not in result.stdout and "resuming" not in result.stdout
    assert "%|" not in result.stdout + result.stderr
