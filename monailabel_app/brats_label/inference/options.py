"""Options of an inference request, and the names of the values in its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from brats_clip.cases import SEQUENCES
from brats_clip.clicks.place import MAX_CLICKS
from brats_clip.labels import REGIONS

from ..errors import ClientError, TooLarge
from ..labels.naming import LABELS
from ..settings import A_TEXT, Switch, first_invalid, nearest

TISSUES = "NCR/NET, ED and ET"
OUTPUTS: dict[str, tuple[str, ...]] = {TISSUES: ("NCR/NET", "ED", "ET"), "WT": ("WT",), "TC": ("TC",), "ET": ("ET",)}

# Names under which viewers send clicks, and their names in ``Segmenter``.
CLICKS: dict[str, str] = {"NCR/NET": "NCR", "ED": "ED", "ET": "ET", "TC": "TC", "WT": "WT", "background": "background"}
ADD, UNDO, REDO = "add", "undo", "redo"
HISTORY = {ADD: 0, UNDO: -1, REDO: 1}  # value of the option, and steps in the history of answers
FARTHEST = 1e9  # voxels; NaN and integers too large for a float also fail this limit

# Other known keys: added by the server, or sent by Slicer, OHIF, batch inference and client sessions.
_SENT = """
annotations as_dicom_seg background client_id desc description device foreground gpus image images label label_info
label_names label_prompt label_tag labels largest_cc location logger logging max_batch_size max_workers method model
multi_gpu name output point_labels points reset_state restore_label_idx result_compress result_dtype result_extension
result_meta result_write_to_file roi save_label selected_label_name session session_id size slice spatial_size strategy
strokes timeout uploaded user
"""
_SHOWN = 5


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(A_TEXT)
    return value


def _choice(*choices: str) -> BeforeValidator:
    def check(value: Any) -> str:
        if isinstance(value, list):  # a viewer may send the whole list if the user chose nothing
            value = value[0] if value else choices[0]
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value

    return BeforeValidator(check)


def _regions(value: Any) -> tuple[str, ...]:
    names = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(name in list(REGIONS) for name in names):
        raise ValueError(f"some of {', '.join(REGIONS)}")
    return tuple(names)


def _point(value: Any) -> Any:
    good = isinstance(value, (list, tuple)) and len(value) == 3
    if not good or not all(isinstance(v, (int, float)) and abs(v) < FARTHEST for v in value):
        raise ValueError("three numbers, i, j and k")
    return value


def _points(value: Any) -> Any:
    if isinstance(value, str):  # some clients send the list as JSON text
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, list):
        raise ValueError("a list of [i, j, k]")
    return value


Points = Annotated[list[Annotated[Any, AfterValidator(_point)]], BeforeValidator(_points)]
Clicks = dict[str, Points]
Strokes = dict[str, Annotated[list[Points], BeforeValidator(_points)]]
_clicks, _strokes = TypeAdapter(Clicks), TypeAdapter(Strokes)


class InferOptions(BaseModel):
    """Options of a request; an option that is missing or null takes its default.

    Attributes:
        report: typed text; "" uses the report stored with the case.
        use_report: False ignores every report.
        output: a key of ``OUTPUTS``.
        keep: finished regions, which stay as in the previous answer or label.
        history: "undo" and "redo" step through the answers that the user got for the case; nothing is computed.
        use_t1, use_t1ce, use_t2, use_flair: sequences to use; the case may have fewer.
        allow_missing_sequences: whether to segment with fewer than four.
        submit: also save the answer as a final label, since OHIF has no button for it.
        save_label: also save the answer as a label tagged ``label_tag``.
        result_extension: extension of the result file; ``result_compress``: whether a NRRD file is compressed.
    """

    model_config = ConfigDict(frozen=True)

    report: Annotated[str, BeforeValidator(_text)] = ""
    use_report: Switch = True
    output: Annotated[str, _choice(*OUTPUTS)] = TISSUES
    keep: Annotated[tuple[str, ...], BeforeValidator(_regions)] = ()
    history: Annotated[str, _choice(*HISTORY)] = ADD
    allow_missing_sequences: Switch = False
    submit: Switch = False
    use_t1: Switch = True
    use_t1ce: Switch = True
    use_t2: Switch = True
    use_flair: Switch = True
    save_label: Switch = False
    label_tag: Annotated[str, BeforeValidator(_text)] = ""
    result_extension: Annotated[str, BeforeValidator(_text)] = ".nii.gz"
    result_compress: Switch = True

    @classmethod
    def read(cls, request: Mapping[str, Any]) -> InferOptions:
        """Read a request; unknown keys are ignored.

        Raises:
            ClientError: with the option, what was found and what is expected.
        """
        try:
            return cls(**{name: request[name] for name in cls.model_fields if request.get(name) is not None})
        except ValidationError as error:
            invalid = first_invalid(cls, error)
            raise ClientError(f"{invalid.name}: found {invalid.found}; expected {invalid.expected}.") from None

    @property
    def sequences(self) -> tuple[str, ...]:
        """The sequences to use."""
        return tuple(sequence for sequence in SEQUENCES if getattr(self, f"use_{sequence}"))

    @property
    def saves(self) -> bool:
        """Whether the answer is saved as a label."""
        return self.submit or self.save_label


def shown_options(allow_missing_sequences: bool) -> dict[str, Any]:
    """Return the options that viewers show: text as a field, a switch as a checkbox, a list as a choice."""
    shown = InferOptions(allow_missing_sequences=allow_missing_sequences).model_dump()
    hidden = ("save_label", "label_tag", "result_extension", "result_compress")
    as_panels_want_it = {"output": list(OUTPUTS), "history": list(HISTORY), "keep": ""}
    return {name: as_panels_want_it.get(name, shown[name]) for name in shown if name not in hidden}


def read_clicks(request: Mapping[str, Any]) -> dict[str, list]:
    """Return the clicks of a request by the names of ``CLICKS``: voxels ``[i, j, k]`` of the displayed image.

    Raises:
        ClientError: for clicks in another format.
        TooLarge: for more than ``MAX_CLICKS``.
    """
    try:
        clicks = _clicks.validate_python({name: request[name] for name in CLICKS if request.get(name) is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name, found, expected = first["loc"][0], str(first["input"])[:60], first["ctx"]["error"]
        raise ClientError(f"clicks on {name}: found {found}; expected {expected}.") from None
    total = sum(map(len, clicks.values()))
    if total > MAX_CLICKS:
        raise TooLarge(f"clicks: found {total}; expected at most {MAX_CLICKS}.")
    return {name: points for name, points in clicks.items() if points}


def read_strokes(request: Mapping[str, Any]) -> dict[str, list[list]]:
    """Return the strokes of a request by the names of ``CLICKS``: polylines of voxels of the displayed image.

    Raises:
        ClientError: for strokes in another format.
        TooLarge: for more than ``MAX_CLICKS`` corners.
    """
    given = request.get("strokes")
    try:
        given = json.loads(given or "{}") if isinstance(given, str | None) else given
        if not isinstance(given, dict) or not given.keys() <= CLICKS.keys():
            raise ValueError
        strokes = _strokes.validate_python(given)
    except ValueError:  # includes the errors of pydantic and of JSON
        expected = f"lists of polylines [[i, j, k], ...] by {', '.join(CLICKS)}"
        raise ClientError(f"strokes: found {str(given)[:60]}; expected {expected}.") from None
    corners = sum(len(line) for lines in strokes.values() for line in lines)
    if corners > MAX_CLICKS:
        raise TooLarge(f"strokes: found {corners} corners; expected at most {MAX_CLICKS}.")
    return {name: kept for name, lines in strokes.items() if (kept := [line for line in lines if line])}


def not_understood(request: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Return the unknown keys of a request, each with the closest option, if one is close.

    Unknown keys are reported, not refused: viewers send their own keys, and no list of these is complete.

    Args:
        request: as the client sent it.
        options: of the model.
    """
    known = {*_SENT.split(), *options, *CLICKS}
    unknown = [key for key in request if key not in known]
    listed = []
    for key in unknown[:_SHOWN]:
        near = nearest(key, options)
        listed.append(f"{key[:40]!r} (did you mean {near}?)" if near else repr(key[:40]))
    return listed + ([f"and {len(unknown) - _SHOWN} more"] if len(unknown) > _SHOWN else [])


def to_output(label: np.ndarray, output: str) -> np.ndarray:
    """Convert a BraTS label map to the requested output.

    Args:
        label: values 0, 1, 2, 4.
        output: a key of ``OUTPUTS``; a region has one value, that of ``LABELS``.
    """
    if output == TISSUES:
        return label
    return np.where(np.isin(label, REGIONS[output]), LABELS[output], 0).astype(np.uint8)


def present_labels(label: np.ndarray) -> dict[str, int]:
    """Return the names of the values that occur, ordered by value: viewers name segments by their position."""
    values = set(np.unique(label).tolist())
    return {name: value for name, value in sorted(LABELS.items(), key=lambda item: item[1]) if value in values}
