from __future__ import annotations

import dataclasses
import hashlib
import json
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator

from brats_clip.engines import inference_handler
from brats_clip.engines.inference_handler import CaseWriter
from brats_clip.errors import InputError, LabelError, WeightsError
from brats_clip.labels import BRATS_2023, REGIONS
from brats_clip.quality import Assessment, RegionEstimate
from brats_clip.reports import Consistency, FindingCheck

SHAPE = (12, 14, 10)
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.1, 0.2, -0.1) @ np.diag([-1.0, -1.0, 2.0]), [90.5, 120.25, -72.0]
)


def label_map() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[2:10, 2:10, 2:8], label[3:8, 3:8, 3:7], label[4:6, 4:6, 4:6] = 2, 1, 4
    return label


@pytest.fixture
def item(tmp_path) -> dict:
    image = nib.Nifti1Image(np.full(SHAPE, 700, np.int16), OBLIQUE)
    image.set_qform(OBLIQUE, code=1)
    image.set_sform(OBLIQUE, code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["cal_max"] = 700
    folder = tmp_path / "in"
    folder.mkdir()
    paths = {sequence: str(folder / f"p1_{sequence}.nii.gz") for sequence in ("t1", "t1ce", "t2", "flair")}
    for path in paths.values():
        nib.save(image, path)
    prediction = MetaTensor(torch.from_numpy(label_map())[None], affine=torch.from_numpy(OBLIQUE))
    return {"case": "p1", **paths, "report": "One lesion.", "report_path": "p1_report.txt", "pred": prediction}


def test_writes_the_label_map_on_the_grid_of_the_input(tmp_path, item):
    CaseWriter(tmp_path / "out").write(item)
    assert sorted(p.name for p in (tmp_path / "out" / "p1").iterdir()) == ["p1.json", "p1_seg.nii.gz"]
    written, source = nib.load(tmp_path / "out" / "p1" / "p1_seg.nii.gz"), nib.load(item["t1ce"])
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(written.dataobj), label_map())
    assert np.allclose(written.affine, source.affine, atol=1e-6)
    for field in ("qform_code", "sform_code", "xyzt_units"):
        assert written.header[field] == source.header[field]
    assert np.allclose(written.get_qform(), source.get_qform(), atol=1e-5)
    assert written.header["cal_max"] == 0


def test_json_records_volumes_inputs_weights_and_device(tmp_path, item):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    writer = CaseWriter(tmp_path / "out", weights=weights, clip_fingerprint="feed")
    writer.write(item, device="cuda:0", seconds=1.234)
    facts = json.loads((tmp_path / "out" / "p1" / "p1.json").read_text())
    assert facts["volumes_ml"] == {"WT": 0.768, "TC": 0.2, "ET": 0.016}
    assert facts["read"]["t1ce"] == "p1_t1ce.nii.gz" and len(facts["read"]) == 4
    assert facts["report"] == {"given": True, "source": "p1_report.txt", "used": True}
    assert facts["files"]["p1_seg.nii.gz"]["values"]["4"].startswith("enhancing")
    assert facts["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert (facts["clip_fingerprint"], facts["device"], facts["seconds"]) == ("feed", "cuda:0", 1.23)
    assert str(tmp_path) not in json.dumps(facts)


def test_json_records_that_no_report_was_given(tmp_path, item):
    CaseWriter(tmp_path).write({**item, "report": ""})
    report = json.loads((tmp_path / "p1" / "p1.json").read_text())["report"]
    assert report == {"given": False, "source": None, "used": False}


def test_writes_nested_regions_on_request(tmp_path, item):
    CaseWriter(tmp_path, labels="regions").write(item)
    masks = [np.asarray(nib.load(tmp_path / "p1" / f"p1_{r}.nii.gz").dataobj) for r in ("WT", "TC", "ET")]
    assert [int(m.sum()) for m in masks] == [384, 100, 8]
    assert all(set(np.unique(m)) == {0, 1} for m in masks)
    assert (masks[2] <= masks[1]).all() and (masks[1] <= masks[0]).all()
    assert not (tmp_path / "p1" / "p1_seg.nii.gz").exists()


def test_writes_the_values_of_another_convention(tmp_path, item):
    CaseWriter(tmp_path, convention=BRATS_2023).write(item)
    written = np.asarray(nib.load(tmp_path / "p1" / "p1_seg.nii.gz").dataobj)
    assert np.array_equal(written, np.where(label_map() == 4, 3, label_map()))
    facts = json.loads((tmp_path / "p1" / "p1.json").read_text())
    assert facts["files"]["p1_seg.nii.gz"]["values"]["3"].startswith("enhancing")


def test_reads_the_grid_from_a_channel_of_a_4d_file(tmp_path, item):
    path = tmp_path / "in" / "BRATS_001.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((*SHAPE, 4), np.float32), OBLIQUE), path)
    CaseWriter(tmp_path).write({**item, "t1ce": f"{path}#2"})
    assert nib.load(tmp_path / "p1" / "p1_seg.nii.gz").shape == SHAPE


def test_grid_is_taken_from_the_prediction_without_input_files(tmp_path, item):
    CaseWriter(tmp_path).write({k: v for k, v in item.items() if k not in ("t1", "t1ce", "t2", "flair")})
    assert np.allclose(nib.load(tmp_path / "p1" / "p1_seg.nii.gz").affine, OBLIQUE, atol=1e-5)


def test_prediction_on_another_grid_is_an_error(tmp_path, item):
    moved = item["pred"].clone()
    moved.affine[2, 3] += 5
    small = MetaTensor(item["pred"].as_tensor()[:, 1:], affine=item["pred"].affine)
    for prediction in (moved, small):
        with pytest.raises(LabelError, match=r"p1.*p1_t1ce"):
            CaseWriter(tmp_path / "out").write({**item, "pred": prediction})
    with pytest.raises(InputError, match="affine"):
        CaseWriter(tmp_path / "out").write({**item, "pred": item["pred"].as_tensor()})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("existing", [False, True])
def test_failed_write_leaves_no_partial_output(tmp_path, item, monkeypatch, existing):
    folder = tmp_path / "out" / "p1"
    if existing:
        CaseWriter(tmp_path / "out").write(item)
    before = {p.name: p.read_bytes() for p in folder.iterdir()} if existing else None

    def full_disk(image, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inference_handler.nib, "save", full_disk)
    with pytest.raises(OSError, match="space"):
        CaseWriter(tmp_path / "out").write(item)
    assert ({p.name: p.read_bytes() for p in folder.iterdir()} if folder.exists() else None) == before


def test_invalid_settings_are_refused_on_construction(tmp_path):
    with pytest.raises(InputError, match="labels"):
        CaseWriter(tmp_path, labels="masks")
    with pytest.raises(InputError, match="convention"):
        CaseWriter(tmp_path, convention="BraTS")
    with pytest.raises(WeightsError):
        CaseWriter(tmp_path, weights=tmp_path / "none.pt")


def test_attached_writer_writes_every_case_and_logs_a_line(tmp_path, item, caplog):
    data = [{"case": f"p{i}", "image": torch.zeros(4, 2, 2, 2), "t1ce": item["t1ce"], "report": ""} for i in (1, 2, 3)]
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(data), batch_size=2),
        torch.nn.Identity(),
        postprocessing=lambda d: {**d, "pred": item["pred"]},
    )
    CaseWriter(tmp_path / "out").attach(evaluator)
    with caplog.at_level(logging.INFO, logger=inference_handler.__name__):
        evaluator.run()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["p1", "p2", "p3"]
    lines = [r.getMessage() for r in caplog.records if r.name == inference_handler.__name__]
    assert len(lines) == 3 and "WT 0.8 ml" in lines[0] and "p1" in lines[0]
    facts = json.loads((tmp_path / "out" / "p3" / "p3.json").read_text())
    assert facts["device"] == "cpu" and facts["seconds"] >= 0


