"""The simulated annotator: metrics, comparisons, and results after it has stopped."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import simulate_annotation
from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.clicks import Click
from brats_clip.evaluation import case_metrics, region_dice
from measuring.annotation import furthest_mm, obeyed
from tests.interactive import conftest as interactive

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_annotation.py"
REPORT = "A mass in the left frontal lobe. Its rim enhances."
LABEL_OF = {"background": 0, "NCR": 1, "ED": 2, "ET": 4}
tiny_bundle = interactive.bundle


@pytest.fixture
def simulation():
    """The module that the script runs."""
    from measuring import annotation

    return annotation


def lesion() -> np.ndarray:
    label = np.zeros((24, 20, 16), np.uint8)
    label[4:18, 4:16, 3:13] = 2
    label[6:12, 6:14, 5:11] = 4
    label[8:10, 8:12, 7:9] = 1
    return label


class FakeSegmenter:
    """Stand-in for the network: empty at first; a click reveals the truth around it, a report the tumour as oedema."""

    checkpoint, device = str(SCRIPT), "cpu"

    def __init__(self, obedient: bool = True, radius: float = 4.0):
        self.obedient, self.radius, self.hears, self.asked = obedient, radius, True, []

    def set_case(self, case, **sequences):
        self.truth = np.asarray(nib.load(Path(sequences["t1"]).with_name("seg.nii.gz")).dataobj).astype(np.uint8)
        return case

    def segment(self, report="", clicks=None):
        self.asked.append((report, list(clicks or [])))
        label = np.where(self.truth > 0, 2, 0).astype(np.uint8) if report else np.zeros_like(self.truth)
        for kind, voxel in clicks or []:
            distance = np.linalg.norm(np.indices(label.shape).T - np.array(voxel), axis=-1).T
            near = distance <= self.radius
            label[near] = self.truth[near]
            label[voxel] = LABEL_OF[kind] if self.obedient else (LABEL_OF[kind] == 0)
        return SimpleNamespace(label=label, affine=np.eye(4), report_used=bool(report) and self.hears)

    def forget(self, case):
        pass


@pytest.fixture
def fake_segmenter() -> FakeSegmenter:
    made = FakeSegmenter()
    made.truth = lesion()
    return made


@pytest.fixture
def data(tmp_path) -> list[str]:
    """Two cases, one of them without a report, and the options that name them."""
    random, entries = np.random.default_rng(0), []
    for case in ("A", "B"):
        folder = tmp_path / "data" / case
        folder.mkdir(parents=True)
        volumes = {s: random.integers(1, 200, lesion().shape).astype(np.int16) for s in SEQUENCES}
        for name, array in (volumes | {"seg": np.roll(lesion(), case == "B", axis=1)}).items():
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")
        entry = {"case": case, "label": f"{case}/seg.nii.gz", **{s: f"{case}/{s}.nii.gz" for s in SEQUENCES}}
        entries.append(entry | ({"report": REPORT} if case == "A" else {}))
    (tmp_path / "datalist.json").write_text(json.dumps({"testing": entries}))
    return ["--dataset_dir", str(tmp_path / "data"), "--datalist", str(tmp_path / "datalist.json")]


@pytest.fixture
def simulated(simulation, data, tmp_path, monkeypatch):
    """Run the command with a stand-in for the network; return exit code, rows, the stand-in and the Markdown."""

    def run(*arguments: str, obedient: bool = True, hears: bool = True):
        made = FakeSegmenter(obedient)
        made.hears = hears
        monkeypatch.setattr(simulation, "Segmenter", lambda **options: made)
        monkeypatch.setattr(simulation, "draw", lambda *parts: None)
        code = simulate_annotation.main([*data, *arguments, "--output", str(tmp_path / "out")])
        path = tmp_path / "out" / "simulate_annotation.csv"
        rows = list(csv.DictReader(path.open())) if path.is_file() else []
        return code, rows, made, path.with_suffix(".md").read_text() if rows else ""

    return run


def run_of(case: str, dice: list[float], repeat: int = 0, report: str = "without", **more) -> list[dict]:
    columns = [f"dice_{name}" for name in ("WT", "TC", "ET", "mean")]
    start = {"case": case, "report": report, "repeat": repeat, "furthest_mm": None, "source": None}
    return [{**start, "clicks": n, **dict.fromkeys(columns, value), **more} for n, value in enumerate(dice)]


def test_dice_equals_that_of_the_evaluation():
    random = np.random.default_rng(0)
    for values in ([0, 1, 2, 4], [0, 2], [0]):
        answer, truth = random.choice(values, (8, 9, 10)), random.choice([0, 0, 0, 1, 2, 4], (8, 9, 10))
        expected = case_metrics(answer, truth, (1, 1, 1))
        for pair in ((answer, truth), (truth, answer)):
            found = region_dice(*pair)
            assert found == pytest.approx({name: expected[name] for name in found})
    assert region_dice(np.zeros((4, 4, 4)), np.zeros((4, 4, 4)))["dice_ET"] == 1.0


def test_obeyed_counts_clicked_voxels_that_have_the_clicked_kind():
    label = np.zeros((4, 4, 4), np.uint8)
    label[1, 1, 1], label[2, 2, 2], label[3, 3, 3] = 4, 1, 2
    right = [Click((1, 1, 1), "ET"), Click((2, 2, 2), "NCR"), Click((3, 3, 3), "ED"), Click((0, 0, 0), "background")]
    assert obeyed(label, right) == (4, 4)
    # A click on a region does not state which label inside it the voxel has.
    assert obeyed(label, [Click((1, 1, 1), "TC"), Click((2, 2, 2), "WT"), Click((3, 3, 3), "TC")]) == (2, 3)
    assert obeyed(label, [Click((1, 1, 1), "NCR"), Click((0, 0, 0), "WT")]) == (0, 2)
    # A repeated click counts once, and a voxel with contradicting clicks does not count.
    assert obeyed(label, [right[0], right[0], right[1], Click((2, 2, 2), "ET")]) == (1, 1)


def test_furthest_change_is_in_mm_from_the_nearest_click():
    first, affine = (
        np.zeros((20, 20, 20), np.uint8),
        np.array([[0, -2.0, 0, 5], [1, 0, 0, 5], [0, 0, 3, 5], [0, 0, 0, 1]]),
    )
    label = first.copy()
    label[10, 10, 10] = 2
    label[10, 14, 10] = 1  # 8 mm from the first click, 2 mm from the second
    label[10, 10, 8] = 4  # 6 mm from the first
    clicks = [Click((10, 10, 10), "ED"), Click((10, 15, 10), "NCR")]
    assert furthest_mm(label, first, clicks, affine) == pytest.approx(6.0)
    assert furthest_mm(label, first, clicks[:1], affine) == pytest.approx(8.0)
    assert furthest_mm(first, first, clicks, affine) is None


def test_robot_jitter_is_in_mm_on_every_grid(simulation):
    truth = np.zeros((48, 48, 24), np.uint8)
    truth[4:44, 4:44, 2:22] = 2
    voxel_mm = np.array([0.5, 1.0, 4.0])
    spread = {}
    for ideal in (False, True):
        robot = simulation.make_robot(voxel_mm, ideal, seed=0)
        assert robot.smallest == 4  # 8 mm3 of voxels of 2 mm3
        clicks = np.array([robot.click(np.zeros_like(truth), truth).voxel for _ in range(60)])
        spread[ideal] = (clicks * voxel_mm).std(axis=0)
    # Both aim at the deepest tenth of the error, which spans a few mm.
    assert simulation.make_robot(voxel_mm, False, 0).jitter * voxel_mm == pytest.approx([2.0] * 3)
    assert (spread[False] > spread[True]).all()


def test_ideal_robot_always_takes_the_worst_error(simulation):
    truth = np.zeros((30, 12, 12), np.uint8)
    truth[2:12, 2:10, 2:10], truth[20:26, 3:9, 3:9] = 2, 2
    beside = {}
    for ideal in (True, False):
        robots = [simulation.make_robot((1, 1, 1), ideal, seed) for seed in range(40)]
        beside[ideal] = sum(robot.click(np.zeros_like(truth), truth).voxel[0] >= 20 for robot in robots)
    assert beside[True] == 0
    assert 3 < beside[False] < 20


def test_each_answer_uses_all_clicks_so_far(simulation, fake_segmenter):
    robot = simulation.make_robot((1, 1, 1), False, seed=1)
    rows = simulation.annotate(fake_segmenter, lesion(), "", [robot], clicks=4)
    assert [row["clicks"] for row in rows] == [0, 1, 2, 3, 4]
    given = [clicks for _, clicks in fake_segmenter.asked]
    assert [len(clicks) for clicks in given] == [0, 1, 2, 3, 4]
    assert all(before == after[:-1] for before, after in pairwise(given))  # in their order
    dice = [row["dice_mean"] for row in rows]
    assert dice == sorted(dice) and dice[-1] > dice[0]
    # The stand-in changes only the balls around its clicks.
    assert all(0 < row["furthest_mm"] <= 4 for row in rows[1:])
    assert all((row["obeyed"], row["asked"]) == (row["clicks"], row["clicks"]) for row in rows[1:])
    assert all(row["seconds"] > 0 for row in rows)


def test_robot_without_errors_stops_and_its_last_answer_is_repeated(simulation, fake_segmenter):
    fake_segmenter.radius = 99.0
    robots = [simulation.make_robot((1, 1, 1), False, seed=1)]
    rows = simulation.annotate(fake_segmenter, lesion(), "", robots, clicks=3)
    assert len(fake_segmenter.asked) == 2
    assert [row["clicks_made"] for row in rows] == [0, 1, 1, 1]
    assert [row["dice_mean"] for row in rows] == [0.0, 1.0, 1.0, 1.0]
    assert "seconds" not in rows[2] and "obeyed" not in rows[3]


def test_first_answer_is_computed_once_for_all_robots(simulation, fake_segmenter):
    robots = [simulation.make_robot((1, 1, 1), False, seed) for seed in range(3)]
    rows = simulation.annotate(fake_segmenter, lesion(), "", robots, clicks=1)
    assert len(fake_segmenter.asked) == 4 and [row["repeat"] for row in rows] == [0, 0, 1, 1, 2, 2]


def test_spread_is_over_cases_of_means_over_repeats(simulation):
    rows = [*run_of("A", [0.2, 0.4]), *run_of("A", [0.2, 0.8], repeat=1), *run_of("B", [0.6, 0.8], repeat=0)]
    rows += run_of("B", [0.6, 0.8], repeat=1)
    start, end = simulation.summarise(rows)
    assert (start["dice_WT"], end["dice_WT"]) == pytest.approx((0.4, 0.7))
    assert (end["dice_WT_sd"], end["cases"], end["runs"]) == (pytest.approx(0.1414214, abs=1e-6), 2, 4)
    # +0.4 and +0.2
    assert (end["gain_WT"], end["gain_WT_sd"]) == pytest.approx((0.3, 0.1414214), abs=1e-6)
    assert (end["gain_WT_low"], end["gain_WT_high"]) == pytest.approx((0.2, 0.4))
    assert start["gain_WT"] == 0.0


def test_report_is_compared_on_the_same_case(simulation):
    rows = [*run_of("A", [0.2, 0.5]), *run_of("B", [0.6, 0.8])]
    rows += [*run_of("A", [0.3, 0.5], report="with"), *run_of("B", [0.9, 0.8], report="with")]
    lines = {(line["report"], line["clicks"]): line for line in simulation.summarise(rows)}
    assert lines["with", 0]["report_mean"] == pytest.approx(0.2)
    assert lines["with", 0]["report_mean_sd"] == pytest.approx(0.1414214, abs=1e-6)
    assert lines["with", 1]["report_mean"] == pytest.approx(0.0)
    assert "report_mean" not in lines["without", 0]


def test_clicks_to_reach_a_dice_include_runs_that_never_do(simulation):
    rows = [*run_of("A", [0.5, 0.81, 0.7, 0.95]), *run_of("B", [0.85, 0.85, 0.85, 0.85]), *run_of("C", [0.1] * 4)]
    lines = {(line["region"], line["target"]): line for line in simulation.reach(rows)}
    eighty, ninety = lines["ET", 0.8], lines["ET", 0.9]
    # One click, none, never.
    assert (eighty["clicks"], eighty["median"], eighty["never"]) == pytest.approx((0.5, 1.0, 1 / 3))
    assert (ninety["clicks"], ninety["median"], ninety["never"]) == (3.0, None, pytest.approx(2 / 3))
    assert ninety["clicks_sd"] is None and ninety["runs"] == 3


def test_runs_with_and_without_report_use_the_same_seeds(simulation, simulated, monkeypatch):
    seeds, make = [], simulation.make_robot
    monkeypatch.setattr(simulation, "make_robot", lambda *given: seeds.append(given[-1]) or make(*given))
    code, rows, _, text = simulated("--clicks", "3", "--repeats", "2")
    assert code == 0
    # Per case two robots without a report, and the same two with one.
    assert seeds[0:2] == seeds[2:4] and seeds[4:6] == seeds[6:8] and len(set(seeds)) == 4
    assert [(r["case"], r["report"], r["repeat"], r["clicks"]) for r in rows] == [
        (case, report, repeat, clicks)
        for case in "AB"
        for report in ("without", "with")
        for repeat in "01"
        for clicks in "0123"
    ]
    voxels = {(r["case"], r["report"], r["repeat"]): r["voxel"] for r in rows if r["clicks"] == "1"}
    assert len({v for k, v in voxels.items() if k[:2] == ("A", "without")}) == 2
    assert simulated("--clicks", "3", "--repeats", "2")[1][1]["voxel"] == voxels["A", "without", "0"]
    assert simulated("--clicks", "3", "--seed", "1")[1][1]["voxel"] != voxels["A", "without", "0"]
    starts = {(r["case"], r["report"]): float(r["dice_mean"]) for r in rows if r["clicks"] == "0"}
    assert starts["A", "with"] > starts["A", "without"]
    assert "1 of the cases' own, 1 written from the label (a case without one); 0 not used" in text


def test_report_option_selects_one_mode(simulated):
    _, rows, made, text = simulated("--clicks", "2", "--report", "without")
    assert {r["report"] for r in rows} == {"without"} and {report for report, _ in made.asked} == {""}
    assert "- reports:" not in text and "| with |" not in text
    _, rows, made, _ = simulated("--clicks", "2", "--report", "with", "--limit", "1")
    assert {r["report"] for r in rows} == {"with"} and {report for report, _ in made.asked} == {REPORT}
    assert {r["case"] for r in rows} == {"A"}


def test_unused_reports_are_counted_in_the_table(simulated):
    assert "; 2 not used, since they put the tumour where" in simulated("--clicks", "1", hears=False)[3]


def test_clicks_that_are_not_obeyed_are_counted_in_the_table(simulated):
    _, rows, _, text = simulated("--clicks", "2", "--report", "without", obedient=False)
    assert {r["obeyed"] for r in rows if r["clicks"] == "2"} == {"0"}
    assert "Clicks obeyed at their voxel, in every answer since: 0 of 6." in text
    assert "in every answer since: 6 of 6." in simulated("--clicks", "2", "--report", "without")[3]


def test_table_states_cases_runs_hardware_and_seed(simulated):
    text = simulated("--clicks", "2", "--repeats", "2", "--ideal", "--seed", "5")[3]
    for fact in ("- cases: 2", "- runs per case: 2", "- date: 20", "- hardware: ", "- seed: 5", "- robot: ideal robot"):
        assert fact in text
    assert "- command: python scripts/simulate_annotation.py --dataset_dir " in text and "--ideal" in text
    assert "realistic robot: jitter 2 mm" in simulated("--clicks", "1")[3]


def test_one_bad_case_does_not_stop_the_others(simulated, capsys, tmp_path):
    (tmp_path / "data" / "A" / "seg.nii.gz").write_bytes(b"no label")
    code, rows, _, text = simulated("--clicks", "1")
    assert code == 1 and {r["case"] for r in rows} == {"B"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("simulate_annotation: A: ") and "seg.nii.gz" in line
    assert "- failed: A: " in text


@pytest.mark.parametrize("arguments", [[], ["--cases", "nowhere"], ["--dataset_dir", "."]])
def test_missing_cases_give_one_error_line(simulation, capsys, arguments):
    assert simulate_annotation.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("simulate_annotation: ")


@pytest.mark.parametrize(
    "arguments", [["--clicks", "0"], ["--clicks", "1001"], ["--repeats", "0"], ["--report", "half"], ["--limit", "0"]]
)
def test_invalid_arguments_are_refused_before_reading(simulation, arguments):
    with pytest.raises(SystemExit) as ended:
        simulate_annotation.main(["--cases", "nowhere", *arguments])
    assert ended.value.code == 2


def test_command_runs_with_a_tiny_network(simulation, tiny_bundle, tiny_data_set, tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "Segmenter", lambda **options: Segmenter(tiny_bundle, **options))
    output = tmp_path / "out"
    data = ["--cases", str(tiny_data_set.folder), "--limit", "2", "--clicks", "3"]
    assert simulate_annotation.main([*data, "--output", str(output)]) == 0
    rows = list(csv.DictReader((output / "simulate_annotation.csv").open()))
    assert len(rows) == 2 * 2 * 4
    clicked = [r for r in rows if r["voxel"]]
    assert len(clicked) == 12 and all(r["obeyed"] == r["asked"] for r in clicked)
    assert all(float(r["seconds"]) > 0 for r in clicked)
    assert len(list(csv.DictReader((output / "simulate_annotation_reach.csv").open()))) == 2 * 4 * 2
    assert len(list(csv.DictReader((output / "simulate_annotation_summary.csv").open()))) == 2 * 4
    with Image.open(output / "simulate_annotation.png") as picture:
        assert picture.width > 1000 and len(set(picture.convert("RGB").resize((200, 80)).getdata())) > 10
    assert (output / "simulate_annotation.svg").read_text().startswith("<?xml")
