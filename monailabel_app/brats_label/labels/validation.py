"""Validate a submitted label file and convert it to a BraTS label map, or say why it cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats_clip.errors import LabelError
from brats_clip.geometry import Grid
from brats_clip.labels import ED, ET, NCR, REGIONS, few, to_internal

from ..errors import Refused, TooLarge
from .naming import BACKGROUND, PAINTED_REGIONS, TISSUES, meaning, name_layers, name_values, read_names, values_of
from .reading import ACCEPTED, DICOM, RAW, Drawing, Segment, detect_format, kind_by_name, read_image, read_raw

MAX_BYTES = 512 * 2**20
_HOW_TO_SUBMIT_EMPTY = 'To say that there is no tumour, submit it with the parameter "empty": true.'


@dataclass(frozen=True)
class ValidLabel:
    """A label that can be stored.

    Attributes:
        array: ``(X, Y, Z)`` uint8 with 0, 1 (NCR/NET), 2 (ED) and 4 (ET), on the grid it was drawn on.
        grid: that grid.
        read_as: how its values were interpreted, for users.
    """

    array: np.ndarray
    grid: Grid
    read_as: str


def volumes_ml(label: np.ndarray, grid: Grid) -> dict[str, float]:
    """Return the volume of WT, TC and ET in ml, of a label map with BraTS numbers."""
    counts = np.bincount(label.ravel(order="K"), minlength=5)
    return {name: round(float(counts[list(values)].sum()) * grid.voxel_ml, 3) for name, values in REGIONS.items()}


def validate(
    path: Path,
    grid: Grid,
    params: Mapping[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
    read_dicom_seg: Callable[[Path, Grid], Drawing] | None = None,
) -> ValidLabel:
    """Read and validate a submitted label.

    Args:
        path: the uploaded file; its extension says the format.
        grid: of the image that the label was drawn on.
        params: of the request: ``label_info`` names values or layers (see ``read_names``), ``empty`` allows a label
            without tumour. Segment names in the file take precedence. Without names the values are those of BraTS,
            and three layers are WT, TC and ET.
        max_bytes: largest file.
        read_dicom_seg: reads a DICOM SEG, named segments in layers; without it such a file is refused.

    Raises:
        Refused: with what was found and what was expected.
        TooLarge: for a larger file.
    """
    params = params or {}
    drawing = _read(path, grid, max_bytes, read_dicom_seg)
    segments = drawing.segments
    names = None if segments else read_names(params)
    many = drawing.layers.shape[3] > 1
    if names is not None:
        values = values_of(drawing.layers)
        segments = name_layers(names, drawing.layers.shape[3]) if many else name_values(names, values)
    elif many and not segments:
        if drawing.layers.shape[3] != len(REGIONS):
            raise Refused(
                f"The label has {drawing.layers.shape[3]} layers without names; expected one label map, or the three "
                f"regions {', '.join(REGIONS)} in this order, or names in label_info."
            )
        segments = tuple(Segment(name, layer, 1) for layer, name in enumerate(REGIONS))
    if segments or names is not None:
        # Names in the file are from editors such as 3D Slicer, whose layers need not be nested regions.
        array, read_as = _from_segments(drawing.layers, segments, nested=many and not drawing.segments)
    else:
        array, read_as = _from_numbers(drawing.layers[..., 0])
    if not array.any() and not _is_yes(params.get("empty")):
        raise Refused(f"The label is empty: no voxel is marked, which is mostly a mistake. {_HOW_TO_SUBMIT_EMPTY}")
    return ValidLabel(array, grid, read_as)


def _read(path: Path, grid: Grid, max_bytes: int, read_dicom_seg: Callable[[Path, Grid], Drawing] | None) -> Drawing:
    size = path.stat().st_size
    if size > max_bytes:
        raise TooLarge(f"The label file has {size / 2**20:.1f} MiB; at most {max_bytes / 2**20:g} MiB are taken.")
    if not size:
        raise Refused(f"The label file is empty (0 bytes); expected {ACCEPTED}.")
    called, (kind, words) = kind_by_name(path), detect_format(path)
    if called == RAW:
        return read_raw(path, grid)
    if not kind:
        raise Refused(f"The label file looks like {words}; expected {ACCEPTED}.")
    if called != kind:
        ends = f"like one of {called}" if called else "with none of the endings known"
        raise Refused(f"The label file looks like {words}, but its name ends {ends}; expected {ACCEPTED}.")
    if kind == DICOM:
        if read_dicom_seg is None:
            raise Refused("The label file is a DICOM file, which this server does not take; expected NIfTI or NRRD.")
        return read_dicom_seg(path, grid)
    return read_image(path, grid)


def _from_numbers(label: np.ndarray) -> tuple[np.ndarray, str]:
    values = values_of(label)
    try:
        numbers, convention = to_internal(np.array(values), "label")
    except LabelError as error:
        raise Refused(f"The label has {error.found}; expected {error.expected}, or names in label_info.") from None
    lookup = np.zeros(max(values) + 1, np.uint8)
    lookup[values] = numbers
    return lookup[label], f"values of {convention}"


def _from_segments(layers: np.ndarray, segments: tuple[Segment, ...], nested: bool) -> tuple[np.ndarray, str]:
    held = [values_of(layers[..., layer]) for layer in range(layers.shape[3])]
    for layer, values in enumerate(held):
        unnamed = set(values) - {0} - {segment.value for segment in segments if segment.layer == layer}
        if unnamed:
            raise Refused(f"The label has values without a name, {few(sorted(unnamed))}; expected a name for each.")
    masks: dict[str, np.ndarray] = {}
    # Viewers list all segments that they offer; ignore those without voxels.
    segments = tuple(segment for segment in segments if segment.value in held[segment.layer])
    for segment in segments:
        means = meaning(segment.name)
        if means != BACKGROUND:
            mask = layers[..., segment.layer] == segment.value
            masks[means] = masks[means] | mask if means in masks else mask
    read_as = "names " + ", ".join(f"{segment.name} {segment.value}" for segment in segments)
    regions, tissues = {"WT", "TC"} & set(masks), {"NCR", "ED"} & set(masks)
    if regions and tissues:
        raise Refused(
            f"The label holds both tissues ({', '.join(sorted(tissues))}) and regions ({', '.join(sorted(regions))}), "
            "which contain them; expected NCR/NET, ED and ET, or WT, TC and ET."
        )
    if regions and not nested and not ("WT" in masks and len(masks) > 1):
        raise Refused(
            f"The label holds {', '.join(masks)} alone, which does not tell oedema from core; expected WT with TC or "
            "ET, or the tissues NCR/NET, ED and ET."
        )
    overlap = _overlap(list(masks.values()))
    if regions and (nested or overlap):
        return _from_nested(masks), f"{read_as}, overlapping"
    if overlap:
        raise Refused(f"{overlap:,} voxels belong to more than one of {', '.join(masks)}; expected one each.")
    array = np.zeros(layers.shape[:3], np.uint8)
    for name, mask in masks.items():
        array[mask] = (PAINTED_REGIONS if regions else TISSUES)[name]
    return array, read_as


def _from_nested(masks: dict[str, np.ndarray]) -> np.ndarray:
    none = np.zeros(next(iter(masks.values())).shape, bool)
    whole, core, enhancing = (masks.get(name, none) for name in REGIONS)
    for inner, outer, says in ((core, whole, "TC that are not in WT"), (enhancing, core, "ET that are not in TC")):
        outside = int(np.count_nonzero(inner & ~outer))
        if outside:
            raise Refused(
                f"{outside:,} voxels are in {says}; expected nested regions in the order WT, TC, ET: ET inside TC, and "
                "TC inside WT."
            )
    array = np.where(whole, np.uint8(ED), np.uint8(0))
    array[core], array[enhancing] = NCR, ET
    return array


def _overlap(masks: list[np.ndarray]) -> int:
    """Return the number of voxels that are in more than one mask."""
    if len(masks) < 2:
        return 0
    return int(np.count_nonzero(np.sum(masks, axis=0, dtype=np.uint8) > 1))


def _is_yes(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "1", "yes"))
