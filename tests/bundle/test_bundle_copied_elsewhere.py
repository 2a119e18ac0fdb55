"""The bundle folder is self-contained: a copy in another place works."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("inside", [True, False])
def test_copied_bundle_runs_on_its_own(command, configs, tiny, tiny_weights, tiny_data_set, tmp_path, inside):
    copy = shutil.copytree(
        configs.parent, tmp_path / "elsewhere" / "brats", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(tiny_weights, copy / "models" / "model.pt")
    case = tiny_data_set.cases[1]
    result = command(
        "run",
        "inferring",
        cwd=copy if inside else tmp_path,
        config_file="configs/inference.json" if inside else copy / "configs" / "inference.json",
        dataset_dir=tiny_data_set.folder / case,
        output_dir=tmp_path / "out",
        **tiny,
        **({} if inside else {"bundle_root": copy}),
    )
    assert result.returncode == 0, result.stderr
    label = nib.load(tmp_path / "out" / case / f"{case}_seg.nii.gz")
    assert label.shape == nib.load(tiny_data_set.folder / case / f"{case}_t1ce.nii.gz").shape
    facts = json.loads((tmp_path / "out" / case / f"{case}.json").read_text())
    assert facts["report"]["given"] and facts["weights"] == "model.pt"
