"""One picture per case: three planes, with truth beside prediction, in radiological convention."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from ..errors import InputError
from ..geometry import bounding_box
from ..images import atomic_write
from ..labels import REGIONS

# Okabe and Ito's palette: distinct for colour-blind readers, and on grey.
REGION_COLOURS = {"WT": "#56B4E9", "TC": "#F0E442", "ET": "#FF6A1F"}
REGION_NAMES = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}
_PLANES = ("sagittal", "coronal", "axial")
_PIXELS_PER_INCH = 100
_COLUMN_INCHES = 2.6
_MARGIN_MM = 4.0
_TEXT = "#d7dce2"
_SIDE_ROOM_MM = 9.0


@dataclass(frozen=True)
class _Slice:
    """One displayed plane: its slice, size in mm, letters at its left and right border, and caption."""

    axis: int
    index: int
    extent_mm: tuple[float, float]
    sides: tuple[str, str]
    caption: str

    def of(self, volume: np.ndarray) -> np.ndarray:
        """Return the slice of ``volume`` in radiological convention: patient's right, or anterior, on the left."""
        return np.take(volume, self.index, axis=self.axis).T[::-1, ::-1]


def draw_overlay(
    path: str | os.PathLike,
    images: Mapping[str, np.ndarray],
    prediction: np.ndarray,
    affine: np.ndarray,
    label: np.ndarray | None = None,
    title: str = "",
    subtitle: str = "",
    attention: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a PNG with the axial, coronal and sagittal slices that contain most tumour.

    Each image gets two columns: with the outlines of the truth (or plain, without a label) and of the prediction.

    Args:
        path: the PNG; written atomically.
        images: sequences by their displayed name, each ``(X, Y, Z)`` in the case's own geometry.
        prediction: label map ``(X, Y, Z)`` with values 0, 1, 2, 4.
        affine: ``(4, 4)`` voxel to RAS mm, as in the NIfTI file.
        label: true label map of the same shape.
        title: the case, upper left.
        subtitle: its scores, upper right.
        attention: semantic attention maps ``(X, Y, Z)`` in [0, 1] by name; one more column each, over the last image.

    Raises:
        InputError: if there is no image or the shapes differ.
    """
    volumes = {"prediction": prediction, **images, **(attention or {})} | ({} if label is None else {"label": label})
    if not images or any(np.shape(v) != np.shape(prediction) or np.ndim(v) != 3 for v in volumes.values()):
        shapes = {name: np.shape(v) for name, v in volumes.items()}
        raise InputError(title or "overlay", f"shapes {shapes}", "at least one image, all 3D and of one shape")
    volumes, affine = _to_ras(volumes, affine)
    slices = _choose_slices(volumes, list(images), affine)
    windows = {name: _window(volumes[name]) for name in images}

    columns: list[tuple[str, str, str | None, str | None]] = []  # heading, image, outlines, heat
    for name in images:
        columns.append((f"{name} · reference" if label is not None else name, name, "label", None))
        columns.append((f"{name} · prediction", name, "prediction", None))
    columns += [(f"{list(images)[-1]} · {name}", list(images)[-1], None, name) for name in attention or {}]

    figure, cells = _layout(slices, len(columns), title, subtitle)
    for (row, column), axes in cells.items():
        heading, image, outlines, heat = columns[column]
        plane = slices[row]
        axes.imshow(plane.of(volumes[image]), cmap="gray", extent=_extent(plane), interpolation="bilinear",
                    vmin=windows[image][0], vmax=windows[image][1])  # fmt: skip
        if heat is not None:
            values = plane.of(volumes[heat])
            axes.imshow(values, cmap="inferno", alpha=np.clip(values, 0, 0.75), extent=_extent(plane), vmin=0, vmax=1)
        if outlines in volumes:
            _draw_outlines(axes, plane.of(volumes[outlines]), plane)
        _annotate(axes, plane, heading if row == 0 else "", plane.caption if column == 0 else "")
    _save(figure, path, shades=bool(attention))


def _to_ras(volumes: Mapping[str, np.ndarray], affine: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    orientation = nib.io_orientation(affine)
    shape = np.shape(next(iter(volumes.values())))
    turned = {k: nib.apply_orientation(np.asarray(v), orientation) for k, v in volumes.items()}
    return turned, affine @ nib.orientations.inv_ornt_aff(orientation, shape)


def _choose_slices(volumes: dict[str, np.ndarray], images: Sequence[str], affine: np.ndarray) -> list[_Slice]:
    """Return the slice of each plane with most tumour (true, else predicted), else the middle; crop in place."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    brain = np.logical_or.reduce([volumes[name] != 0 for name in images])
    box = bounding_box(brain) or tuple(slice(0, size) for size in brain.shape)
    rooms = [round(_MARGIN_MM / mm) for mm in spacing]
    box = tuple(slice(max(0, side.start - room), side.stop + room) for side, room in zip(box, rooms, strict=True))
    for name in volumes:
        volumes[name] = volumes[name][box]
    tumour = next((volumes[n] > 0 for n in ("label", "prediction") if n in volumes and volumes[n].any()), None)

    index = [n // 2 for n in volumes["prediction"].shape]
    if tumour is not None:
        index = [int(tumour.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3)]
    # Relative to the centre of the brain: the origin of BraTS files is a corner, so every x would be "left".
    position = [(i + 0.5 - n / 2) * mm for i, n, mm in zip(index, volumes["prediction"].shape, spacing, strict=True)]
    letters = ("LR", "PA", "IS")
    size = np.array(volumes["prediction"].shape) * spacing
    slices = []
    for axis in (2, 1, 0):
        across, up = (a for a in range(3) if a != axis)
        caption = f"{_PLANES[axis]}  {letters[axis][int(position[axis] >= 0)]} {abs(position[axis]):.0f} mm"
        sides = (letters[across][1], letters[across][0])
        slices.append(_Slice(axis, index[axis], (float(size[across]), float(size[up])), sides, caption))
    return slices


def _window(image: np.ndarray) -> tuple[float, float]:
    inside = image[image != 0]
    if inside.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(inside, (0.5, 99.8))
    # The background is 0: without negative values, the window must not start above it.
    return float(min(low, 0.0) if image.min() >= 0 else low), float(max(high, low + 1e-6))


def _layout(slices: Sequence[_Slice], columns: int, title: str, subtitle: str) -> tuple[Figure, dict]:
    """Create the figure: columns of equal width, and rows as high as their planes, all at the same scale in mm."""
    widest = max(s.extent_mm[0] for s in slices) + 2 * _SIDE_ROOM_MM
    inches = [_COLUMN_INCHES * s.extent_mm[1] / widest for s in slices]
    top, bottom, gap = 0.72, 0.42, 0.04
    width = columns * _COLUMN_INCHES
    height = top + bottom + sum(inches) + gap * (len(slices) - 1)
    figure = Figure(figsize=(width, height), dpi=_PIXELS_PER_INCH, facecolor="black")
    FigureCanvasAgg(figure)
    cells = {}
    y = height - top
    for row, inch in enumerate(inches):
        y -= inch
        for column in range(columns):
            box = (column * _COLUMN_INCHES / width, y / height, _COLUMN_INCHES / width, inch / height)
            axes = cells[row, column] = figure.add_axes(box, facecolor="black")
            axes.set_axis_off()
            axes.set_xlim(-widest / 2, widest / 2)
            axes.set_ylim(-slices[row].extent_mm[1] / 2, slices[row].extent_mm[1] / 2)
        y -= gap
    figure.text(0.1 / width, 1 - 0.1 / height, title, color="white", size=14, weight="bold", va="top")
    figure.text(1 - 0.1 / width, 1 - 0.1 / height, subtitle, color=_TEXT, size=12, va="top", ha="right")
    handles = [Line2D([], [], color=c, lw=2, label=f"{r}  {REGION_NAMES[r]}") for r, c in REGION_COLOURS.items()]
    figure.legend(handles=handles, loc="lower center", ncol=len(handles), frameon=False, labelcolor=_TEXT, fontsize=12,
                  borderaxespad=0.3)  # fmt: skip
    return figure, cells


def _extent(plane: _Slice) -> tuple[float, float, float, float]:
    w, h = plane.extent_mm
    return -w / 2, w / 2, -h / 2, h / 2


def _draw_outlines(axes: matplotlib.axes.Axes, label: np.ndarray, plane: _Slice) -> None:
    left, right, bottom, top = _extent(plane)
    rows, columns = label.shape
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top - (np.arange(rows) + 0.5) * (top - bottom) / rows
    for region, values in REGIONS.items():
        mask = np.isin(label, values)
        if mask.any():
            axes.contour(x, y, mask, levels=[0.5], colors=REGION_COLOURS[region], linewidths=1.1)


def _annotate(axes: matplotlib.axes.Axes, plane: _Slice, heading: str, caption: str) -> None:
    style = {"color": _TEXT, "transform": axes.transAxes, "size": 11}
    axes.text(0.02, 0.5, plane.sides[0], va="center", ha="left", **style)
    axes.text(0.98, 0.5, plane.sides[1], va="center", ha="right", **style)
    axes.text(0.02, 0.02, caption, va="bottom", ha="left", **style)
    axes.text(0.5, 1.015, heading, va="bottom", ha="center", **style)


def _save(figure: Figure, path: str | os.PathLike, shades: bool) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    buffer.seek(0)
    with Image.open(buffer) as picture, atomic_write(Path(path)) as temporary:
        _to_palette(picture.convert("RGB"), shades).save(temporary, "PNG", optimize=True)


def _to_palette(picture: Image.Image, shades: bool) -> Image.Image:
    """Reduce to 256 colours (a third of the size), some of them fixed for thin outlines, which would lose theirs."""
    outlines = np.array([matplotlib.colors.to_rgb(colour) for colour in REGION_COLOURS.values()]) * 255
    shares, greys = np.linspace(0.25, 1, 4), np.linspace(0, 255, 5)
    blends = np.concatenate([(s * outlines[:, None] + (1 - s) * greys[:, None]).reshape(-1, 3) for s in shares])
    fixed = np.unique(blends.round().astype(np.uint8), axis=0)
    adaptive = picture.quantize(256 - len(fixed), dither=Image.Dither.NONE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*adaptive[: 3 * (256 - len(fixed))], *fixed.ravel().tolist()])
    # A heat map over grey has more colours than the palette: without dithering, bands would look like findings.
    dither = Image.Dither.FLOYDSTEINBERG if shades else Image.Dither.NONE
    return picture.quantize(palette=palette, dither=dither)
