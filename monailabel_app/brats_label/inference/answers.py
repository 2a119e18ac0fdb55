"""Answer MONAI Label's inference requests, for cases of the server or uploaded images, and write result files."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.sessions import SessionInfo, Sessions

from ..errors import ClientError, NotFound, Refused
from ..labels import FINAL, ORIGINAL, prediction_of
from ..labels.naming import LABELS
from ..studies.folder import FolderSource
from ..studies.library import CaseLibrary
from ..uploads import safe_name
from .options import ADD, HISTORY, InferOptions, not_understood, read_clicks, read_strokes, shown_options
from .service import Answer, Prompt, SegmentationService

ABOUT = "Segments a brain tumour from T1, T1ce, T2 and FLAIR, with or without the radiology report."
EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
_SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SegmentationTask(InferTask):
    """Automatic segmentation, guided by a report if there is one.

    Viewers show the options that ``config`` returns. They send back only changed options, so each has a default.
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
        """Read a request; missing options take their defaults.

        Raises:
            ClientError: for an invalid value.
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
        """Segment the case of a request; ``request["image"]`` is an id.

        Args:
            request: as the client sent it.
            before: label that the option ``keep`` refers to, as in ``SegmentationService.answer``; None without one.

        Raises:
            ClientError: for a request that cannot be fulfilled.
        """
        return self.service.answer(self.prompt(request), before)

    def write(self, answer: Answer, request: Mapping[str, Any]) -> Path:
        """Write the answer to a file of the requested format, which the caller removes."""
        options = InferOptions.read(request)
        return write_result(answer.label, options.result_extension, options.result_compress)

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        answer = self.answer(request)
        return str(self.write(answer, request)), answer.params


class ClickTask(SegmentationTask):
    """Segmentation corrected by clicks, ``{"ET": [[i, j, k], ...], "background": [...]}`` in voxels of the displayed
    image, and by strokes (polylines), ``{"strokes": {"ET": [[[i, j, k], ...], ...]}}``."""

    type, description = InferType.DEEPEDIT, f"{ABOUT} Corrects the answer where you click."

    def clicks(self, request: Mapping[str, Any]) -> dict[str, list]:
        return read_clicks(request)

    def strokes(self, request: Mapping[str, Any]) -> dict[str, list]:
        return read_strokes(request)


def write_result(label: nib.Nifti1Image, extension: str, compress: bool = True) -> Path:
    """Write a label map to a temporary file, which the caller removes.

    Args:
        label: 3D, uint8.
        extension: one of ``EXTENSIONS``.
        compress: for NRRD; OHIF reads only uncompressed NRRD.

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


