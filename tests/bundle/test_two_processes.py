"""Training and evaluation in two processes under torchrun (gloo, CPU)."""

from __future__ import annotations

import csv
import json

import pytest
import torch

pytestmark = pytest.mark.slow

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")


def files(*names: str) -> str:
    return "[" + ",".join(f"'bundle/configs/{name}.json'" for name in names) + "]"


@pytest.fixture
def options(tiny_data_set):
    return {"bundle_root": "bundle", "dataset_dir": tiny_data_set.folder, "datalist": tiny_data_set.datalist}


def test_evaluation_gives_the_same_metrics_as_one_process(command, options, tiny, tiny_weights, tmp_path):
    names = ["train", "evaluate"]
    options |= {**tiny, "checkpoint": tiny_weights, "progress_bar": False, "num_workers": 0, "val_workers": 0}
    one = command("run", "evaluating", config_file=files(*names), output_dir=tmp_path / "one", **options)
    assert one.returncode == 0, one.stderr
    two = command(
        "run",
        "evaluating",
        launcher=TORCHRUN,
        config_file=files(*names, "multi_gpu_evaluate"),
        output_dir=tmp_path / "two",
        **options,
    )
    assert two.returncode == 0, two.stderr
    rows = [list(csv.DictReader((tmp_path / n / "metrics.csv").open())) for n in ("one", "two")]
    assert len(rows[0]) == 3 and rows[0] == rows[1]
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two")]
    for summary in summaries:
        summary.pop("run", None)
    assert summaries[0] == summaries[1]
    assert (tmp_path / "two" / "report.html").stat().st_size > 10_000


def test_trained_weights_load_and_resume_in_one_process(
    command, options, tiny_network, tiny_training, build_network, tmp_path
):
    options |= {**tiny_training, "epochs": 2, "val_interval": 1, "output_dir": tmp_path / "run"}
    result = command("run", "training", launcher=TORCHRUN, config_file=files("train", "multi_gpu_train"), **options)
    assert result.returncode == 0, result.stderr
    curves = list(csv.DictReader((tmp_path / "run" / "curves.csv").open()))
    assert [row["epoch"] for row in curves] == ["1", "2"]
    assert all(0 <= float(row["val_mean_dice"]) <= 1 for row in curves)
    checkpoints = tmp_path / "run" / "checkpoints"
    network = build_network("train", **tiny_network)
    network.load_state_dict(torch.load(checkpoints / "model.pt"))
    last = torch.load(checkpoints / "checkpoint_epoch=2.pt", weights_only=False)
    network.load_state_dict(last["network"])
    again = command("run", "training", config_file="bundle/configs/train.json", **{**options, "epochs": 3})
    assert again.returncode == 0, again.stderr
    assert [row["epoch"] for row in csv.DictReader((tmp_path / "run" / "curves.csv").open())] == ["1", "2", "3"]
