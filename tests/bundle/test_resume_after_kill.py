"""A killed training run resumes to the same results as an uninterrupted one."""

from __future__ import annotations

import json
import signal

import pytest
import torch

pytestmark = pytest.mark.slow

# Kills the process without cleanup in the middle of the second epoch; an epoch has three iterations.
KILLER = """
import os, signal
from ignite.engine import Events

class KillAt:
    def __init__(self, iteration):
        self.iteration = iteration

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=self.iteration), self)

    def __call__(self, engine):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def train(command, tiny_data_set, tiny_training, tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    kill = [{"_target_": "killer.KillAt", "iteration": 5}]
    (tmp_path / "kill.json").write_text(json.dumps({"+train#handlers": kill}))

    def run(name: str, *more: str, **options):
        files = ",".join(f"'{file}'" for file in ("bundle/configs/train.json", *more))
        return command(
            "run",
            "training",
            path=str(tmp_path),
            config_file=f"[{files}]",
            bundle_root="bundle",
            dataset_dir=tiny_data_set.folder,
            datalist=tiny_data_set.datalist,
            output_dir=tmp_path / name,
            cache_dir=tmp_path / "cache",
            # A worker process has its own random state, which must be reproduced, too.
            **{**tiny_training, "epochs": 3, "num_workers": 1, **options},
        )

    return run


def test_killed_training_resumes_to_the_same_curves_and_weights(train, tmp_path):
    unbroken = train("unbroken")
    assert unbroken.returncode == 0, unbroken.stderr
    killed = train("killed", str(tmp_path / "kill.json"))
    assert killed.returncode == -signal.SIGKILL
    assert [p.name for p in (tmp_path / "killed" / "checkpoints").glob("checkpoint*")] == ["checkpoint_epoch=1.pt"]
    resumed = train("killed")
    assert resumed.returncode == 0, resumed.stderr
    curves = [(tmp_path / name / "curves.csv").read_text() for name in ("unbroken", "killed")]
    assert len(curves[0].splitlines()) == 4
    assert curves[0] == curves[1]
    weights = [torch.load(tmp_path / name / "checkpoints" / "model.pt") for name in ("unbroken", "killed")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])

    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "killed").rglob("*.*")}
    finished = train("killed")
    assert finished.returncode == 0, finished.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "killed").rglob("*.*")}
