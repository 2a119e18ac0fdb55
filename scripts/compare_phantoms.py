#!/usr/bin/env python
"""Compare phantoms with real cases: intensities by region, volumes, and a montage of slices.

python scripts/compare_phantoms.py --phantoms data/phantoms --real /data/BraTS2021 --output compare.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from rich.console import Console

from measuring.command import run_command

NAME = "compare_phantoms"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", required=True, type=Path, help="folder of phantoms")
    parser.add_argument("--real", required=True, type=Path, help="folder of labelled real cases")
    parser.add_argument("--output", type=Path, help="PNG montage")
    parser.add_argument("--count", type=int, default=12, help="cases of each kind (default: 12)")
    parser.add_argument("--rows", type=int, default=4, help="cases of each kind in the montage (default: 4)")
    return parser.parse_args(argv)


def _run(args: argparse.Namespace, console: Console, command: str) -> dict[str, str]:
    """Print a table per folder, and draw the montage."""
    # Deferred imports keep --help fast.
    import pandas as pd
    from monai.transforms import Compose, CropForegroundd, NormalizeIntensityd, Orientationd
    from rich.progress import track

    from brats_clip.cases import SEQUENCES, find_cases
    from brats_clip.evaluation.tables import figure, markdown_table
    from brats_clip.labels import ED, ET, NCR
    from brats_clip.transforms import LoadCased

    keys, smallest = ["image", "label"], 200  # fewest voxels for a useful mean
    prepare = Compose(
        [
            LoadCased(allow_missing_label=False),
            Orientationd(keys, axcodes="RAS", labels=None),
            CropForegroundd(keys, source_key="image", allow_smaller=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    tissues = {"NCR": NCR, "ED": ED, "ET": ET, "healthy": 0}
    panels = []
    for title, folder in (("phantoms", args.phantoms), ("real", args.real)):
        scores, volumes = [], []
        for number, case in enumerate(track(find_cases(folder)[: args.count], title, console=console)):
            data = prepare(case)
            image, label = data["image"].numpy(), data["label"][0].numpy()
            for tissue, value in tissues.items():
                mask = (label == value) & (image != 0).any(axis=0)
                if mask.sum() >= smallest:
                    scores.append({"tissue": tissue, **dict(zip(SEQUENCES, image[:, mask].mean(axis=1), strict=True))})
            volumes.append({tissue: (label == value).sum() / 1000 for tissue, value in tissues.items() if value})
            if number < args.rows:
                panels.append((case["case"], image, label))
        table = pd.DataFrame(scores).groupby("tissue", sort=False)[list(SEQUENCES)].agg(["mean", "std", "count"])
        lines = [
            [tissue, *(figure(row[s, "mean"], row[s, "std"], "+", 2) for s in SEQUENCES), int(row["t1", "count"])]
            for tissue, row in table.iterrows()
        ]
        console.print(f"{title}: mean z-score ± standard deviation over cases")
        console.print("\n".join(markdown_table(["tissue", *SEQUENCES, "cases"], lines)))
        medians = pd.DataFrame(volumes).median()
        console.print(f"median volume: {', '.join(f'{t} {ml:.1f} ml' for t, ml in medians.items())}\n")
    if args.output:
        _draw(panels, args.output, SEQUENCES)
        console.print(f"montage: {args.output}")
    return {}


def _draw(panels: list[tuple], path: Path, sequences: Sequence[str]) -> None:
    """Draw one row per case: the axial slice with most tumour on each sequence, and its label."""
    from brats_clip.evaluation.plots import new_figure

    figure = new_figure(12.5, 2.9 * len(panels))
    figure.set_facecolor("black")
    axes = figure.subplots(len(panels), 5, squeeze=False)
    for row, (name, image, label) in zip(axes, panels, strict=True):
        z = int((label > 0).sum(axis=(0, 1)).argmax())
        for ax, sequence, channel in zip(row, sequences, image, strict=False):
            ax.imshow(channel[::-1, :, z].T, origin="lower", cmap="gray", vmin=-2.5, vmax=3.5)
            ax.set_title(f"{name}  {sequence}", color="white", fontsize=7)
        row[4].imshow(label[::-1, :, z].T, origin="lower", vmin=0, vmax=4)
        for ax in row:
            ax.axis("off")
    figure.savefig(path, dpi=80)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, or 2 if the input is invalid."""
    return run_command(NAME, argv, _arguments, _run)


if __name__ == "__main__":
    raise SystemExit(main())
