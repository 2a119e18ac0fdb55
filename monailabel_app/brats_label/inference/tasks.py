"""The two models as MONAI Label offers them, and their answers as the files that viewers ask for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from ..errors import ClientError
from ..labels.naming import LABELS
from .options import InferOptions, read_clicks, read_strokes, shown_options
from .service import Answer, Prompt, SegmentationService

ABOUT = "Segments a brain tumour from T1, T1ce, T2 and FLAIR, with or without the radiology report."
EXTENSIONS = (".nii.gz", ".nii", ".nrrd")


class SegmentationTask(InferTask):
    """Automatic segmentation, guided by a report where there is one.

    What ``config`` returns, viewers show as options. They send back what was changed alone, so each has a default.
    """

    type, description = InferType.SEGMENTATION, ABOUT

    def __init__(self, service: SegmentationService) -> None:
        self.service = service
        super().__init__(self.type, dict(LABELS), 3, self.description)

    def config(self) -> dict[str, Any]:
        return shown_options(self.service.settings.allow_missing_sequences)

    def is_valid(self) -> bool:
        return True

    def get_path(self, validate: bool = True) -> str:
        return str(self.service.models.current().path)

    def prompt(self, request: Mapping[str, Any]) -> Prompt:
        """Read a request; what is not in it takes its default.

        Raises:
            ClientError: for a value that cannot be read.
        """
        options = InferOptions.read(request)
        return Prompt(
            image_id=str(request["image"]),
            report=options.report,
            use_report=options.use_report,
            clicks=self.clicks(request),
            strokes=self.strokes(request),
            keep=options.keep,
            output=options.output,
            sequences=options.sequences,
            allow_missing=options.allow_missing_sequences,
        )

    def clicks(self, request: Mapping[str, Any]) -> dict[str, list]:
        return {}

    def strokes(self, request: Mapping[str, Any]) -> dict[str, list]:
        return {}

    def answer(self, request: Mapping[str, Any], before: np.ndarray | nib.Nifti1Image | None = None) -> Answer:
        """Segment what a request asks for; ``image`` is an id.

        Args:
            request: as the client sent it.
            before: label that the option ``keep`` refers to, as ``SegmentationService.answer``; None if there is none.

        Raises:
            ClientError: for a request that cannot be answered.
        """
        return self.service.answer(self.prompt(request), before)

    def write(self, answer: Answer, request: Mapping[str, Any]) -> Path:
        """The answer as a file of the kind that was asked for; the caller removes it."""
        options = InferOptions.read(request)
        return write_result(answer.label, options.result_extension, options.result_compress)

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        answer = self.answer(request)
        return str(self.write(answer, request)), answer.params


class ClickTask(SegmentationTask):
    """The same, corrected by clicks, ``{"ET": [[i, j, k], ...], "background": [...]}`` in voxels of the image shown,
    and by strokes, ``{"strokes": {"ET": [[[i, j, k], ...], ...]}}``: polylines."""

    type, description = InferType.DEEPEDIT, f"{ABOUT} Corrects the answer where you click."

    def clicks(self, request: Mapping[str, Any]) -> dict[str, list]:
        return read_clicks(request)

    def strokes(self, request: Mapping[str, Any]) -> dict[str, list]:
        return read_strokes(request)


def write_result(label: nib.Nifti1Image, extension: str, compress: bool = True) -> Path:
    """Write a label map to a temporary file, which whoever sends it removes.

    Args:
        label: 3D, uint8.
        extension: one of ``EXTENSIONS``.
        compress: for NRRD; OHIF reads it uncompressed alone.

    Raises:
        ClientError: for another extension.
    """
    if extension not in EXTENSIONS:
        raise ClientError(f"result_extension: found {extension!r}; expected one of {', '.join(EXTENSIONS)}.")
    with tempfile.NamedTemporaryFile(suffix=extension, prefix="label-", delete=False) as file:
        path = Path(file.name)
    array = np.asarray(label.dataobj).astype(np.uint8)
    if extension == ".nrrd":
        SimpleITK.WriteImage(_to_itk(array, label.affine), str(path), compress)
    else:
        nib.save(nib.Nifti1Image(array, label.affine), path)
    return path


def _to_itk(array: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    spacing = np.linalg.norm(lps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps / spacing).ravel().tolist())
    image.SetOrigin((np.diag([-1.0, -1.0, 1.0]) @ affine[:3, 3]).tolist())
    return image
