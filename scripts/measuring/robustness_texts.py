"""A case segmented with each kind of report: its own, changed ones, and none."""

from __future__ import annotations

from collections.abc import Sequence

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.evaluation import case_metrics
from brats_clip.evaluation.labelled import Truth, draws
from brats_clip.reports import PERTURBATIONS, read_findings

from .region_dice import MEASURES

NONE, TRUE = "none", "true"
KINDS = (NONE, TRUE, *(kind for kind in PERTURBATIONS if kind != NONE))


def texts_of(case: dict, report: str, others: Sequence[str], kinds: Sequence[str], seed: int) -> dict[str, str]:
    """The text of each kind of report for a case; ``others`` are reports of other patients.

    Raises:
        InputError: if another patient's report is wanted and there is none.
    """
    texts = {NONE: "", TRUE: report}
    for kind in kinds:
        if kind not in texts:
            texts[kind] = PERTURBATIONS[kind](report, draws(seed, case["case"], kind), others)
    return {kind: texts[kind] for kind in kinds}


def measure(segmenter: Segmenter, case: dict, truth: Truth, texts: dict[str, str], without: Sequence[str]) -> list:
    """Segment a case with each text; a row for each.

    ``changed`` says whether the text is another than the true report's, and ``used`` whether the segmenter listened to
    it. ``consistency`` (0 to 1) and the warnings are about the text and the image, so that a report that is wrong
    should have a low score.
    """
    segmenter_case = segmenter.set_case(**sequences_of(case, without), case=case["case"])
    says = read_findings(truth.report)["enhancement"]
    rows = []
    for kind, text in texts.items():
        answer = segmenter.segment(report=text)
        scores = case_metrics(answer.label, truth.label, answer.voxel_mm)
        row = {"case": case["case"], "kind": kind, "changed": kind not in (NONE, TRUE) and text != truth.report}
        row |= {f"dice_{region}": scores[f"dice_{region}"] for region in MEASURES}
        row |= {f"volume_ml_ET{end}": scores[f"volume_ml_ET{end}"] for end in ("", "_truth")}
        agreed = answer.consistency
        warned = [check.finding for check in agreed.checks if check.warning] if agreed else []
        row |= {"consistency": agreed.score if agreed else None, "warnings": len(warned) if agreed else None}
        row |= {
            "used": answer.report_used if text else None,
            "warned_of": " ".join(warned),
            "report": truth.source,
            "enhancement_stated": says,
        }
        rows.append(row | {"sequences_missing": " ".join(answer.sequences_missing)})
    segmenter.forget(segmenter_case)
    return rows


def sequences_of(case: dict, without: Sequence[str]) -> dict:
    """The files of a case by sequence, but for those ``without``."""
    return {sequence: case[sequence] for sequence in SEQUENCES if sequence not in without}
