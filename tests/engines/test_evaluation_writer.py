from __future__ import annotations

import csv
import json

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer

from brats_clip import bundle_root
from brats_clip.engines.evaluation_handler import EvaluationWriter
from brats_clip.errors import InputError, LabelError
from brats_clip.evaluation import case_metrics, sha256_of
from brats_clip.labels import REGIONS
from brats_clip.quality import Assessment, RegionEstimate

AFFINE = torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0], dtype=torch.float64))


def label_map(shift: int = 0) -> torch.Tensor:
    label = torch.zeros(1, 20, 22, 12, dtype=torch.uint8)
    label[:, 4:14, 4:14, 2:10], label[:, 6:12, 6:12, 3:9], label[:, 7:11, 7:11, 4:8] = 2, 1, 4
    return label.roll(shift, 1)


def cases(number: int) -> list[dict]:
    image = torch.rand(4, 20, 22, 12) + 1
    return [
        {
            "case": f"case-{i}",
            "image": MetaTensor(image, affine=AFFINE),
            "label": MetaTensor(label_map(), affine=AFFINE),
            "shift": i,
            "report": "One lesion." if i % 2 else "",
        }
        for i in range(number)
    ]


def shifted(data: dict) -> dict:
    return {**data, "pred": MetaTensor(label_map(int(data["shift"])), affine=AFFINE)}


def evaluate(writer: EvaluationWriter, data: list[dict], postprocessing=shifted, batch_size: int = 2) -> None:
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(data), batch_size=batch_size),
        torch.nn.Identity(),
        postprocessing=postprocessing,
    )
    writer.attach(evaluator)
    evaluator.run()


