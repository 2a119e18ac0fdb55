"""Run the bundle's commands as a user would, with a network and cases so small that a run takes seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundle"
CONFIGS = BUNDLE / "configs"

TINY_NETWORK = {"network_def#widths": [4, 8, 8, 8], "network_def#head_width": 8, "network_def#bottleneck_blocks": 1}
TINY_GRID = {"spacing": [4.0, 4.0, 4.0]}
TINY_TRAINING = {
    "patch_size": [48, 48, 48],
    "num_workers": 0,
    "val_workers": 0,
    "tensorboard": False,
    "progress_bar": False,
}


def flags(**options) -> list[str]:
    """Turn options into command-line arguments."""
    return [part for name, value in options.items() for part in (f"--{name}", str(value).replace(" ", ""))]


@pytest.fixture(scope="session")
def configs() -> Path:
    """The folder of the bundle's configs."""
    return CONFIGS


@pytest.fixture(scope="session")
def tiny_network() -> dict:
    """Overrides for a tiny network."""
    return TINY_NETWORK


@pytest.fixture(scope="session")
def tiny() -> dict:
    """Overrides for a tiny network on a coarse grid."""
    return {**TINY_NETWORK, **TINY_GRID}


@pytest.fixture(scope="session")
def tiny_training() -> dict:
    """Overrides of train.json for a training run of a few seconds."""
    return {**TINY_NETWORK, **TINY_GRID, **TINY_TRAINING}


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess]:
    """Run ``python -m monai.bundle ...`` from the repository's root; options become ``--name value``."""

    def run(*arguments: str, cwd: Path = ROOT, launcher: tuple = ("-m",), path: str | None = None, **options):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
        if path is not None:
            environment["PYTHONPATH"] = path
        line = [sys.executable, *launcher, "monai.bundle", *map(str, arguments), *flags(**options)]
        return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)

    return run


@pytest.fixture(scope="session")
def build_network() -> Callable[..., torch.nn.Module]:
    """Build the network of a config with overrides; parameters initialised to zero get random values, as if trained."""

    def build(config: str = "inference", trained: bool = True, **overrides) -> torch.nn.Module:
        parser = ConfigParser()
        parser.read_config(str(CONFIGS / f"{config}.json"))
        parser.update({"bundle_root": str(BUNDLE), "device": "$torch.device('cpu')", **overrides})
        torch.manual_seed(0)
        network = parser.get_parsed_content("network_def")
        if trained:
            with torch.no_grad():
                for parameter in network.parameters():
                    if not parameter.any():
                        parameter.copy_(torch.randn_like(parameter) * 0.5)
        return network

    return build


@pytest.fixture(scope="session")
def tiny_weights(build_network, tmp_path_factory) -> Path:
    """A weights file for the tiny network."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(build_network(**TINY_NETWORK).state_dict(), path)
    return path


@pytest.fixture
def case(tiny_data_set, tmp_path) -> Path:
    """A copy of a case for the tests to change."""
    name = tiny_data_set.cases[0]
    return shutil.copytree(tiny_data_set.folder / name, tmp_path / "data" / name)


@pytest.fixture
def infer(command, tiny, tiny_weights, tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """Run inference on the cases in ``tmp_path / "data"``; results go to ``tmp_path / "out"``."""

    def run(**options):
        standard = {
            "config_file": "bundle/configs/inference.json",
            "bundle_root": "bundle",
            "dataset_dir": tmp_path / "data",
            "output_dir": tmp_path / "out",
            "checkpoint": tiny_weights,
            "progress_bar": False,
        }
        return command("run", "inferring", **{**standard, **tiny, **options})

    return run