def test_json_states_why_a_report_was_not_used(tmp_path, item):
    check = FindingCheck("side", "left", "right (98%)", 0.02, "The report says left; the tumour is on the right.")
    folder = CaseWriter(tmp_path).write({**item, "report": "On the left.", "consistency": Consistency(0.1, (check,))})
    report = json.loads((folder / f"{folder.name}.json").read_text())["report"]
    assert report["given"] and not report["used"]
    assert report["consistency"]["warnings"] == ["The report says left; the tumour is on the right."]


@pytest.mark.parametrize(("agreement", "used"), [(0.02, "not used"), (0.2, "used, but")])
def test_contradicting_report_logs_one_warning_without_its_text(tmp_path, item, caplog, agreement, used):
    finding = "side" if used == "not used" else "enhancement"
    check = FindingCheck(finding, "left", "right (98%)", agreement, "The report says left; the tumour is on the right.")
    item |= {"report": "Words of a person.", "consistency": Consistency(0.1, (check,))}
    CaseWriter(tmp_path).write(item)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith("p1: ") and f"the report was {used}" in warning.getMessage()
    assert check.warning in warning.getMessage() and "Words" not in caplog.text


def test_consistent_or_missing_report_logs_no_warning(tmp_path, item, caplog):
    CaseWriter(tmp_path).write({**item, "consistency": Consistency(0.9, (FindingCheck("side", "left", "left", 1.0),))})
    CaseWriter(tmp_path).write({**item, "report": "", "consistency": None})
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_report_given_as_text_has_typed_as_its_source(tmp_path, item):
    CaseWriter(tmp_path).write({**item, "report_path": ""})
    report = json.loads((tmp_path / "p1" / "p1.json").read_text())["report"]
    assert report == {"given": True, "source": "typed", "used": True}


def test_json_records_the_clicks(tmp_path, item):
    clicks = [{"kind": "ET", "position": [120, 80.5, 60], "space": "world"}]
    CaseWriter(tmp_path).write({**item, "clicks_given": json.dumps(clicks)})
    assert json.loads((tmp_path / "p1" / "p1.json").read_text())["clicks"] == clicks
    CaseWriter(tmp_path).write(item)
    assert json.loads((tmp_path / "p1" / "p1.json").read_text())["clicks"] == []


def test_expected_dice_and_places_are_recorded_and_logged(tmp_path, item, caplog):
    estimate = RegionEstimate(0.55, 0.3, 0.8, 3.1, 2.0, 4.5, -0.4)
    place = {"region": "ET", "kind": "missed piece", "text": "left temporal, slice 74: about 0.8 ml may be missed"}
    found = Assessment(dict.fromkeys(REGIONS, estimate), [place], 0.8, True, np.zeros((3, 1)))
    with caplog.at_level(logging.INFO):
        CaseWriter(tmp_path / "out").write({**item, "assessment": found})
    facts = json.loads((tmp_path / "out" / "p1" / "p1.json").read_text())
    assert facts["expected_dice"] == dict.fromkeys(REGIONS, 0.55) and facts["look_here"] == [place]
    assert facts["quality"]["ET"]["dice_low"] == 0.3 and facts["quality"]["fitted"] is True
    assert "expected Dice WT 0.55, TC 0.55, ET 0.55; look at left temporal, slice 74" in caplog.text
    with caplog.at_level(logging.INFO):
        CaseWriter(tmp_path / "other").write({**item, "assessment": dataclasses.replace(found, fitted=False)})
    assert "expected Dice WT 0.55, TC 0.55, ET 0.55 (not fitted for these weights); look at" in caplog.text
