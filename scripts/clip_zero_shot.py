#!/usr/bin/env python
"""Measure the CLIP alone: how well it tells the side from a report, and matches slices with their report.

    python scripts/clip_zero_shot.py --reports reports.json --cases data/phantoms --output runs/zero_shot

--reports is a JSON object of texts by id, as in TextBraTS. Of the reports that name one side only, it measures how many
are closer to prompts of that side. --cases is a folder of cases with reports. In random groups of 16, it measures how
often the slices of a case are closest to its own report. Writes clip_zero_shot.csv.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from brats_clip.errors import BratsClipError, InputError

if TYPE_CHECKING:  # slow imports are deferred, so that --help is fast
    import torch
    from monai.transforms import Compose

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
DRAWS = 20


def one_sided(reports: dict[str, str]) -> dict[str, str]:
    """Return the side of each report that names one side only, by id."""
    from brats_clip.reports import read_findings

    sides = {name: read_findings(text)["sides"] for name, text in reports.items()}
    return {name: found[0] for name, found in sides.items() if found in (("left",), ("right",))}


def read_reports(path: Path) -> dict[str, str]:
    """Read the texts by id.

    Raises:
        InputError: if the file is not a JSON object of texts.
    """
    expected = "a JSON object of report texts by id"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise InputError(path, f"a file that cannot be read ({reason})", expected) from reason
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise InputError(path, "something else", expected)
    return content


def working_image() -> Compose:
    """Return the preprocessing of ``inference.json``, from the files of a case to the input of the network."""
    from monai.bundle import ConfigParser

    config = ConfigParser()
    config.read_config(BUNDLE / "configs" / "inference.json")
    config["bundle_root"] = str(BUNDLE)
    return config.get_parsed_content("preprocessing")


def match_rates(slices: torch.Tensor, reports: list[torch.Tensor], group: int, seed: int) -> list[float]:
    """Return the share of cases matched with their own report, for each random group of ``group`` cases."""
    import numpy as np
    import torch

    from brats_clip.semantics.zero_shot import match_reports

    random = np.random.default_rng(seed)
    rates = []
    for _ in range(DRAWS):
        order = random.permutation(len(reports))
        for start in range(0, len(order) - group + 1, group):
            chosen = order[start : start + group]
            found = match_reports(slices[torch.as_tensor(chosen)], [reports[i] for i in chosen])
            rates.append(float((found == torch.arange(group)).float().mean()))
    return rates


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, help="JSON of texts by id")
    parser.add_argument("--cases", type=Path, help="folder of cases with reports")
    parser.add_argument("--clip", help="CLIP, as load_clip takes it (default: the bundle's)")
    parser.add_argument("--group", type=int, default=16, help="cases per group (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the groups (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/zero_shot"), help="folder (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.reports is None and args.cases is None:
        parser.error("needs --reports, --cases or both")
    if args.group < 2 or args.seed < 0:
        parser.error("--group must be at least 2, --seed at least 0")
    try:
        measure(args)
    except BratsClipError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


def measure(args: argparse.Namespace) -> None:
    """Run the requested measurements, and write and print the results.

    Raises:
        InputError: if no report names one side only, or there are fewer cases with a report than a group needs.
    """
    import pandas as pd
    import torch
    from tqdm import tqdm

    from brats_clip.cases import case_report, find_cases
    from brats_clip.images import atomic_write
    from brats_clip.semantics import EMBEDDED_CLIP, SliceEncoder, encode_report, load_clip
    from brats_clip.semantics.zero_shot import side_of_report

    rows = []
    clip = load_clip(args.clip or EMBEDDED_CLIP)
    if args.reports is not None:
        reports = read_reports(args.reports)
        sides = one_sided(reports)
        if not sides:
            raise InputError(args.reports, f"{len(reports)} reports, none that names one side only", "some that do")
        right = [side_of_report(reports[name], clip) == side for name, side in tqdm(sides.items(), desc="sides")]
        rows.append({"measure": "side from the text", "value": sum(right) / len(right), "n": len(right), "chance": 0.5})
    if args.cases is not None:
        cases = [case for case in find_cases(args.cases) if case.get("report_path")]
        if len(cases) < args.group:  # checked before the slices are encoded
            raise InputError(args.cases, f"{len(cases)} cases with a report", f"at least {args.group}")
        prepare, encode = working_image(), SliceEncoder(clip)
        slices, texts = [], []
        for case in tqdm(cases, desc="slices"):
            image = prepare({**case, "report": ""})["image"].as_subclass(torch.Tensor)
            slices.append(encode(image.unsqueeze(0))[0][0])
            texts.append(encode_report(case_report(case), clip))
        rates = match_rates(torch.stack(slices), texts, args.group, args.seed)
        row = {"measure": f"own report among {args.group}, from slices", "value": pd.Series(rates).mean()}
        rows.append(
            row | {"n": len(texts), "chance": 1 / args.group, "sd": pd.Series(rates).std(ddof=0), "groups": len(rates)}
        )
    table = pd.DataFrame(rows, columns=["measure", "value", "sd", "n", "groups", "chance"])
    with atomic_write(args.output / "clip_zero_shot.csv") as path:
        table.to_csv(path, index=False)
    for row in rows:
        spread = f" ± {row['sd']:.3f} over {row['groups']} groups" if "sd" in row else ""
        print(f"{row['measure']}: {row['value']:.3f}{spread} (chance {row['chance']:.3f}, {row['n']} reports)")


if __name__ == "__main__":
    sys.exit(main())
