from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from open_clip import SimpleTokenizer

from brats_clip.errors import ReportError
from brats_clip.reports import Findings
from brats_clip.semantics.attributes import VALUES, attribute_slices
from brats_clip.semantics.contrastive import UNKNOWN_WORD
from brats_clip.semantics.pretraining_data import (
    AllSlicesd,
    DrawSlicesd,
    DrawTextsd,
    MirrorCased,
    VarySlicesd,
    collate_pairs,
    prepare_pairs,
)
from brats_clip.transforms import FindFindingsd

FINDINGS = Findings(
    side="left",
    right_fraction=0.1,
    lobes=("frontal",),
    core_lobes=("frontal",),
    wt_ml=40.0,
    tc_ml=20.0,
    et_ml=8.0,
    ncr_ml=12.0,
    ed_ml=20.0,
    enhancement="thick rim",
    necrosis=True,
    necrosis_fraction=0.6,
    oedema="moderate",
    oedema_ratio=1.0,
    foci=1,
    diameter_mm=50.0,
    core_diameter_mm=30.0,
)
REPORT = "A tumour in the left frontal lobe. It enhances. There is oedema."
TOKENIZER = SimpleTokenizer()


@pytest.fixture
def case(brain):
    """A case as after ``DrawSlicesd``: a lesion low in x, which is the patient's left."""
    image = MetaTensor(brain(ball=(18, 40, 30))[0])
    loaded = {"case": "C1", "report": REPORT, "findings": FINDINGS.to_dict(), "image": image, "t1": "unused"}
    return DrawSlicesd(slices_per_plane=3, image_size=32)(loaded)


def text_of(ids: torch.Tensor) -> str:
    return TOKENIZER.decode([token for token in ids.tolist()[1:-1] if token != UNKNOWN_WORD]).strip()


def test_findings_come_from_the_file_of_the_case(tmp_path):
    (tmp_path / "C1_findings.json").write_text(json.dumps(FINDINGS.to_dict()))
    found = FindFindingsd()({"case": "C1", "t1": str(tmp_path / "C1_t1.nii.gz"), "report": ""})
    assert Findings.from_dict(found["findings"]) == FINDINGS


def test_findings_come_from_the_label_where_there_is_no_file(tmp_path, brain):
    image = MetaTensor(brain()[0])
    label = MetaTensor(torch.zeros(1, 64, 80, 64, dtype=torch.uint8), affine=torch.eye(4))
    label[0, 40:55, 30:45, 25:40] = 2
    case = {"case": "C1", "t1": str(tmp_path / "C1_t1.nii.gz"), "image": image}
    assert FindFindingsd()({**case, "label": label})["findings"]["side"] == "right"
    assert FindFindingsd()(case)["findings"] is None


