"""The effect of a report on a segmentation: texts that are tried, comparisons, and summary."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import report_robustness
from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.evaluation.labelled import WRITTEN, draws, read_truth, report_of
from brats_clip.evaluation.spread import auc, bootstrap_interval
from brats_clip.reports import FindingCheck, read_findings
from tests.interactive import conftest as interactive

SCRIPT = Path(__file__).parents[2] / "scripts" / "report_robustness.py"
SIDED = "A mass in the left frontal lobe. Its rim enhances. There is oedema around it. The midline is not shifted."
UNSIDED = "The mass enhances. There is mild oedema."
tiny_bundle = interactive.bundle


@pytest.fixture
def robustness():
    """The module that the script runs."""
    from measuring import robustness

    return robustness


class StandIn:
    """Return the label, with some false ET if the report says "enhances"; record the calls."""

    checkpoint, device = str(SCRIPT), "cpu"

    def __init__(self, **options):
        self.cases, self.reports, self.forgotten, self.options = [], [], [], {}

    def set_case(self, case, **sequences):
        self.cases.append((case, sequences))
        label = Path(next(iter(sequences.values()))).with_name("seg.nii.gz")
        self.label = np.asarray(nib.load(label).dataobj).astype(np.uint8)
        return case

    def segment(self, report):
        self.reports.append((self.cases[-1][0], report))
        label = self.label.copy()
        if "enhances" in report:
            label[0, 0, :3] = 4
        wrong = (FindingCheck("side", "right", "left", 0.0, "warned"),) if "right" in report else ()
        consistency = SimpleNamespace(score=0.1 if wrong else 0.9, checks=wrong) if report else None
        missing = tuple(s for s in SEQUENCES if s not in self.cases[-1][1])
        answer = SimpleNamespace(label=label, voxel_mm=(1.0, 1.0, 2.0), consistency=consistency)
        answer.report_used, answer.sequences_missing = bool(report) and not wrong, missing
        return answer

    def forget(self, case):
        self.forgotten.append(case)


@pytest.fixture
def data(tmp_path):
    """Write cases of 12 x 12 x 12 voxels and a datalist; ``reports`` by case, None for a case without."""

    def write(reports: dict[str, str | None], et: bool = True) -> list[str]:
        random, entries = np.random.default_rng(0), []
        for case, report in reports.items():
            folder = tmp_path / "data" / case
            folder.mkdir(parents=True)
            label = np.zeros((12, 12, 12), np.uint8)
            label[2:8, 4:9, 3:9] = 2
            if et:
                label[3:6, 5:8, 4:7] = 4
            volumes = {s: random.integers(1, 200, label.shape).astype(np.int16) for s in SEQUENCES} | {"seg": label}
            for name, array in volumes.items():
                nib.save(nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), folder / f"{name}.nii.gz")
            entry = {"case": case, "label": f"{case}/seg.nii.gz", **{s: f"{case}/{s}.nii.gz" for s in SEQUENCES}}
            entries.append(entry | ({"report": report} if report else {}))
        (tmp_path / "datalist.json").write_text(json.dumps({"testing": entries}))
        return ["--dataset_dir", str(tmp_path / "data"), "--datalist", str(tmp_path / "datalist.json")]

    return write


@pytest.fixture
def measured(robustness, tmp_path, monkeypatch):
    """Run the command with a stand-in for the network; return exit code, rows, the stand-in and the Markdown."""

    def run(*arguments: str):
        made = StandIn()
        monkeypatch.setattr(robustness, "Segmenter", lambda **options: made.options.update(options) or made)
        monkeypatch.setattr(robustness, "draw", lambda *parts: None)
        code = report_robustness.main([*arguments, "--output", str(tmp_path / "out")])
        path = tmp_path / "out" / "report_robustness.csv"
        rows = list(csv.DictReader(path.open())) if path.is_file() else []
        text = path.with_suffix(".md").read_text() if rows else ""
        return code, rows, made, text

    return run


def row(case: str, kind: str, dice: float, et=1.0, false=0.0, changed=True, score=None, warnings=None) -> dict:
    return {
        "case": case,
        "kind": kind,
        "changed": changed and kind not in ("none", "true"),
        **{f"dice_{name}": dice for name in ("WT", "TC", "ET", "mean")},
        "volume_ml_ET": et + false,
        "volume_ml_ET_truth": et,
        "consistency": score,
        "warnings": warnings,
        "used": kind != "none" and warnings == 0,
        "enhancement_stated": "present" if et else "absent",
        "report": "own",
        "sequences_missing": "",
    }


def by_kind(summary: list[dict]) -> dict[str, dict]:
    return {line["kind"]: line for line in summary}


def test_differences_are_relative_to_no_report_on_the_same_case(robustness):
    rows = [row("A", "none", 0.5), row("B", "none", 0.9), row("A", "true", 0.7, score=1.0, warnings=0)]
    rows += [row("B", "true", 0.8, score=0.8, warnings=1)]
    true = by_kind(robustness.summarise(rows))["true"]
    assert (true["dice_WT"], true["dice_WT_sd"]) == pytest.approx((0.75, 0.0707107))
    # +0.2 and -0.1
    assert (true["difference_ET"], true["difference_ET_sd"]) == pytest.approx((0.05, 0.212132), abs=1e-6)
    assert (true["difference_ET_low"], true["difference_ET_high"]) == pytest.approx((-0.1, 0.2))
    assert (true["consistency"], true["warned"], true["used"]) == pytest.approx((0.9, 0.5, 0.5))


def test_reports_that_a_kind_leaves_unchanged_are_not_counted(robustness):
    rows = [row(case, "none", 0.5) for case in "AB"]
    rows += [row("A", "flip_side", 0.4), row("B", "flip_side", 0.9, changed=False)]
    summary = by_kind(robustness.summarise(rows))
    assert (summary["flip_side"]["cases"], summary["flip_side"]["unchanged"]) == (1, 1)
    assert summary["flip_side"]["difference_mean"] == pytest.approx(-0.1)
    assert (summary["none"]["cases"], summary["none"]["unchanged"]) == (2, 0)


def test_false_enhancement_is_summed_over_the_cases_without_any(robustness):
    rows = [row("A", "none", 0, et=0.0, false=3.0), row("B", "none", 0, et=0.0, false=1.0), row("C", "none", 1, et=9.0)]
    rows += [row("A", "true", 0, et=0.0, false=0.5), row("B", "true", 1, et=0.0), row("C", "true", 1, et=9.0)]
    summary = by_kind(robustness.summarise(rows))
    assert (summary["none"]["false_ET_ml_sum"], summary["none"]["false_ET_ml_mean"]) == (4.0, 2.0)
    assert (summary["true"]["false_ET_ml_sum"], summary["true"]["cases_without_ET"]) == (0.5, 2)
    # Only one case has ET; its Dice is not mixed with the others'.
    assert summary["none"]["dice_ET_present"] == 1.0 and summary["none"]["dice_ET"] == pytest.approx(1 / 3)
    said = " ".join(robustness.summary_sentences(list(summary.values()), rows))
    assert (
        "cases without ET (n=2, of which 2 true reports say so): 4.00 ml without a report (2.000 ml per case), 0.50 ml"
        in said
    )


def test_wrong_report_is_told_apart_only_by_a_lower_score(robustness):
    scores = {"A": (0.9, 0.1), "B": (0.5, 0.5), "C": (0.6, 0.7), "D": (0.8, 0.2), "E": (None, 0.1)}
    rows = [row(case, "none", 0.5) for case in scores]
    rows += [row(case, "true", 0.5, score=true, warnings=0) for case, (true, _) in scores.items()]
    rows += [row(case, "flip_side", 0.5, score=flipped, warnings=1) for case, (_, flipped) in scores.items()]
    flipped = by_kind(robustness.summarise(rows))["flip_side"]
    assert (flipped["told_apart"], flipped["pairs"]) == (0.5, 4)
    # Of 16 pairs 0.9 and 0.8 win four, 0.6 three, 0.5 two and a half.
    assert flipped["auc"] == pytest.approx(13.5 / 16)


def test_bootstrap_interval_and_auc_edge_cases():
    assert bootstrap_interval([0.3]) == (None, None)
    assert bootstrap_interval([0.3, 0.3, 0.3]) == pytest.approx((0.3, 0.3))
    low, high = bootstrap_interval(list(np.random.default_rng(0).normal(1.0, 0.5, 400)))
    assert low == pytest.approx(1 - 1.96 * 0.5 / 20, abs=0.03) and high == pytest.approx(1 + 1.96 * 0.5 / 20, abs=0.03)
    values = list(np.random.default_rng(1).random(40))
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert auc([1, 2], [0]) == 1.0 and auc([1], [1, 1]) == 0.5 and auc([], [1]) is None


def test_text_of_a_kind_does_not_depend_on_the_other_kinds(robustness):
    case, others = {"case": "A"}, [UNSIDED, "No enhancement."]
    every = robustness.texts_of(case, SIDED, others, robustness.KINDS, 3)
    assert every["none"] == "" and every["true"] == SIDED and every["flip_side"] == SIDED.replace("left", "right")
    for kind in robustness.KINDS:
        assert robustness.texts_of(case, SIDED, others, ["none", kind], 3)[kind] == every[kind]
    assert robustness.texts_of(case, SIDED, others, ["generic"], 4)["generic"] != every["generic"]
    assert draws(0, "A", "x").random() != draws(0, "B", "x").random()


def test_every_kind_of_report_is_tried_on_every_case(robustness, measured, data):
    code, rows, made, text = measured(*data({"A": SIDED, "B": UNSIDED}))
    assert code == 0
    assert [(r["case"], r["kind"]) for r in rows] == [(case, kind) for case in "AB" for kind in robustness.KINDS]
    assert made.forgotten == ["A", "B"]
    asked = dict(zip([(r["case"], r["kind"]) for r in rows], [text for _, text in made.reports], strict=True))
    assert asked["A", "none"] == "" and asked["A", "true"] == SIDED and asked["A", "another_patient"] == UNSIDED
    changed = {(r["case"], r["kind"]): r["changed"] == "True" for r in rows}
    assert changed["A", "flip_side"] and not changed["B", "flip_side"]
    found = {(r["case"], r["kind"]): r for r in rows}
    # Three false voxels of 2 mm3 where the text says that something enhances.
    assert float(found["A", "true"]["volume_ml_ET"]) == pytest.approx(float(found["A", "none"]["volume_ml_ET"]) + 0.006)
    assert found["A", "flip_side"]["warned_of"] == "side" and found["A", "flip_side"]["warnings"] == "1"
    assert (found["A", "none"]["used"], found["A", "flip_side"]["used"]) == ("", "False")
    assert found["A", "none"]["consistency"] == "" and found["A", "true"]["consistency"] == "0.9"
    assert "| side flipped | 1 |" in text and "side flipped (1)" in text
    assert "above that of the one with its side flipped: 100.0% of 1 cases; AUC 1.000." in text


def test_another_patients_report_is_never_of_the_same_patient(measured, data):
    # Two visits of one patient, and one other.
    texts = {"BraTS-GLI-00001-000": SIDED, "BraTS-GLI-00001-001": UNSIDED, "BraTS-GLI-00002-000": "No enhancement."}
    options = data(texts)
    for seed in "0123":
        made = measured(*options, "--kinds", "another_patient", "--seed", seed)[2]
        drawn = {case: text for case, text in made.reports if text}
        assert drawn["BraTS-GLI-00001-000"] == drawn["BraTS-GLI-00001-001"] == "No enhancement."
        assert drawn["BraTS-GLI-00002-000"] in (SIDED, UNSIDED)


def test_reports_of_cases_beyond_the_limit_are_still_drawn_from(measured, data):
    code, rows, made, _ = measured(*data({"A": SIDED, "B": UNSIDED}), "--limit", "1", "--kinds", "another_patient")
    assert code == 0 and {r["case"] for r in rows} == {"A"}
    assert made.reports == [("A", ""), ("A", UNSIDED)]


def test_unreadable_report_beyond_the_limit_is_ignored(measured, data, tmp_path, capsys):
    given = data({"A": SIDED, "B": "B/report.txt", "C": UNSIDED})
    (tmp_path / "data" / "B" / "report.txt").write_bytes(b"\x00\x01")
    code, rows, made, text = measured(*given, "--limit", "1", "--kinds", "another_patient")
    assert code == 0 and made.reports == [("A", ""), ("A", UNSIDED)] and "failed" not in text
    assert capsys.readouterr().err == ""
    code, rows, _, text = measured(*given, "--limit", "2", "--kinds", "another_patient")
    assert code == 1 and {r["case"] for r in rows} == {"A"} and "- failed: B: " in text


def test_missing_other_patient_is_an_error(measured, data, capsys):
    code, rows, _, _ = measured(*data({"A": SIDED}), "--kinds", "another_patient")
    assert code == 1 and not rows
    assert "another patient" in capsys.readouterr().err


def test_missing_report_is_written_from_the_label_and_noted(measured, data):
    _, rows, made, text = measured(*data({"A": SIDED, "B": None}), "--kinds", "true")
    assert [(r["case"], r["report"]) for r in rows] == [("A", "own")] * 2 + [("B", WRITTEN)] * 2
    assert "1 of the cases' own, 1 written from the label" in text
    written = dict(made.reports)["B"]
    assert read_findings(written)["enhancement"] == "present" and len(written) > 80


def test_options_select_own_or_written_reports(measured, data):
    options = [*data({"A": SIDED, "B": None}), "--kinds", "true"]
    _, rows, made, _ = measured(*options, "--own_reports")
    assert {r["case"] for r in rows} == {"A"} and dict(made.reports)["A"] == SIDED
    _, rows, made, _ = measured(*options, "--written_reports")
    assert {r["report"] for r in rows} == {WRITTEN} and dict(made.reports)["A"] != SIDED


def test_written_report_matches_the_label_and_is_reproducible(data, tmp_path):
    data({"A": None}, et=False)
    folder = tmp_path / "data" / "A"
    case = {"case": "A", "t1ce": str(folder / "t1ce.nii.gz"), "label": str(folder / "seg.nii.gz")}
    truth = read_truth(case, 5)
    assert (truth.source, truth.voxel_mm) == (WRITTEN, (1.0, 1.0, 2.0)) and truth.label.max() == 2
    assert read_findings(truth.report)["enhancement"] == "absent"
    assert report_of(case, 5) == truth.report != report_of(case, 6)
    assert report_of({"case": "A", "report": SIDED}) == SIDED  # no image is opened for it


def test_reports_are_screened_by_default(measured, data):
    options = [*data({"A": SIDED}), "--kinds", "true"]
    assert "screen_reports" not in measured(*options)[2].options
    assert measured(*options, "--unscreened")[2].options["screen_reports"] is False


def test_without_option_omits_sequences_and_is_noted(measured, data):
    code, _, made, text = measured(*data({"A": SIDED}), "--kinds", "true", "--without", "t1ce", "flair")
    assert code == 0 and [list(sequences) for _, sequences in made.cases] == [["t1", "t2"]]
    assert "sequences left away: t1ce, flair" in text


def test_table_states_cases_hardware_weights_and_seed(measured, data):
    _, _, _, text = measured(*data({"A": SIDED, "B": UNSIDED}), "--kinds", "true", "--seed", "3")
    for fact in ("- cases: 2", "- date: 20", "- hardware: ", "- weights: ", "- seed: 3", "± standard deviation over"):
        assert fact in text
    assert "- command: python scripts/report_robustness.py --dataset_dir " in text


def test_one_bad_case_does_not_stop_the_others(measured, data, capsys, tmp_path):
    options = data({"A": SIDED, "B": UNSIDED, "C": SIDED})
    (tmp_path / "data" / "B" / "seg.nii.gz").write_bytes(b"no label")
    code, rows, _, text = measured(*options, "--kinds", "true")
    assert code == 1 and {r["case"] for r in rows} == {"A", "C"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("report_robustness: B: ") and "seg.nii.gz" in line
    assert "- failed: B: " in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--cases"),
        (["--cases", "nowhere"], "nowhere"),
        (["--cases", ".", "--dataset_dir", ".", "--datalist", "x.json"], "--cases"),
        (["--dataset_dir", "."], "--datalist"),
        (["--dataset_dir", ".", "--datalist", "none.json"], "none.json"),
    ],
)
def test_missing_cases_give_one_error_line(measured, capsys, arguments, said):
    assert measured(*arguments)[0] == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("report_robustness: ") and said in line


@pytest.mark.parametrize(
    "arguments",
    [["--kinds", "false"], ["--without", *SEQUENCES], ["--limit", "0"], ["--device", "tpu"], ["--seed", "-1"]],
)
def test_invalid_arguments_are_refused_before_reading(robustness, arguments):
    with pytest.raises(SystemExit) as ended:
        report_robustness.main(["--cases", "nowhere", *arguments])
    assert ended.value.code == 2


def test_command_runs_with_a_tiny_network(robustness, tiny_bundle, tiny_data_set, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "Segmenter", lambda **options: Segmenter(tiny_bundle, **options))
    data = ["--dataset_dir", str(tiny_data_set.folder), "--datalist", str(tiny_data_set.datalist)]
    kinds = ["--kinds", "true", "flip_side", "another_patient"]
    output = tmp_path / "out"
    more = ["--limit", "2", "--without", "t2", "--unscreened", "--output", str(output)]
    assert report_robustness.main([*data, *kinds, *more]) == 0
    rows = list(csv.DictReader((output / "report_robustness.csv").open()))
    assert len(rows) == 2 * 4
    assert all(0 <= float(r[f"dice_{name}"]) <= 1 for r in rows for name in ("WT", "TC", "ET", "mean"))
    assert {r["sequences_missing"] for r in rows} == {"t2"}
    assert len({r["dice_mean"] for r in rows}) > 2  # the network responds to its reports
    summary = list(csv.DictReader((output / "report_robustness_summary.csv").open()))
    assert [line["kind"] for line in summary] == ["none", "true", "another_patient", "flip_side"]
    with Image.open(output / "report_robustness.png") as picture:
        assert picture.width > 1000 and len(set(picture.convert("RGB").resize((200, 80)).getdata())) > 10
    assert (output / "report_robustness.svg").read_text().startswith("<?xml")


@pytest.mark.slow
def test_script_runs_from_any_folder(tmp_path):
    ended = subprocess.run([sys.executable, str(SCRIPT), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0 and "--without" in ended.stdout
