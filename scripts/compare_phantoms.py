#!/usr/bin/env python
"""Compare phantoms with real cases: intensities region by region, volumes, and a montage to look at.

python scripts/compare_phantoms.py --phantoms data/phantoms --real /data/BraTS2021 --output compare.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import matplotlib
import numpy as np
from monai.transforms import Compose, CropForegroundd, NormalizeIntensityd, Orientationd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from brats_clip.cases import SEQUENCES, find_cases
from brats_clip.errors import BratsClipError
from brats_clip.labels import ED, ET, NCR
from brats_clip.transforms import LoadCased

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TISSUES = {"NCR": (NCR,), "ED": (ED,), "ET": (ET,), "healthy": (0,)}
SMALLEST = 200  # voxels below which a mean says little


def load(case: dict) -> tuple[np.ndarray, np.ndarray]:
    """The z-scored image ``(4, X, Y, Z)`` and label ``(X, Y, Z)`` of a case, in RAS, cropped to the brain."""
    keys = ["image", "label"]
    steps = [
        LoadCased(allow_missing_label=False),
        Orientationd(keys, axcodes="RAS", labels=None),
        CropForegroundd(keys, source_key="image", allow_smaller=True),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
    ]
    data = Compose(steps)(case)
    return data["image"].numpy(), data["label"][0].numpy()


def measure(image: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """Mean z-score of each tissue on each sequence, ``(4,)``; NaN for a tissue too small to tell."""
    brain = (image != 0).any(axis=0)
    rows = {}
    for name, values in TISSUES.items():
        mask = np.isin(label, values) & brain
        rows[name] = image[:, mask].mean(axis=1) if mask.sum() >= SMALLEST else np.full(len(SEQUENCES), np.nan)
    return rows


def table(title: str, rows: list[dict[str, np.ndarray]]) -> Table:
    """Mean and spread over cases."""
    out = Table("tissue", *SEQUENCES, "cases", title=title)
    for name in TISSUES:
        values = np.stack([r[name] for r in rows])
        n = int(np.isfinite(values[:, 0]).sum())
        cells = [f"{m:+.2f} ± {s:.2f}" for m, s in zip(_mean(values), _sd(values), strict=True)] if n else ["-"] * 4
        out.add_row(name, *cells, str(n))
    return out


def _mean(values: np.ndarray) -> np.ndarray:
    return np.nanmean(values, axis=0)


def _sd(values: np.ndarray) -> np.ndarray:
    return np.nanstd(values, axis=0)


def draw(panels: list[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """One row per case: the axial slice with most tumour on each sequence, and its label."""
    figure, axes = plt.subplots(len(panels), 5, figsize=(12.5, 2.9 * len(panels)), squeeze=False, facecolor="black")
    for row, (name, image, label) in zip(axes, panels, strict=True):
        z = int(np.argmax((label > 0).sum(axis=(0, 1))))
        for ax, sequence, channel in zip(row, SEQUENCES, image, strict=False):
            ax.imshow(channel[::-1, :, z].T, origin="lower", cmap="gray", vmin=-2.5, vmax=3.5)
            ax.set_title(f"{name}  {sequence}", color="white", fontsize=7)
        row[4].imshow(label[::-1, :, z].T, origin="lower", vmin=0, vmax=4)
    for ax in axes.flat:
        ax.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", required=True, type=Path, help="folder of phantoms")
    parser.add_argument("--real", required=True, type=Path, help="folder of labelled real cases")
    parser.add_argument("--output", type=Path, help="PNG montage")
    parser.add_argument("--count", type=int, default=12, help="cases of each kind (default: 12)")
    parser.add_argument("--rows", type=int, default=4, help="cases of each kind in the montage (default: 4)")
    args = parser.parse_args()
    console, panels = Console(), []
    try:
        for title, folder in (("phantoms", args.phantoms), ("real", args.real)):
            rows, volumes = [], []
            for i, case in enumerate(track(find_cases(folder)[: args.count], title, console=console)):
                image, label = load(case)
                rows.append(measure(image, label))
                volumes.append([np.isin(label, v).sum() / 1000 for k, v in TISSUES.items() if k != "healthy"])
                if i < args.rows:
                    panels.append((case["case"], image, label))
            console.print(table(f"{title}: mean z-score ± spread over cases", rows))
            medians = np.median(volumes, axis=0)
            console.print(f"median volume: NCR {medians[0]:.1f} ml, ED {medians[1]:.1f} ml, ET {medians[2]:.1f} ml\n")
    except BratsClipError as error:
        console.print(f"Error: {error}", style="red")
        return 2
    if args.output:
        draw(panels, args.output)
        console.print(f"montage: {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