def read(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_cases_that_the_shipped_weights_were_trained_on_are_reported(tmp_path, caplog):
    seen, unseen = cases(2)
    run = {"weights_sha256": sha256_of(bundle_root() / "models" / "model.pt")}
    evaluate(EvaluationWriter(tmp_path, run, overlays=False), [{**seen, "case": "BraTS20_Training_143"}, unseen])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["run"]["trained on"].startswith("1 of these cases")
    assert "BraTS20_Training_143" in caplog.text and "case-1" not in caplog.text.split("The weights were trained on")[1]
    other = {"weights_sha256": sha256_of(bundle_root() / "models" / "model_phantoms.pt")}
    evaluate(EvaluationWriter(tmp_path, other, overlays=False), [{**seen, "case": "BraTS20_Training_143"}])
    assert "trained on" not in json.loads((tmp_path / "summary.json").read_text())["run"]


def test_writes_table_summary_pictures_and_page(tmp_path):
    evaluate(EvaluationWriter(tmp_path, {"command": "evaluate it"}), cases(3))
    rows = read(tmp_path / "metrics.csv")
    assert [row["case"] for row in rows] == ["case-0", "case-1", "case-2"]
    expected = case_metrics(label_map(1)[0].numpy(), label_map()[0].numpy(), (1, 1, 2))
    for column, value in expected.items():
        assert float(rows[1][column]) == pytest.approx(value, rel=1e-5)
    assert [row["report"] for row in rows] == ["no", "yes", "no"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["run"] == {"command": "evaluate it", "cases": 3}
    assert summary["metrics"]["dice_WT"]["mean"] == pytest.approx(
        np.mean([float(r["dice_WT"]) for r in rows]), rel=1e-5
    )
    assert sorted(p.name for p in (tmp_path / "overlays").iterdir()) == [f"case-{i}.png" for i in range(3)]
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/webp") == 3 and "One lesion." in page


def test_second_run_replaces_the_first(tmp_path):
    writer = EvaluationWriter(tmp_path, overlays=False)
    evaluate(writer, cases(3))
    evaluate(writer, [{**case, "shift": 0} for case in cases(2)])
    assert [float(row["dice_WT"]) for row in read(tmp_path / "metrics.csv")] == [1, 1]
    assert not (tmp_path / "overlays").exists()


def test_repeated_case_is_counted_once(tmp_path):
    evaluate(EvaluationWriter(tmp_path, overlays=False), [*cases(2), cases(2)[0]])
    assert json.loads((tmp_path / "summary.json").read_text())["metrics"]["dice_WT"]["n"] == 2


def test_attention_maps_are_drawn_if_present(tmp_path):
    def attentive(data):
        return {**shifted(data), "attention": torch.rand(2, 20, 22, 12)}

    plain, with_maps = tmp_path / "plain", tmp_path / "maps"
    names = ("attention TC", "attention ET")
    evaluate(EvaluationWriter(plain, attention_key="attention", attention_names=names), cases(1))
    evaluate(EvaluationWriter(with_maps, attention_key="attention", attention_names=names), cases(1), attentive)
    sizes = [(folder / "overlays" / "case-0.png").stat().st_size for folder in (plain, with_maps)]
    assert sizes[1] > sizes[0]


def test_prediction_on_another_grid_is_an_error(tmp_path):
    def moved(data):
        other = AFFINE.clone()
        other[0, 3] = 3.0
        return {**data, "pred": MetaTensor(label_map(), affine=other)}

    def smaller(data):
        return {**data, "pred": MetaTensor(label_map()[:, 1:], affine=AFFINE)}

    for postprocessing, message in ((moved, "3 mm away"), (smaller, "shape")):
        with pytest.raises(LabelError, match=f"case-0.*{message}"):
            evaluate(EvaluationWriter(tmp_path), cases(1), postprocessing)
    assert list(tmp_path.iterdir()) == []


def test_regions_in_place_of_labels_are_an_error(tmp_path):
    def regions(data):
        return {**data, "pred": MetaTensor(label_map().repeat(3, 1, 1, 1), affine=AFFINE)}

    with pytest.raises(LabelError, match="3 channels"):
        evaluate(EvaluationWriter(tmp_path), cases(1), regions)


@pytest.mark.parametrize("case", ["", "../up", "a/b"])
def test_case_id_that_leaves_the_output_folder_is_an_error(tmp_path, case):
    with pytest.raises(InputError, match="id"):
        evaluate(EvaluationWriter(tmp_path), [{**cases(1)[0], "case": case}])


def test_case_without_label_is_an_error(tmp_path):
    data = cases(1)[0]
    with pytest.raises(InputError, match=r"case-0.*'truth'"):
        evaluate(EvaluationWriter(tmp_path, label_key="truth"), [data])


def test_evaluation_without_cases_is_an_error(tmp_path):
    def step(engine, batch):
        engine.state.batch = []
        return []

    engine = Engine(step)
    EvaluationWriter(tmp_path).attach(engine)
    with pytest.raises(InputError, match="no case"):
        engine.run([0])


def _process(local_rank: int, folder: str) -> None:
    # Three cases over two processes: the sampler repeats one, so that both get the same number.
    number = 3
    mine = [cases(number)[i % number] for i in range(idist.get_rank(), number + 1, 2)]
    evaluate(EvaluationWriter(folder), mine, batch_size=1)


def test_two_processes_give_the_same_results_as_one(tmp_path):
    evaluate(EvaluationWriter(tmp_path / "one"), cases(3))
    with idist.Parallel(backend="gloo", nproc_per_node=2, start_method="fork") as parallel:
        parallel.run(_process, str(tmp_path / "two"))
    for name in ("metrics.csv", "summary.json"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()
    pages = [(tmp_path / run / "report.html").read_text() for run in ("one", "two")]
    assert pages[0].count("data:image/webp") == pages[1].count("data:image/webp") == 3


def test_expected_dice_is_reported_beside_the_measured_dice(tmp_path):
    place = {"region": "ET", "kind": "false piece", "voxel": [1, 2, 3], "text": "left insular, slice 4: about 2 ml"}
    estimate = RegionEstimate(0.55, 0.31, 0.79, 3.1, 2.0, 4.5, -0.4)

    class Inferer(SimpleInferer):
        def __call__(self, inputs, network, *args, **kwargs):
            self.assessments = [
                Assessment(dict.fromkeys(REGIONS, estimate), [place], 0.8, False, np.zeros((3, 1))) for _ in inputs
            ]
            return super().__call__(inputs, network, *args, **kwargs)

    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(cases(3)), batch_size=2),
        torch.nn.Identity(),
        inferer=Inferer(),
        postprocessing=shifted,
    )
    EvaluationWriter(tmp_path, overlays=False).attach(evaluator)
    evaluator.run()
    assert [float(row["expected_dice_ET"]) for row in read(tmp_path / "metrics.csv")] == [0.55] * 3
    page = (tmp_path / "report.html").read_text()
    assert page.count("left insular, slice 4: about 2 ml") == 3 and page.count("[0.31, 0.79]") == 9
    assert "not fitted for these weights" in page
