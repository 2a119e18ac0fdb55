"""One task of the benchmark, measured in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from brats_clip.cases import SEQUENCES

from .benchmark_meter import Meter
from .benchmark_networks import Answer, monai_pipeline
from .benchmark_tasks import ADDED, CHANGED, CLICK, FIRST, OURS, WITH_REPORT

# As long as TextBraTS reports are (97 words on average), so that CLIP's text encoder has its usual work. They name no
# place: one that names another than the image shows would be set aside, and nothing would be decoded.
REPORTS = (
    "There is a ring-enhancing mass with a thick and irregular rim. It measures about 45 mm in its largest diameter. "
    "Its centre does not enhance and is hypointense on T1, in keeping with necrosis. Tumour core without enhancement "
    "lies beside the rim. Marked oedema surrounds the mass and is hyperintense on T2 and FLAIR. The volume of the "
    "oedema is about four times that of the core. On T2 the core is heterogeneous, with darker foci that may be blood "
    "products. The neighbouring sulci are effaced, and there is marked mass effect. No second lesion is seen.",
    "The lesion enhances in part after contrast agent, mostly as a thin rim with a nodule of about 12 mm. Its largest "
    "diameter is about 60 mm. The border to the oedema is unclear. On T1 the signal of the core is lower than that of "
    "grey matter. On T2 the lesion is bright and almost homogeneous. About half of the core is necrotic. The oedema is "
    "extensive on FLAIR and reaches far beyond the enhancing part. Mass effect is moderate. There are no further "
    "lesions. The appearance is that of a glioma of high grade.",
)


def measure(task: dict) -> list[dict]:
    """Measure what a task of ``tasks_of`` names, in this process."""
    torch.set_num_threads(task["threads"])
    device = torch.device(task["device"])
    with tempfile.TemporaryDirectory() as folder:
        if task["network"] == OURS:
            return _measure_ours(task, device, Path(folder))
        meter = Meter(device, Path(folder))
        answer = monai_pipeline(task["network"], task["case"], device, task["window"])
        if task["warm_up"]:
            answer()
        meter.take(FIRST, answer)
        return meter.rows


def _measure_ours(task: dict, device: torch.device, folder: Path) -> list[dict]:
    from brats_clip import Segmenter  # here, so that the processes of the others do not carry CLIP

    meter = Meter(device, folder)
    files = {sequence: task["case"][sequence] for sequence in SEQUENCES}
    report = REPORTS[0] if task["with_report"] else None
    results = []

    def prompt(**prompts: object) -> tuple[np.ndarray, np.ndarray]:
        results[:] = [segmenter.segment(**prompts)]  # one answer at a time, as a viewer keeps it
        return results[0].label, results[0].affine

    def first() -> tuple[np.ndarray, np.ndarray]:
        segmenter.set_case(**files)
        return prompt(report=report)

    def take(name: str, answer: Answer) -> dict:
        row = meter.take(name, answer)
        stages = {f"{stage}_seconds": seconds for stage, seconds in results[0].seconds.items()}
        return row | {"report_used": results[0].report_used, **stages}

    if task["warm_up"]:
        segmenter = Segmenter(checkpoint=task["checkpoint"], device=device)
        first()
        results.clear()
        del segmenter  # with its cases, before the one that is measured takes its memory
    segmenter = Segmenter(checkpoint=task["checkpoint"], device=device)
    rows = [take(WITH_REPORT if report else FIRST, first)]
    rows[0]["clip_share"] = (rows[0]["slices_seconds"] + rows[0]["report_seconds"]) / rows[0]["seconds"]
    if not report:
        clicks = {"WT": [_voxel_to_click(results[0].label, files["t1ce"])]}
        rows.append(take(ADDED, lambda: prompt(report=REPORTS[0])))
        for report in changed_reports():
            rows.append(take(CHANGED, lambda report=report: prompt(report=report)))
        rows.append(take(CLICK, lambda: prompt(clicks=clicks)))
    return rows


def changed_reports() -> list[str]:
    """Another report, then this one as a person edits it: each time with another sentence left out."""
    sentences = REPORTS[1].split(". ")
    return [REPORTS[1]] + [". ".join(sentences[:n] + sentences[n + 1 :]) for n in (1, 3, 5)]


def _voxel_to_click(label: np.ndarray, image: str) -> list[int]:
    """A voxel of the tumour that was found, or of the brain where none was."""
    voxels = np.argwhere(label if label.any() else np.asarray(nib.load(image).dataobj))
    return voxels[len(voxels) // 2].tolist()
