"""The benchmark script: networks compared, measurements, output and errors."""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

import benchmark
import brats_clip
from brats_clip.reports import read_findings
from measuring import benchmark_networks
from measuring.benchmark import ADDED, CHANGED, CLICK, FIRST, OURS, REPORTS
from measuring.benchmark_networks import Meter, build_network, monai_pipeline, window_of
from tests.cases.case_files import write_case

ROOT = Path(__file__).parents[2]
SCRIPT, BUNDLE = ROOT / "scripts" / "benchmark.py", ROOT / "bundle"


@pytest.fixture
def script():
    """The module that the script runs."""
    from measuring import benchmark

    return benchmark


def run_command(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run from another folder without PYTHONPATH: the script finds its bundle by itself."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=900)


def row(network: str, answer: str, seconds: float, peak: float, **more: float) -> dict:
    measured = {"seconds": seconds, "writing": 0.1, "peak_gib": peak, "above_imports_gib": peak - 0.9, **more}
    return {"case": "PHANTOM_0", "network": network, "repeat": 0, "answer": answer, **measured}


@pytest.fixture
def rows() -> list[dict]:
    """Rows of two networks; the first answer of brats_clip was measured three times."""
    ours = [row("brats_clip", FIRST, s, 1.5, clip_share=c) for s, c in ((4, 0.05), (9, 0.01), (5, 0.06))]
    prompts = [row("brats_clip", a, 0.5, 1.4, report_used=a != CLICK) for a in (ADDED, CHANGED, CLICK)]
    return [row("segresnet", FIRST, 50, 4.5), *ours, *prompts]


# Networks and tasks


@pytest.mark.parametrize(
    ("name", "millions"),
    [("segresnet", 4.702), ("swinunetr", 62.192), ("dynunet", 31.192)],
    ids=str,
)
def test_networks_have_the_published_number_of_parameters(name, millions):
    network = build_network(name)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.001)
    assert not network.training


@pytest.mark.parametrize(("name", "size"), [("segresnet", (16, 16, 16)), ("dynunet", (64, 32, 32))])
def test_networks_predict_background_everywhere(name, size):
    with torch.no_grad():
        assert (build_network(name)(torch.randn(1, 4, *size)) < 0).all()


def test_windows_are_reduced_only_in_a_trial():
    brats = (240, 240, 155)
    for trial in (False, True):
        assert window_of("segresnet", brats, trial) == (240, 240, 160)
        assert window_of("dynunet", brats, trial) == (128, 128, 128)
    assert window_of("segresnet", (64, 70, 40), trial=True) == (64, 96, 64)
    assert window_of("segresnet", (64, 70, 40)) == (240, 240, 160)


@pytest.mark.parametrize("name", ["segresnet", "dynunet"])
def test_label_is_on_the_grid_of_the_files(tmp_path, monkeypatch, name):
    case = write_case(tmp_path)
    head = np.asarray(nib.load(case["t1ce"]).dataobj) > 0

    class Threshold(torch.nn.Module):
        def forward(self, image):  # TC and WT inside the head, no ET
            inside = torch.where(image[:, :1] != 0, 9.0, -9.0)
            return torch.cat([inside, inside, torch.full_like(inside, -9.0)], dim=1)

    monkeypatch.setattr(benchmark_networks, "build_network", lambda name: Threshold())
    label, affine = monai_pipeline(name, case, torch.device("cpu"), (32, 32, 32))()
    assert label.dtype == np.uint8 and np.array_equal(label, head.astype(np.uint8))
    np.testing.assert_allclose(affine, nib.load(case["t1ce"]).affine)


def test_repeats_alternate_and_slow_networks_stop_early(script, tmp_path):
    options = {"networks": ["brats_clip", "dynunet"], "repeats": 2, "slow_repeats": 1, "checkpoint": None, "size": None}
    args = argparse.Namespace(**options, device="cpu", threads=1, warm_up=False)
    tasks = script.tasks_of(args, write_case(tmp_path))
    order = [(t["repeat"], t["network"], t.get("with_report")) for t in tasks]
    ours = "brats_clip"
    assert order == [(0, ours, False), (0, ours, True), (0, "dynunet", None), (1, ours, False), (1, ours, True)]


def test_reports_are_as_long_as_real_ones_and_name_no_place():
    assert [len(report.split()) for report in REPORTS] == [pytest.approx(97, abs=12)] * 2
    for report in REPORTS:
        found = read_findings(report)
        assert not found.get("side") and not found.get("lobes")


# Measurements