def test_draw_slices_keeps_only_small_tensors(case):
    assert set(case) == {"case", "report", "findings", "slices", "planes"}
    assert case["slices"].shape == (9, 3, 32, 32) and case["slices"].dtype == torch.uint8
    assert case["planes"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_mirroring_swaps_the_side_of_slices_report_and_findings(case):
    mirrored = MirrorCased(prob=1.0)(case)
    assert mirrored["findings"]["side"] == "right" and mirrored["findings"]["right_fraction"] == pytest.approx(0.9)
    assert mirrored["report"] == REPORT.replace("left", "right")
    for plane, moves in ((0, False), (1, True), (2, True)):
        before, after = (data["slices"][data["planes"] == plane, 0].float().amax(0) for data in (case, mirrored))
        assert torch.equal(after, before.flip(-1) if moves else before)
    assert case["findings"]["side"] == "left"


def test_varied_slices_stay_in_range_and_show_every_plane(case):
    vary = VarySlicesd(keep=2).set_random_state(0)
    first, second = vary(case)["slices"], vary(case)["slices"]
    assert first.shape == (6, 3, 32, 32)
    assert first.min() >= 0 and first.max() <= 1
    assert not torch.equal(first, second)


def test_varying_never_swaps_sides(case):
    vary = VarySlicesd(keep=3).set_random_state(0)
    for _ in range(10):
        axial = vary(case)["slices"][-3:, 0].amax(0)
        assert axial.amax(0).argmax() < 16


def test_fresh_texts_describe_the_findings(case):
    draw = DrawTextsd(TOKENIZER, unknown_words=0.0).set_random_state(0)
    drawn = [draw({**case, "slices": torch.zeros(1)}) for _ in range(40)]
    texts = [" ".join(text_of(ids) for ids in item["token_ids"]) for item in drawn]
    assert len(set(texts)) == 40
    assert not any("right" in text.split() for text in texts)
    side = attribute_slices()["side"]
    for item, text in zip(drawn, texts, strict=True):
        assert item["targets"]["image"][side].tolist() == [1, 0, 0, 0]
        if item["targets"]["text"][side].sum():
            assert "left" in text.split()
    assert {float(item["targets"]["text"].sum() > 0) for item in drawn} == {0.0, 1.0}


def test_given_reports_are_taken_whole_and_unchanged(case):
    item = DrawTextsd(TOKENIZER, fresh=False)(AllSlicesd()(case))
    assert [text_of(ids) for ids in item["token_ids"]] == [
        "a tumour in the left frontal lobe .",
        "it enhances .",
        "there is oedema .",
    ]
    assert item["slices"].shape == (9, 3, 32, 32) and item["slices"].max() <= 1


def test_case_without_report_is_evaluated_on_its_findings(case):
    draw = DrawTextsd(TOKENIZER, fresh=False)
    first, second = ([text_of(ids) for ids in draw({**case, "report": ""})["token_ids"]] for _ in range(2))
    assert first == second and "left" in " ".join(first).split()


@pytest.mark.parametrize("fresh", [True, False])
def test_case_without_report_and_findings_is_refused(case, fresh):
    with pytest.raises(ReportError, match="case C1: found neither report nor label"):
        DrawTextsd(TOKENIZER, fresh=fresh)({**case, "report": "", "findings": None})


def test_sentences_are_drawn_from_the_report_without_findings(case):
    draw = DrawTextsd(TOKENIZER, unknown_words=0.0).set_random_state(0)
    for _ in range(10):
        item = draw({**case, "findings": None})
        assert {text_of(ids) for ids in item["token_ids"]} <= {
            "a tumour in the left frontal lobe .",
            "it enhances .",
            "there is oedema .",
        }
        assert item["targets"]["image"].sum() == 0


def test_unknown_words_are_inserted_between_start_and_end_tokens(case):
    draw = DrawTextsd(TOKENIZER, unknown_words=0.3).set_random_state(0)
    for _ in range(20):
        for ids in draw(case)["token_ids"]:
            assert ids[0] == TOKENIZER.sot_token_id and ids[-1] == TOKENIZER.eot_token_id and len(ids) <= 77
    share = np.mean([(ids == UNKNOWN_WORD).float().mean() for _ in range(20) for ids in draw(case)["token_ids"]])
    assert 0.3 < share < 0.6


def test_equal_seeds_draw_equal_pairs(case):
    def run():
        steps = [MirrorCased(0.5), VarySlicesd(), DrawTextsd(TOKENIZER)]
        return Compose(steps).set_random_state(4)(case)

    first, second = run(), run()
    assert torch.equal(first["slices"], second["slices"])
    assert all(torch.equal(a, b) for a, b in zip(first["token_ids"], second["token_ids"], strict=True))


def test_batches_pad_texts_and_mask_the_padding(case):
    draw = DrawTextsd(TOKENIZER, fresh=False)
    items = [draw(AllSlicesd()({**case, "report": text})) for text in (REPORT, "One sentence only, but a longer one.")]
    batch = collate_pairs(items)
    assert batch["text_mask"].tolist() == [[True, True, True], [True, False, False]]
    assert batch["token_ids"].shape[:2] == (2, 3) and batch["slices"].shape == (2, 9, 3, 32, 32)
    for n, item in enumerate(items):
        for t, ids in enumerate(item["token_ids"]):
            assert torch.equal(batch["token_ids"][n, t, : len(ids)], ids)
            assert batch["token_ids"][n, t, len(ids) :].sum() == 0
    slices, targets, _, texts = prepare_pairs(batch, torch.device("cpu"))
    assert slices is not None and set(texts) == {"token_ids", "text_mask"}
    assert targets["text"].shape == (2, len(VALUES))
