"""The two models as MONAI Label offers them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from brats_clip.cases import SEQUENCES
from brats_clip.errors import InputError
from brats_clip.switches import read_switch

from ..errors import ClientError
from .labels import CLICKS, LABELS, OUTPUTS, TISSUES
from .result_file import write_result
from .service import Answer, Prompt, SegmentationService

ABOUT = "Segments a brain tumour from T1, T1ce, T2 and FLAIR, with or without the radiology report."


class SegmentationTask(InferTask):
    """Automatic segmentation, guided by a report where there is one.

    What ``config`` returns, viewers show as options: a text as a field, a switch as a box, a list as a choice. They
    send back what was changed alone, so each has its default here.

    Args:
        service: what answers.
    """

    type, description = InferType.SEGMENTATION, ABOUT

    def __init__(self, service: SegmentationService) -> None:
        self.service = service
        super().__init__(self.type, dict(LABELS), 3, self.description)

    def config(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "report": "",
            "use_report": True,
            "output": list(OUTPUTS),
            "allow_missing_sequences": self.service.settings.allow_missing_sequences,
            "submit": False,
        }
        return options | {f"use_{sequence}": True for sequence in SEQUENCES}

    def is_valid(self) -> bool:
        return True

    def get_path(self, validate: bool = True) -> str:
        return str(self.service.models.current().path)

    def answer(self, request: Mapping[str, Any]) -> Answer:
        """Segment what a request asks for; ``image`` is an id.

        Raises:
            ClientError: for a request that cannot be answered.
        """
        return self.service.answer(self.prompt(request))

    def prompt(self, request: Mapping[str, Any]) -> Prompt:
        """Read a request; what is not in it takes its default."""
        output = request.get("output", TISSUES)
        if isinstance(output, list):  # a viewer that was not touched may send the whole choice
            output = output[0] if output else TISSUES
        report = request.get("report") or ""
        if not isinstance(report, str):
            raise ClientError(f"report: found {type(report).__name__}; expected a text.")
        return Prompt(
            image_id=str(request["image"]),
            report=report,
            use_report=_switch(request, "use_report", True),
            clicks=self.clicks(request),
            output=str(output),
            sequences=tuple(s for s in SEQUENCES if _switch(request, f"use_{s}", True)),
            allow_missing=_switch(request, "allow_missing_sequences", False),
        )

    def clicks(self, request: Mapping[str, Any]) -> dict[str, list]:
        return {}

    def wants_to_submit(self, request: Mapping[str, Any]) -> bool:
        """Whether the answer is to be saved as a label, too: OHIF has no button for it."""
        return _switch(request, "submit", False)

    def write(self, answer: Answer, request: Mapping[str, Any]) -> Path:
        """The answer as a file of the kind that was asked for; the caller removes it."""
        extension = str(request.get("result_extension") or ".nii.gz")
        return write_result(answer.label, extension, _switch(request, "result_compress", True))

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        answer = self.answer(request)
        return str(self.write(answer, request)), answer.params


class ClickTask(SegmentationTask):
    """The same, corrected by clicks: ``{"ET": [[i, j, k], ...], "background": [...]}`` in voxels of the image shown."""

    type, description = InferType.DEEPEDIT, f"{ABOUT} Corrects the answer where you click."

    def clicks(self, request: Mapping[str, Any]) -> dict[str, list]:
        clicks = {}
        for name in CLICKS:
            points = request.get(name)
            if isinstance(points, str):  # some clients send the list as a text
                try:
                    points = json.loads(points)
                except ValueError:
                    raise ClientError(
                        f"clicks on {name}: found {points[:60]!r}; expected a list of [i, j, k]."
                    ) from None
            if points is not None and not isinstance(points, list):
                raise ClientError(f"clicks on {name}: found {str(points)[:60]}; expected a list of [i, j, k].")
            if points:
                clicks[name] = points
        return clicks


def _switch(request: Mapping[str, Any], name: str, default: bool) -> bool:
    value = request.get(name)
    if value is None:
        return default
    try:
        return read_switch(name, value)
    except InputError:
        raise ClientError(f"{name}: found {str(value)[:40]!r}; expected true or false.") from None
