from __future__ import annotations

import hashlib
import shlex

import pytest
import torch

from brats_clip.errors import WeightsError
from brats_clip.evaluation import collect_run_info


def test_run_info_names_weights_by_file_and_hash(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    info = collect_run_info(command="run it", weights=tmp_path / "model.pt", fold=1)
    assert info["weights"] == "model.pt"
    assert info["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert (info["command"], info["fold"], info["torch"]) == ("run it", 1, torch.__version__)
    assert info["hardware"] and info["date"].endswith("UTC")


def test_missing_weights_are_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"model\.pt"):
        collect_run_info(weights=tmp_path / "model.pt")


def test_command_words_are_quoted_for_the_shell():
    words = ["python", "-m", "x", "--files", "['a.json','b.json']", "--report", 'says "left"', "--price", "it's $5"]
    line = collect_run_info(command=words)["command"]
    assert shlex.split(line) == words
    assert "\"['a.json','b.json']\"" in line, "no quotes within quotes where one pair will do"
