"""Clicks and missing sequences from the command line."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

pytestmark = pytest.mark.slow


def error_of(result) -> str:
    assert result.returncode != 0 and "Traceback" not in result.stderr, result.stderr
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    return error


def test_inference_with_clicks_and_a_missing_sequence(case, infer, tmp_path):
    (case / f"{case.name}_t1.nii.gz").unlink()
    world = (nib.load(case / f"{case.name}_t1ce.nii.gz").affine @ [20, 30, 24, 1])[:3].tolist()
    clicks = {"NCR": [world], "background": []}
    result = infer(clicks=clicks, click_space="world", allow_missing_sequences="true")
    assert result.returncode == 0, result.stderr
    label = nib.load(tmp_path / "out" / case.name / f"{case.name}_seg.nii.gz")
    assert int(np.asarray(label.dataobj)[20, 30, 24]) == 1
    facts = json.loads((tmp_path / "out" / case.name / f"{case.name}.json").read_text())
    assert facts["sequences_missing"] == ["t1"] and set(facts["read"]) == {"t1ce", "t2", "flair"}
    assert facts["clicks"] == [{"kind": "NCR", "position": world, "space": "world"}]


@pytest.mark.parametrize(
    ("options", "mentioned"),
    [
        ({"clicks": {"ET": [[200, 0, 0]]}}, ("outside the volume", "PHANTOM_0")),
        ({"clicks": {"oedema": [[1, 1, 1]]}}, ("'oedema'", "one of WT, TC, ET")),
        ({"clicks": {"ET": [1, 1, 1]}}, ("three finite numbers",)),
        ({"clicks": {"ET": [[1, 1, 1]]}, "click_space": "mm"}, ("space", "'world'")),
        ({"allow_missing_sequences": "perhaps"}, ("--allow_missing_sequences", "True or False")),
    ],
    ids=["outside", "kind", "malformed", "space", "switch"],
)
def test_invalid_prompts_give_one_error_line(case, infer, tmp_path, options, mentioned):
    error = error_of(infer(**options))
    assert all(text in error for text in mentioned), error
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_incomplete_case_error_names_the_option_that_allows_it(case, infer):
    (case / f"{case.name}_flair.nii.gz").unlink()
    error = error_of(infer())
    assert "_flair.nii.gz" in error and "--allow_missing_sequences true" in error
