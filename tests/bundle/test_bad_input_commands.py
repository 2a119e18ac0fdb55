"""Bad input ends a command with one line that names the file, what was found and what was expected, and no output."""

from __future__ import annotations

import re
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow


def check(result, tmp_path, *mentioned: str) -> None:
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1 and "Traceback" not in result.stderr, result.stderr
    assert re.fullmatch(r"Error: .+: found .+; expected .+\.", errors[0]), errors[0]
    for text in mentioned:
        assert text in errors[0]
    out = tmp_path / "out"
    assert not out.exists() or [p for p in out.rglob("*") if p.is_file()] == []


def path_of(case, sequence: str):
    return case / f"{case.name}_{sequence}.nii.gz"


def rewrite(case, sequence: str, change) -> None:
    image = nib.load(path_of(case, sequence))
    array, affine = change(image.get_fdata(dtype=np.float32), image.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), path_of(case, sequence))


def remove(case):
    path_of(case, "flair").unlink()


def truncate(case):
    content = path_of(case, "t1ce").read_bytes()
    path_of(case, "t1ce").write_bytes(content[: len(content) // 2])


def shift_grid(case):
    rewrite(case, "t2", lambda array, affine: (array, affine + np.diag([0, 0, 0.5, 0])))


def add_nan(case):
    rewrite(case, "t1", lambda array, affine: (np.where(array > 0, np.nan, array), affine))


def flatten(case):
    rewrite(case, "t1", lambda array, affine: (np.full_like(array, 7), affine))


def keep_one_slice(case):
    rewrite(case, "t1ce", lambda array, affine: (array[:, :, 20], affine))


def binary_report(case):
    (case / f"{case.name}_report.txt").write_bytes(b"\x00\x01\x02 not a report")


def empty_report(case):
    (case / f"{case.name}_report.txt").write_text(" \n")


@pytest.mark.parametrize(
    ("spoil", "mentioned"),
    [
        (remove, ("_flair.nii.gz", "without flair")),
        (truncate, ("_t1ce.nii.gz", "truncated")),
        (add_nan, ("_t1.nii.gz", "NaN")),
        (flatten, ("_t1.nii.gz", "7 in every voxel")),
        (keep_one_slice, ("_t1ce.nii.gz", "3D")),
        (binary_report, ("_report.txt", "binary")),
        (empty_report, ("_report.txt", "empty")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_corrupt_case_is_refused(case, infer, tmp_path, spoil, mentioned):
    spoil(case)
    check(infer(), tmp_path, *mentioned)


def test_shifted_grid_is_refused_without_preprocessing(case, infer, tmp_path):
    shift_grid(case)
    check(infer(preprocess="never"), tmp_path, "_t2.nii.gz", "grid")


def test_empty_folder_is_refused(infer, tmp_path):
    (tmp_path / "data").mkdir()
    check(infer(), tmp_path, str(tmp_path / "data"))


def test_weights_of_another_architecture_are_refused(case, infer, build_network, tmp_path):
    torch.save(build_network(**{"network_def#widths": [8, 8, 8, 8]}).state_dict(), tmp_path / "other.pt")
    check(infer(checkpoint=tmp_path / "other.pt"), tmp_path, "other.pt", "tensors")


def test_missing_weights_are_refused(case, infer, tmp_path):
    check(infer(checkpoint=tmp_path / "none.pt"), tmp_path, "none.pt", "no file")


def test_missing_models_folder_is_refused(case, infer, configs, tmp_path):
    ignored = shutil.ignore_patterns("__pycache__", "models")
    copy = shutil.copytree(configs.parent, tmp_path / "bundle", ignore=ignored)
    check(infer(bundle_root=copy, config_file=copy / "configs" / "inference.json"), tmp_path, "models")


def test_misspelt_option_is_refused(case, infer, tmp_path):
    check(infer(reprot="hello"), tmp_path, "--reprot", "--report", "inference.json")


def test_unknown_label_values_end_training(case, command, tiny_training, tmp_path, tiny_data_set):
    rewrite(case, "seg", lambda array, affine: (np.where(array > 0, 9, array), affine))
    for name in tiny_data_set.cases[1:]:
        shutil.copytree(tiny_data_set.folder / name, tmp_path / "data" / name)
    result = command(
        "run",
        "training",
        config_file="bundle/configs/train.json",
        bundle_root="bundle",
        dataset_dir=tmp_path / "data",
        datalist=tiny_data_set.datalist,
        output_dir=tmp_path / "out",
        **{**tiny_training, "num_workers": 1, "epochs": 1},
    )
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1 and "_seg.nii.gz" in errors[0] and "9" in errors[0], result.stderr
    assert not list((tmp_path / "out" / "checkpoints").glob("*"))
