"""Experiment tracking with TensorBoard and MLflow."""

from __future__ import annotations

import sqlite3

import pytest

pytestmark = pytest.mark.slow


def test_tensorboard_and_mlflow_record_a_training_run(command, tiny_data_set, tiny_training, tmp_path):
    result = command(
        "run",
        "training",
        config_file="bundle/configs/train.json",
        bundle_root="bundle",
        dataset_dir=tiny_data_set.folder,
        datalist=tiny_data_set.datalist,
        output_dir=tmp_path / "run",
        **{**tiny_training, "epochs": 1, "tensorboard": True, "mlflow": True},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))
    with sqlite3.connect(tmp_path / "run" / "mlflow.db") as database:
        names = {row[0] for row in database.execute("select distinct key from metrics")}
    assert {"train_loss", "val_mean_dice"} <= names


def test_switch_that_is_neither_true_nor_false_is_refused(command, tiny_data_set, tiny_training, tmp_path):
    result = command(
        "run",
        "training",
        config_file="bundle/configs/train.json",
        bundle_root="bundle",
        dataset_dir=tiny_data_set.folder,
        datalist=tiny_data_set.datalist,
        output_dir=tmp_path / "run",
        **{**tiny_training, "resume": "perhaps"},
    )
    assert result.returncode != 0
    assert "Error: --resume: found 'perhaps'; expected True or False." in result.stderr
