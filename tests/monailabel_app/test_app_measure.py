"""What is measured of a case: the figures where they can be worked out by hand, and a case from end to end."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch

from brats_clip import Segmenter
from brats_clip.errors import CaseError
from brats_clip.evaluation.metrics import dice
from brats_label.active.measure import GROW_MM, measure, region_entropy
from brats_label.active.scores import CaseScores
from brats_label.active.worker import serve
from tests.interactive import conftest as interactive

tiny_bundle = pytest.fixture(scope="module")(interactive.bundle.__wrapped__)
MM = (4.0, 4.0, 4.0)
ELSEWHERE = "A rim-enhancing mass in the right occipital lobe with extensive oedema. Necrosis is present."


@pytest.fixture(scope="module")
def segmenter(tiny_bundle) -> Segmenter:
    return Segmenter(tiny_bundle, device="cpu", screen_reports=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict:
    return interactive.write(tmp_path_factory.mktemp("cases"))


def ball(radius: float, shape=(20, 20, 20)) -> np.ndarray:
    return radius >= np.linalg.norm(np.indices(shape).T - 9.5, axis=-1).T


def test_entropy_is_that_of_the_region_and_a_border_around_it():
    mask = ball(4)
    assert region_entropy(mask, np.full(mask.shape, 0.5), (1, 1, 1)) == pytest.approx(1.0)
    assert region_entropy(mask, np.full(mask.shape, 0.11), (1, 1, 1)) == pytest.approx(0.5, abs=0.01)
    # 0.5 up to the border of 4 mm, nothing beyond: what is farther off does not count.
    near = ball(4 + GROW_MM)
    assert region_entropy(mask, np.where(near, 0.5, 0.0), (1, 1, 1)) == pytest.approx(1.0, abs=1e-3)
    assert region_entropy(mask, np.where(mask, 1.0, 0.5), (1, 1, 1)) < 1.0
    far = np.where(near, 1.0, 0.5)
    assert region_entropy(mask, far, (1, 1, 1)) == pytest.approx(0.0, abs=1e-3)


def test_the_border_is_in_mm():
    mask = np.zeros((20, 20, 20), bool)
    mask[10, 10, 10] = True
    probability = np.where(mask, 1.0, 0.5)
    thin = region_entropy(mask, probability, (8.0, 8.0, 8.0))  # no neighbour within 4 mm
    assert thin == pytest.approx(0.0, abs=1e-3)
    assert region_entropy(mask, probability, (8.0, 8.0, 2.0)) == pytest.approx(4 / 5, abs=1e-3)


def test_a_tumour_at_the_edge_of_the_volume_is_measured_too():
    mask = np.zeros((10, 10, 10), bool)
    mask[0, 0, 0] = True
    assert region_entropy(mask, np.full(mask.shape, 0.5), MM) == pytest.approx(1.0)


def test_where_nothing_is_predicted_the_nearest_to_a_prediction_counts():
    none = np.zeros((20, 20, 20), bool)
    doubt = np.where(ball(4), 0.4, 0.001)
    sure = np.full(none.shape, 0.001)
    speck = sure.copy()
    speck[3, 3, 3] = 0.45
    values = [region_entropy(none, p, (1.0, 1.0, 1.0)) for p in (doubt, speck, np.zeros(none.shape))]
    assert values[0] > 0.1 and values[1] == 0.0 and values[2] == 0.0
    # A second piece elsewhere, less likely, is not mixed in.
    both = np.maximum(doubt, np.pad(np.full((3, 3, 3), 0.35), ((0, 17), (0, 17), (0, 17))))
    assert region_entropy(none, both, (1.0, 1.0, 1.0)) == pytest.approx(values[0], abs=0.01)


def test_a_case_without_a_report(segmenter, files):
    found = measure(segmenter, "case", files, version="v1", identity="as it was")
    segmenter.set_case(**files)
    answer = segmenter.segment()
    assert found.volumes_ml == pytest.approx(answer.volumes_ml, abs=1e-3) and found.volumes_ml["WT"] > 1
    assert all(0 < bits < 1 for bits in found.entropy.values())
    assert np.linalg.norm(found.descriptor) == pytest.approx(1) and len(found.descriptor) == 128
    assert (found.disagreement, found.consistency, found.has_report) == (0.0, None, False)
    assert (found.case_id, found.version, found.identity) == ("case", "v1", "as it was")
    assert CaseScores.from_dict(json.loads(json.dumps(found.to_dict()))).entropy == found.entropy
    again = measure(segmenter, "case", files, version="v1")
    assert (again.entropy, again.descriptor, again.volumes_ml) == (found.entropy, found.descriptor, found.volumes_ml)


def test_a_report_that_changes_the_answer_is_measured_by_how_much(segmenter, files):
    found = measure(segmenter, "case", files, ELSEWHERE, "v1")
    segmenter.set_case(**files)
    answers = [segmenter.segment(report=text) for text in ("", ELSEWHERE)]
    expected = [1 - dice(answers[0].masks[region], answers[1].masks[region]) for region in ("WT", "TC", "ET")]
    assert found.disagreement == pytest.approx(np.mean(expected), abs=1e-4) and found.disagreement > 0
    assert found.consistency == pytest.approx(answers[1].consistency.score, abs=1e-4)
    assert found.report_disagreement == max(found.disagreement, 1 - found.consistency)
    assert found.volumes_ml == pytest.approx(answers[1].volumes_ml, abs=1e-3)
    assert found.descriptor == measure(segmenter, "case", files).descriptor  # CLIP's view of the images alone


def test_a_report_that_looks_like_the_name_of_a_file_is_a_text(segmenter, files, tmp_path):
    (tmp_path / "secret.txt").write_text(ELSEWHERE)
    found = measure(segmenter, "case", files, str(tmp_path / "secret.txt"))
    assert found.has_report and found.consistency != measure(segmenter, "case", files, ELSEWHERE).consistency


def test_a_report_that_is_not_listened_to_shows_in_the_consistency(tiny_bundle, files):
    found = measure(Segmenter(tiny_bundle, device="cpu", screen_reports=True), "case", files, ELSEWHERE)
    assert found.consistency < 0.25 and found.disagreement == 0.0
    assert found.report_disagreement > 0.75


def test_a_case_lacking_a_sequence_is_measured_and_a_broken_one_is_refused(segmenter, files, tmp_path):
    assert measure(segmenter, "case", {s: files[s] for s in ("t1ce", "flair")}).volumes_ml["WT"] >= 0
    broken = tmp_path / "t1.nii.gz"
    broken.write_bytes(b"<html>")
    with pytest.raises(CaseError):
        measure(segmenter, "case", files | {"t1": broken})
    with pytest.raises(CaseError, match="found no file"):
        measure(segmenter, "case", files | {"t1": tmp_path / "nowhere.nii.gz"})


def test_the_worker_answers_line_by_line_and_names_no_file(tiny_bundle, files, tmp_path):
    folder = tmp_path / "Doe^Jane"
    folder.mkdir()
    (folder / "t1.nii.gz").write_bytes(b"<html>")
    bad, gone = (files | {"t1": str(folder / name)} for name in ("t1.nii.gz", "none.nii.gz"))
    requests = [json.dumps({"case_id": f"c{i}", "files": f, "report": ""}) for i, f in enumerate([bad, gone, files])]
    answers = io.StringIO()
    setup = {"bundle": str(tiny_bundle), "checkpoint": None, "device": "cpu", "version": "v1"}
    threads = torch.get_num_threads()
    assert serve(setup, requests, answers) == 0
    torch.set_num_threads(threads)
    ready, first, second, third = map(json.loads, answers.getvalue().splitlines())
    assert ready == {"ready": True} and "error" in first and "error" in second
    assert "Doe" not in answers.getvalue()
    assert CaseScores.from_dict(third["scores"]).case_id == "c2"


def test_a_worker_without_weights_says_so(tiny_bundle, tmp_path):
    answers = io.StringIO()
    setup = {"bundle": str(tiny_bundle), "checkpoint": str(tmp_path / "none.pt"), "device": "cpu", "version": "v1"}
    assert serve(setup, [], answers) == 2
    assert list(json.loads(answers.getvalue())) == ["fatal"]
