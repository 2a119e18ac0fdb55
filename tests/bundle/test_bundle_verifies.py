"""MONAI's own tools accept the bundle, from the repository's root and from inside the bundle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow, verify_metadata, verify_net_in_out


@pytest.fixture(params=["repository", "bundle"])
def configs_from(request, monkeypatch, configs) -> str:
    """The path of the configs, relative to the repository's root or to the bundle."""
    inside = request.param == "bundle"
    monkeypatch.chdir(configs.parent if inside else configs.parents[1])
    return "configs" if inside else "bundle/configs"


@pytest.mark.skipif("META_SCHEMA" not in os.environ, reason="META_SCHEMA names no copy of MONAI's metadata schema")
def test_metadata_follows_the_schema(configs_from):
    schema = Path(os.environ["META_SCHEMA"])
    metadata = json.loads(Path(configs_from, "metadata.json").read_text())
    assert metadata["schema"].endswith(schema.name)
    verify_metadata(meta_file=f"{configs_from}/metadata.json", filepath=schema)


def test_metadata_has_the_fields_required_by_monai_and_its_zoo(configs):
    metadata = json.loads((configs / "metadata.json").read_text())
    texts = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description")
    assert all(isinstance(metadata[key], str) and metadata[key] for key in (*texts, "authors", "copyright"))
    data = metadata["network_data_format"]
    for tensor in (data["inputs"]["image"], data["outputs"]["pred"]):
        assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= set(tensor)
        assert len(tensor["channel_def"]) == tensor["num_channels"]
    assert list(data["outputs"]["pred"]["channel_def"].values()) == [
        "whole tumour (WT)",
        "tumour core (TC)",
        "enhancing tumour (ET)",
    ]


@pytest.mark.parametrize("config", ["inference", "train"])
@pytest.mark.parametrize("n", [1, 2])
def test_network_input_and_output_match_the_metadata(configs_from, config, n):
    verify_net_in_out(
        "network_def",
        meta_file=f"{configs_from}/metadata.json",
        config_file=f"{configs_from}/{config}.json",
        device="cpu",
        n=n,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["train"], "train"),
        (["train", "evaluate"], "train"),
        (["train", "evaluate"], "evaluation"),
        (["inference"], "inference"),
    ],
)
def test_workflows_have_the_properties_required_by_monai(
    configs_from, files, kind, tiny, tiny_weights, tiny_data_set, tmp_path
):
    options = {"dataset_dir": str(tiny_data_set.folder), "output_dir": str(tmp_path / "out"), **tiny}
    if "train" in files:
        options |= {"datalist": str(tiny_data_set.datalist), "tensorboard": False}
    if files[-1] != "train":
        options["checkpoint"] = str(tiny_weights)
    workflow = ConfigWorkflow(
        config_file=[f"{configs_from}/{name}.json" for name in files],
        meta_file=f"{configs_from}/metadata.json",
        logging_file=False,
        workflow_type=kind,
        **options,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
