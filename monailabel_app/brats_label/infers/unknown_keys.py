"""A misspelt option is said, and not refused: viewers send keys of their own, and nobody knows all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from .labels import CLICKS

# What the route adds, and what Slicer, OHIF, batch inference and the client's sessions send along.
_SENT = frozenset(
    {
        "annotations",
        "as_dicom_seg",
        "background",
        "client_id",
        "desc",
        "description",
        "device",
        "foreground",
        "gpus",
        "image",
        "images",
        "label",
        "label_info",
        "label_names",
        "label_prompt",
        "label_tag",
        "labels",
        "largest_cc",
        "location",
        "logger",
        "logging",
        "max_batch_size",
        "max_workers",
        "method",
        "model",
        "multi_gpu",
        "name",
        "output",
        "point_labels",
        "points",
        "reset_state",
        "restore_label_idx",
        "result_compress",
        "result_dtype",
        "result_extension",
        "result_meta",
        "result_write_to_file",
        "roi",
        "save_label",
        "selected_label_name",
        "session",
        "session_id",
        "size",
        "slice",
        "spatial_size",
        "strategy",
        "timeout",
        "uploaded",
        "user",
    }
)
_SHOWN = 5


def not_understood(request: Mapping[str, Any], options: Iterable[str]) -> list[str]:
    """Keys of a request that nothing here reads, each with the nearest option if one is near.

    Args:
        request: as the client sent it.
        options: what the model offers.
    """
    options = list(options)
    unknown = [key for key in request if key not in _SENT and key not in options and key not in CLICKS]
    told = []
    for key in unknown[:_SHOWN]:
        near = difflib.get_close_matches(key, options, n=1)
        told.append(f"{key[:40]!r} (did you mean {near[0]}?)" if near else repr(key[:40]))
    return told + ([f"and {len(unknown) - _SHOWN} more"] if len(unknown) > _SHOWN else [])