def test_writing_time_counts_only_for_a_first_answer(tmp_path, monkeypatch):
    clock = iter([0.0, 3.0, 3.5, 10.0, 11.0, 11.5])
    monkeypatch.setattr(Meter, "_now", lambda self: next(clock))
    meter = Meter(torch.device("cpu"), tmp_path)
    label = np.ones((4, 4, 4), np.uint8)
    for name in ("first answer", "re-prompt"):
        meter.take(name, lambda: (label, np.eye(4)))
    assert [(r["seconds"], r["writing"]) for r in meter.rows] == [(3.5, 0.5), (1.0, 0.5)]
    assert np.array_equal(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj), label)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_freed_memory_does_not_count_for_later_answers(tmp_path):
    def answer(mebibytes):
        np.ones(mebibytes * 2**17)
        return np.zeros((4, 4, 4), np.uint8), np.eye(4)

    meter = Meter(torch.device("cpu"), tmp_path)
    large, small = (meter.take("answer", lambda m=m: answer(m))["above_imports_gib"] for m in (512, 1))
    assert large == pytest.approx(0.5, abs=0.1) and small < 0.2


@pytest.mark.slow
def test_memory_of_the_parent_process_does_not_count(tmp_path):
    ballast = np.ones(3 * 2**27)  # 3 GiB, more than the imports take
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import benchmark, measuring.benchmark; "
    code += "from measuring.benchmark_networks import peak_bytes; print(peak_bytes())"
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 2**27 < peak < ballast.nbytes / 2


def test_warm_up_segmenter_is_freed_before_the_measurement(script, tmp_path, monkeypatch):
    made, left = [], []

    class StandIn:
        def __init__(self, **options):
            left.append([ref() is not None for ref in made])
            made.append(weakref.ref(self))

        def set_case(self, **files):
            pass

        def segment(self, **prompts):
            answer = SimpleNamespace(label=np.ones((24, 28, 20), np.uint8), affine=np.eye(4), report_used=True)
            answer.seconds = {"slices": 0.0, "report": 0.0}
            made.append(weakref.ref(answer.label))
            return answer

    monkeypatch.setattr(brats_clip, "Segmenter", StandIn, raising=False)
    task = {"network": OURS, "case": write_case(tmp_path), "checkpoint": None, "device": "cpu", "threads": 1}
    rows = script.measure({**task, "warm_up": True, "with_report": True})
    assert left == [[], [False, False]] and len(rows) == 1


# Summary


def test_ratios_are_relative_to_the_median_first_answer_of_brats_clip(script, rows):
    summary = {(r["network"], r["answer"]): r for r in script.summarise(rows)}
    first = summary["brats_clip", FIRST]
    assert (first["seconds"], first["fastest"], first["slowest"], first["repeats"]) == (5, 4, 9, 3)
    assert first["seconds_ratio"] == first["peak_gib_ratio"] == 1
    other = summary["segresnet", FIRST]
    assert other["seconds_ratio"] == 10 and other["peak_gib_ratio"] == pytest.approx(3)
    assert next(iter(summary)) == ("brats_clip", FIRST)


def test_summary_states_speed_memory_and_clip_share(script, rows):
    said = "\n".join(script.summary_sentences(script.summarise(rows)))
    assert "SegResNet (model zoo): 10.0 times the seconds" in said and "peaks at 33% of its memory" in said
    assert "Re-prompt: click: 10.0% of the first answer's seconds." in said
    assert "CLIP's share of the first answer: 5.0%." in said


def test_table_without_brats_clip_has_no_ratios(script, rows):
    summary = script.summarise(rows[:1])
    assert script.summary_sentences(summary) == []
    text = script.to_markdown(summary, {}, {"torch": "2"}, trial=False)
    assert "| SegResNet (model zoo) | first answer | 50.00 |" in text and "ratio |" not in text


def test_page_states_weights_hardware_and_failures(script, rows):
    failures = {"swinunetr": "ended by signal 9"}
    run = {"processor": "Some CPU", "cores": 2, "torch": "2.11.0", "weights": None}
    text = script.to_markdown(script.summarise(rows), failures, run, trial=False)
    for said in ("random (seeded)", "- processor: Some CPU", "- cores: 2", "SwinUNETR (tutorial) failed: ended by"):
        assert said in text
    assert "GPU memory" not in text and "weights: None" not in text and "these figures say nothing" not in text
    assert "these figures say nothing" in script.to_markdown(script.summarise(rows), {}, run, trial=True)


def test_page_states_that_a_report_was_set_aside(script, rows):
    assert "aside" not in script.to_markdown(script.summarise(rows), {}, {}, trial=False)
    aside = [r | {"report_used": False} if r["answer"] == CHANGED else r for r in rows]
    text = script.to_markdown(script.summarise(aside), {}, {}, trial=False)
    assert text.count("aside") == 1 and "- Re-prompt: report changed: set the report aside" in text


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_picture_has_a_bar_for_every_answer(script, rows, tmp_path, ending):
    path = tmp_path / f"benchmark.{ending}"
    script.draw(script.summarise(rows), tmp_path / "benchmark", "Some CPU")
    if ending == "png":
        assert Image.open(path).size[0] > 1000
    else:
        assert path.read_text().count("SegResNet (model zoo), first answer") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["benchmark.png", "benchmark.svg"]


# Errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("--networks", "segresnet,unet"),
        ("--networks", ""),
        ("--repeats", "0"),
        ("--slow_repeats", "0"),
        ("--threads", "0"),
        ("--seed", "-1"),
        ("--size", "32", "64", "64"),
        ("--size", "64", "64", "64", "--case", "here"),
        ("--device", "tpu"),
        pytest.param(
            ("--device", "cuda"), marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
        ),
    ],
    ids=" ".join,
)
def test_bad_arguments_are_refused_in_one_line_before_any_work(script, tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        benchmark.main(["--output", str(tmp_path / "out"), *arguments])
    assert exit_.value.code == 2
    assert "error: --" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def two_cases(folder: Path) -> None:
    write_case(folder, "BraTS2021_00000")
    write_case(folder, "BraTS2021_00001")


@pytest.mark.parametrize(("make", "found"), [(None, "no such folder"), (Path.mkdir, "no case"), (two_cases, "2 cases")])
def test_folder_without_exactly_one_case_exits_with_code_2(script, tmp_path, capsys, monkeypatch, make, found):
    monkeypatch.setattr(script, "run_in_subprocess", lambda task: pytest.fail("measured"))
    if make:
        make(tmp_path / "case")
    assert benchmark.main(["--case", str(tmp_path / "case"), "--output", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"found {found}" in line and not (tmp_path / "out").exists()


def test_missing_weights_are_refused_before_measuring(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "run_in_subprocess", lambda task: pytest.fail("measured"))
    options = ["--checkpoint", str(tmp_path / "none.pt"), "--case", write_case(tmp_path / "case")["t1"]]
    assert benchmark.main([*options, "--output", str(tmp_path / "out")]) == 2
    assert "none.pt: found no file" in capsys.readouterr().err


def test_one_failure_stops_no_other_and_sets_the_exit_code(script, tmp_path, capsys, monkeypatch, rows):
    tried = []

    def run_in_subprocess(task):
        tried.append(task["network"])
        return ([], "RuntimeError: no") if task["network"] == "dynunet" else (rows[:1], None)

    monkeypatch.setattr(script, "run_in_subprocess", run_in_subprocess)
    write_case(tmp_path / "case")
    options = ["--networks", "dynunet,segresnet", "--slow_repeats", "2", "--output", str(tmp_path / "out")]
    assert benchmark.main(["--case", str(tmp_path / "case"), *options]) == 1
    assert tried == ["dynunet", "segresnet", "segresnet"]
    assert "Error: DynUNet (nnU-Net): RuntimeError: no" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"benchmark.{ending}" for ending in ("csv", "md", "png", "svg")
    ]


@pytest.mark.slow
def test_error_of_a_measurement_is_printed(tmp_path):
    case = write_case(tmp_path / "case")
    Path(case["t2"]).write_bytes(b"no image")
    result = run_command(tmp_path, "--case", tmp_path / "case", "--networks", "segresnet", "--output", "out")
    assert result.returncode == 1
    assert "Error: SegResNet (model zoo): " in result.stdout and not (tmp_path / "out").exists()


# End to end


@pytest.fixture
def weights(tmp_path) -> Path:
    """Random weights for the network of inference.json."""
    config = ConfigParser()
    config.read_config(BUNDLE / "configs" / "inference.json")
    config["bundle_root"] = str(BUNDLE)
    torch.manual_seed(0)
    torch.save(config.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.mark.slow
def test_small_phantom_is_measured_end_to_end(tmp_path, weights):
    size, networks = ("--size", 64, 64, 64), ("--networks", "brats_clip,dynunet,swinunetr")
    options = (*size, *networks, "--checkpoint", weights, "--threads", 1, "--repeats", 1)
    result = run_command(tmp_path, *options, "--output", "out")
    assert result.returncode == 0, result.stdout + result.stderr
    with (tmp_path / "out" / "benchmark.csv").open() as file:
        rows = {(r["network"], r["answer"]): r for r in csv.DictReader(file)}
    ours = ["first answer", "re-prompt: report added", "re-prompt: report changed", "re-prompt: click"]
    assert list(rows) == [
        *(("brats_clip", answer) for answer in ours),
        ("brats_clip", "first answer with a report"),
        ("dynunet", "first answer"),
        ("swinunetr", "first answer"),
    ]
    for measured in rows.values():
        assert float(measured["seconds"]) > 0 and float(measured["peak_gib"]) > float(measured["above_imports_gib"])
    for answer in (ours[0], "first answer with a report"):
        assert 0 < float(rows["brats_clip", answer]["clip_share"]) < 1
    for answer in ours[1:3]:  # otherwise, a cached answer was measured
        assert rows["brats_clip", answer]["report_used"] == "True"
        assert float(rows["brats_clip", answer]["decode_seconds"]) > 0
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert "these figures say nothing" in text and "times the seconds of this network's first answer" in text
