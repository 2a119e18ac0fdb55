"""From MONAI Label's request to its result: by image id, by session, or for a file that was sent along."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monailabel.interfaces.datastore import DefaultLabelTag

from ..errors import ClientError, NotFound, Refused
from ..labels import FINAL, ORIGINAL, prediction_of
from ..studies.folder import FolderSource
from ..studies.library import CaseLibrary
from ..uploads import safe_name
from .options import ADD, HISTORY, InferOptions, not_understood
from .service import Answer, SegmentationService
from .tasks import SegmentationTask

logger = logging.getLogger("brats_clip.infer")


def answer_request(app: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer, and store the answer where that was asked for.

    Returns:
        ``file`` (the caller removes it), ``label``, ``tag`` and ``params``, as MONAI Label's ``infer`` does.

    Raises:
        ClientError: for a request that cannot be answered.
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
    """A new answer, which the history of who asks gets, too, or one from there."""
    image, who = str(request["image"]), request.get("user")
    case_id = app.service.source.resolve(image)[0].case_id
    if by := HISTORY[options.history]:
        return app.service.answer_again(image, app.prompts.step(case_id, str(who or ""), by))
    answer = task.answer(request, _before(app, case_id, str(who or "")) if options.keep else None)
    if who is not None:  # a batch is nobody
        app.prompts.add(case_id, str(who), answer.params, answer.working_label)
    return answer


def _before(app: Any, case_id: str, who: str) -> np.ndarray | nib.Nifti1Image | None:
    """The last answer that this person got for a case, or else its newest label."""
    if (step := app.prompts.current(case_id, who)) is not None:
        return step.label
    labels = app.datastore().labels
    revision = labels.current(case_id, FINAL) or labels.current(case_id, ORIGINAL)
    return None if revision is None else nib.load(revision.path)


def _store(app: Any, answer: Answer, tag: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Save the answer as a label of its case: OHIF has no button for it, batch inference wants it."""
    with tempfile.TemporaryDirectory(prefix="answer-") as folder:
        path = Path(folder) / "label.nii.gz"
        nib.save(answer.reference_label, path)
        who = {
            "user": str(request.get("user") or request.get("client_id") or ""),
            "model": str(request["model"]),
            "model_version": answer.params["model"]["version"],
        }
        image = answer.case.images[answer.case.reference].image_id  # the case's id may be that of another image
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
    """A case that was sent along: a 4D file, or a single sequence whose name says which."""
    path = Path(request["uploaded"])
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        name = safe_name(str(request.get("name") or path.name))
        suffix = "".join(path.suffixes)
        target = Path(folder) / "case" / (name if name.endswith(suffix) and name != suffix else f"case{suffix}")
        target.parent.mkdir()
        shutil.copyfile(path, target)
        return _of_folder(app, task, request, Path(folder))


def _of_session(app: Any, task: SegmentationTask, request: Mapping[str, Any]) -> dict[str, Any]:
    session = app.sessions().get_session(str(request["session_id"])) if app.sessions() is not None else None
    if session is None:
        raise NotFound("No such session; it may have expired. Create one again.")
    image = Path(session.image)
    return _of_folder(app, task, request, image if image.is_dir() else image.parent)


def _of_folder(app: Any, task: SegmentationTask, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    options = InferOptions.read(request)
    if options.history != ADD or options.keep:
        raise Refused("history, keep: found one for images that were sent along; expected a case of the server.")
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
