"""Medians of what was measured, and ratios to this network's first answer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .benchmark_tasks import ADDED, ANSWERS, CHANGED, CLICK, FIRST, NAMES, OURS, WITH_REPORT

MEASURES = ("seconds", "writing", "peak_gib", "above_imports_gib", "gpu_gib", "clip_share")


def summarise(rows: Sequence[dict]) -> list[dict]:
    """One row per network and answer: medians, the range of the seconds, and ratios to this network's first answer."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in sorted(rows, key=lambda row: (list(NAMES).index(row["network"]), ANSWERS.index(row["answer"]))):
        groups.setdefault((row["network"], row["answer"]), []).append(row)
    summary = []
    for (network, answer), group in groups.items():
        medians = {m: statistics.median(r[m] for r in group) for m in MEASURES if all(m in r for r in group)}
        seconds = [row["seconds"] for row in group]
        spread = {"fastest": min(seconds), "slowest": max(seconds), "repeats": len(group)}
        spread["set_aside"] = answer in (WITH_REPORT, ADDED, CHANGED) and not all(r["report_used"] for r in group)
        summary.append({"network": network, "answer": answer, **medians, **spread})
    ours = next((row for row in summary if (row["network"], row["answer"]) == (OURS, FIRST)), None)
    for row in summary if ours else ():
        row |= {f"{m}_ratio": row[m] / ours[m] for m in ("seconds", "peak_gib")}
    return summary


def in_short(summary: Sequence[dict]) -> list[str]:
    """What the figures come to, in sentences; none without this network's first answer."""
    rows = {(row["network"], row["answer"]): row for row in summary}
    if (OURS, FIRST) not in rows:
        return []
    lines = [
        f"{NAMES[name]}: {row['seconds_ratio']:.1f} times the seconds of this network's first answer, "
        f"which peaks at {1 / row['peak_gib_ratio']:.0%} of its memory."
        for (name, _), row in rows.items()
        if name != OURS
    ]
    lines += [
        f"{answer.capitalize()}: {rows[OURS, answer]['seconds_ratio']:.1%} of the first answer's seconds."
        for answer in (ADDED, CHANGED, CLICK)
    ]
    shares = {answer: rows.get((OURS, answer), {}).get("clip_share") for answer in (FIRST, WITH_REPORT)}
    return lines + [f"CLIP's share of the {a}: {share:.1%}." for a, share in shares.items() if share is not None]
