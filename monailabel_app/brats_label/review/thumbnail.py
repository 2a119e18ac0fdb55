"""Thumbnail of a label on its image, for the page of the review queue."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageColor

from brats_clip.evaluation.overlay import REGION_COLOURS
from brats_clip.labels import REGIONS

HEIGHT = 120  # pixels
_SHARE = 0.45  # opacity of the label colour


def draw_thumbnail(image: Path, label: Path | None) -> bytes:
    """Return a PNG of the axial slice with the most tumour, else of the middle one; the patient's right is on the left.

    Args:
        image: NIfTI of the reference sequence, 3D.
        label: BraTS label map; None for the image alone. A label on another grid is ignored.
    """
    scan = nib.as_closest_canonical(nib.load(image))
    voxels = np.asarray(scan.dataobj, np.float32)
    mask = np.zeros(voxels.shape, np.uint8)
    if label is not None:
        drawn = nib.as_closest_canonical(nib.load(label))
        if drawn.shape == voxels.shape and np.allclose(drawn.affine, scan.affine, atol=1e-3):
            mask = np.asarray(drawn.dataobj).astype(np.uint8)
    index = int((mask > 0).sum(axis=(0, 1)).argmax()) if mask.any() else voxels.shape[2] // 2
    plane, shown = (array[:, :, index].T[::-1, ::-1] for array in (voxels, mask))
    inside = plane[plane != 0]
    low, high = np.percentile(inside, (0.5, 99.5)) if inside.size else (0.0, 1.0)
    grey = np.clip((plane - min(low, 0.0)) / max(high - min(low, 0.0), 1e-6), 0, 1) * 255
    colours = np.repeat(grey[..., None], 3, axis=2)
    for region, values in REGIONS.items():
        part = np.isin(shown, values)
        colour = np.array(ImageColor.getrgb(REGION_COLOURS[region]))
        colours[part] = (1 - _SHARE) * grey[part][:, None] + _SHARE * colour
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    size = (max(1, round(HEIGHT * plane.shape[1] * spacing[0] / (plane.shape[0] * spacing[1]))), HEIGHT)
    picture, content = Image.fromarray(colours.astype(np.uint8)), io.BytesIO()
    picture.resize(size, Image.Resampling.BILINEAR).save(content, "PNG")
    return content.getvalue()
