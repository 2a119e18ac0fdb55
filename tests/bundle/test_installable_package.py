"""The command brats-clip, and the package that pip installs."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import brats_clip
from brats_clip.cli import command_of
from tests.bundle.conftest import BUNDLE, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel() -> dict:
    """The arguments that setup.py passes to setuptools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **arguments: arguments_of.update(arguments))
        arguments_of: dict = {}
        runpy.run_path("setup.py")
    return arguments_of


def test_every_dependency_is_pinned_within_its_version_range():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.M))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = [Requirement(text) for group in groups for text in group]
    wanted = [one for one in wanted if one.name != PROJECT["name"]]
    assert {canonicalize_name(one.name) for one in wanted} == set(pins)
    assert [str(one) for one in wanted if not one.specifier.contains(pins[canonicalize_name(one.name)])] == []


def test_project_version_equals_the_package_version():
    assert PROJECT["version"] == brats_clip.__version__


def test_wheel_contains_configs_weights_app_and_scripts(wheel):
    files = {path for pattern in wheel["package_data"]["brats_clip_files"] for path in ROOT.glob(pattern)}
    names = {path.relative_to(ROOT).as_posix() for path in files}
    assert {"bundle/configs/train.json", "bundle/models/model.pt", "bundle/docs/README.md"} <= names
    assert {f"scripts/{name}.py" for name in ("make_phantoms", "serve", "doctor")} <= names
    for folder in ("bundle/configs", "bundle/models", "bundle/docs", "monailabel_app/brats_label", "scripts/measuring"):
        there = {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*") if p.is_file()}
        assert {name for name in there if "__pycache__" not in name} <= names, folder
    own = {path.relative_to(BUNDLE) for pattern in wheel["package_data"]["brats_clip"] for path in
           (BUNDLE / "brats_clip").glob(pattern)}  # fmt: skip
    for path in (BUNDLE / "brats_clip").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            part = path.relative_to(BUNDLE)
            assert ".".join(part.parent.parts) in wheel["packages"] if path.suffix == ".py" else part in own, part


def test_bundle_root_is_found_in_an_installed_package(monkeypatch, tmp_path):
    assert brats_clip.bundle_root() == BUNDLE
    monkeypatch.setattr(brats_clip, "__file__", str(tmp_path / "brats_clip" / "__init__.py"))
    assert brats_clip.bundle_root() == tmp_path / "brats_clip_files" / "bundle"


@pytest.mark.parametrize(
    ("words", "workflow", "files"),
    [
        ("segment --report_path none.txt", "inferring", ["inference"]),
        ("train --epochs 2", "training", ["train"]),
        ("train --with train_clicks.json --epochs 2", "training", ["train", "train_clicks"]),
        ("evaluate --with ablations/no_bridge.json", "evaluating", ["train", "ablations/no_bridge", "evaluate"]),
    ],
)
def test_workflow_commands_use_the_configs_of_the_bundle(words, workflow, files):
    command = command_of(words.split())
    assert command[1:5] == ["-m", "monai.bundle", "run", workflow]
    assert command[5:9] == [
        "--config_file",
        repr([str(BUNDLE / "configs" / f"{name}.json") for name in files]),
        "--bundle_root",
        str(BUNDLE),
    ]
    assert all(Path(file).is_file() for file in eval(command[6]))
    assert command[9:] == [word for word in words.split()[1:] if word != "--with" and ".json" not in word]


def test_other_commands_run_the_scripts():
    assert command_of(["phantoms", "--output", "x", "-h"]) == [
        sys.executable,
        str(ROOT / "scripts" / "make_phantoms.py"),
        *("--output", "x", "-h"),
    ]


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_commands_of_the_app_name_the_extra_that_they_need(command, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        command_of([command, "--studies", "x"])
    assert ended.value.code == 2 and "pip install '.[app]'" in capsys.readouterr().err


def test_unknown_command_is_refused_and_help_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        command_of(["segmnt"])
    assert ended.value.code == 2 and "segmnt" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command_of(["segment", "--help"])
    assert ended.value.code == 0 and "--output_dir OUT" in capsys.readouterr().out


@pytest.mark.slow
def test_command_works_from_a_bundle_that_is_not_installed(tmp_path):
    environment = {"PYTHONPATH": str(BUNDLE), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "brats_clip.cli", "segment", "--dataset_dir", str(tmp_path), "--output_dir", "out"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode != 0 and f"{tmp_path}: found no" in ended.stdout + ended.stderr