def answer_request(app: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request, and store the answer as a label if requested.

    Returns:
        ``file`` (the caller removes it), ``label``, ``tag`` and ``params``, as MONAI Label's ``infer`` does.

    Raises:
        ClientError: for a request that cannot be fulfilled.
    """
    task = app.infer_task(str(request.get("model") or ""))
    result = _answered(app, task, request)
    if unknown := not_understood(request, task.config()):
        params = result["params"]
        result["params"] = params | {"notes": [*params["notes"], f"Not understood: {', '.join(unknown)}."]}
    return result


def _answered(app: Any, task: SegmentationTask, request: Mapping[str, Any]) -> dict[str, Any]:
    if request.get("uploaded"):
        return _of_file(app, task, request)
    if request.get("session_id"):
        return _of_session(app, task, request)
    if not isinstance(request.get("image"), str):
        raise ClientError("image: found none; expected the id of an image.")
    return _of_case(app, task, request)


def _of_case(app: Any, task: SegmentationTask, request: Mapping[str, Any]) -> dict[str, Any]:
    options = InferOptions.read(request)
    answer = _answer(app, task, request, options)
    params = answer.params
    if options.saves:
        tag = FINAL if options.submit else options.label_tag or ORIGINAL
        params["saved"] = _store(app, answer, tag, request)
    file = _dicom_seg(app, answer) if request.get("as_dicom_seg") else task.write(answer, request)
    return {"label": str(file), "tag": DefaultLabelTag.ORIGINAL, "file": str(file), "params": params}


def _answer(app: Any, task: SegmentationTask, request: Mapping[str, Any], options: InferOptions) -> Answer:
    """Return a new answer, which is added to the user's history, or an earlier one from that history."""
    image, who = str(request["image"]), request.get("user")
    case_id = app.service.source.resolve(image)[0].case_id
    if by := HISTORY[options.history]:
        return app.service.answer_again(image, app.prompts.step(case_id, str(who or ""), by))
    answer = task.answer(request, _before(app, case_id, str(who or "")) if options.keep else None)
    if who is not None:  # None for a batch
        app.prompts.add(case_id, str(who), answer.params, answer.working_label)
    return answer


def _before(app: Any, case_id: str, who: str) -> np.ndarray | nib.Nifti1Image | None:
    """Return the user's current answer for a case, or else the newest label of the case."""
    if (step := app.prompts.current(case_id, who)) is not None:
        return step.label
    labels = app.datastore().labels
    revision = labels.current(case_id, FINAL) or labels.current(case_id, ORIGINAL)
    return None if revision is None else nib.load(revision.path)


def _store(app: Any, answer: Answer, tag: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Save the answer as a label of its case: for batch inference, and for OHIF, which has no button for it."""
    with tempfile.TemporaryDirectory(prefix="answer-") as folder:
        path = Path(folder) / "label.nii.gz"
        nib.save(answer.reference_label, path)
        who = {
            "user": str(request.get("user") or request.get("client_id") or ""),
            "model": str(request["model"]),
            "model_version": answer.params["model"]["version"],
        }
        image = answer.case.images[answer.case.reference].image_id  # not the case id, which may mean another image
        facts = prediction_of(answer.params)
        stored = app.datastore().store_label(image, path, tag, who | {"empty": True}, facts)
    app.on_save_label(answer.case.case_id, answer.case.case_id, tag)
    return {"tag": tag, **stored.to_dict()}


def _dicom_seg(app: Any, answer: Answer) -> Path:
    if app.exchange is None:
        raise Refused("The studies are files; a DICOM SEG needs DICOM images to refer to. Ask for output=image.")
    with tempfile.NamedTemporaryFile(prefix="label-", suffix=".dcm", delete=False) as file:
        path = Path(file.name)
    try:
        app.exchange.write(answer.case, answer.reference_label, path, answer.params["model"]["version"])
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _of_file(app: Any, task: SegmentationTask, request: Mapping[str, Any]) -> dict[str, Any]:
    """Segment an uploaded case: a 4D file, or a single sequence, which its name identifies."""
    path = Path(request["uploaded"])
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        name = safe_name(str(request.get("name") or path.name))
        suffix = "".join(path.suffixes)
        target = Path(folder) / "case" / (name if name.endswith(suffix) and name != suffix else f"case{suffix}")
        target.parent.mkdir()
        shutil.copyfile(path, target)
        return _of_folder(app, task, request, Path(folder))


def _of_session(app: Any, task: SegmentationTask, request: Mapping[str, Any]) -> dict[str, Any]:
    image = Path(find_session(app.sessions(), str(request["session_id"])).image)
    return _of_folder(app, task, request, image if image.is_dir() else image.parent)


def is_session_id(text: str) -> bool:
    """Return whether ``text`` is a valid session ID. Check this first: MONAI Label joins the ID to a path."""
    return bool(_SESSION_ID.fullmatch(text.lower()))


def find_session(sessions: Sessions | None, session_id: str, update_ts: bool = True) -> SessionInfo:
    """Return a session, and with ``update_ts`` note its use. Raises ``NotFound`` if there is none."""
    there = sessions is not None and is_session_id(session_id)
    if not there or (info := sessions.get_session(session_id, update_ts=update_ts)) is None:
        raise NotFound("No such session; it may have expired. Create one again.")
    return info


def _of_folder(app: Any, task: SegmentationTask, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    options = InferOptions.read(request)
    if options.history != ADD or options.keep:
        raise Refused("history, keep: found one of these options for uploaded images; expected a case of the server.")
    with tempfile.TemporaryDirectory(prefix="cache-") as cache:
        source = FolderSource(folder, app.settings, Path(cache))
        cases = list(source.cases())
        if len(cases) != 1:
            why = "; ".join(source.problems()[:1]).replace(str(folder), "").strip()
            raise Refused(
                f"image: found {len(cases) or 'no'} cases in what was sent{f' ({why})' if why else ''}; expected a 4D "
                "NIfTI file of four sequences, or files whose names end in _t1, _t1ce, _t2 and _flair."
            )
        library = CaseLibrary(source, Path(cache), app.settings.preprocess)
        service = SegmentationService(app.settings, source, library, app.models, app.admission, shared=app.service)
        file, params = type(task)(service)({**request, "image": cases[0]})
    return {"label": file, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": params}
