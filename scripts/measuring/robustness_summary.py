"""What each kind of report does over all cases: Dice, false ET, and whether its consistency score tells it apart."""

from __future__ import annotations

from collections.abc import Sequence

from brats_clip.evaluation.spread import auc, bootstrap_interval
from brats_clip.evaluation.summary import statistics
from brats_clip.evaluation.tables import figure

from .robustness_texts import KINDS, NONE, TRUE

TITLES = {
    NONE: "no report",
    TRUE: "true report",
    "partial": "half of its sentences",
    "generic": "true of any glioma",
    "another_patient": "another patient's",
    "flip_side": "side flipped",
    "negate_enhancement": "enhancement negated",
    "swap_region": "lobe exchanged",
    "scale_up": "size too large",
    "scale_down": "size too small",
}
# "ET_present" is the ET of the cases that have any: a mean with the others, which score 1 or 0, mixes two questions.
MEASURES = ("WT", "TC", "ET", "mean", "ET_present")


def summarise(rows: Sequence[dict]) -> list[dict]:
    """A row per kind of report, over the cases whose text it changes.

    ``dice_R`` and ``dice_R_sd`` for R of ``MEASURES``; ``difference_R`` to no report on the same case, with
    ``_sd`` and the 95 % bootstrap interval ``_low`` to ``_high``; ``false_ET_ml_sum`` and ``_mean`` over the
    ``cases_without_ET``; the mean ``consistency``, how often that of the true report is higher (``told_apart``, over
    ``pairs``) and the ``auc``, and the shares that were ``used`` and ``warned`` of.
    """
    by_kind = {kind: {r["case"]: r for r in rows if r["kind"] == kind} for kind in KINDS}
    summary = []
    for kind, found in by_kind.items():
        used = {c: r for c, r in found.items() if r["changed"] or kind in (NONE, TRUE)}
        if not found:
            continue
        line = {"kind": kind, "cases": len(used), "unchanged": 0 if kind in (NONE, TRUE) else len(found) - len(used)}
        for name in MEASURES:
            column = f"dice_{name.removesuffix('_present')}"
            cases = [c for c, r in used.items() if name != "ET_present" or r["volume_ml_ET_truth"] > 0]
            dice = statistics(used[c][column] for c in cases)
            line |= {f"dice_{name}": dice["mean"], f"dice_{name}_sd": dice["std"]}
            paired = [used[c][column] - by_kind[NONE][c][column] for c in cases if kind != NONE and c in by_kind[NONE]]
            moved = statistics(paired)
            low, high = bootstrap_interval(paired)
            line |= {f"difference_{name}": moved["mean"], f"difference_{name}_sd": moved["std"]}
            line |= {f"difference_{name}_low": low, f"difference_{name}_high": high}
        false = [r["volume_ml_ET"] for r in used.values() if r["volume_ml_ET_truth"] == 0]
        line |= {"cases_with_ET": len(used) - len(false), "cases_without_ET": len(false)}
        line |= {"false_ET_ml_sum": sum(false) if false else None, "false_ET_ml_mean": statistics(false)["mean"]}
        line |= _told_apart(by_kind[TRUE], used, kind)
        summary.append(line)
    return summary


def _told_apart(true: dict[str, dict], used: dict[str, dict], kind: str) -> dict:
    """What consistency scores and warnings say of a kind, in itself and beside the true report."""
    if kind == NONE:
        return {}
    scores = {c: r["consistency"] for c, r in used.items() if r["consistency"] is not None}
    warned = statistics(float(r["warnings"] > 0) for r in used.values() if r["warnings"] is not None)
    used_share = statistics(float(r["used"]) for r in used.values())["mean"]
    line = {"consistency": statistics(scores.values())["mean"], "warned": warned["mean"], "used": used_share}
    if kind == TRUE:
        return line
    pairs = [(true[c]["consistency"], s) for c, s in scores.items() if c in true]
    pairs = [(of_true, of_kind) for of_true, of_kind in pairs if of_true is not None]
    told = statistics(float(of_true > of_kind) for of_true, of_kind in pairs)
    return line | {
        "told_apart": told["mean"],
        "auc": auc(*zip(*pairs, strict=True)) if pairs else None,
        "pairs": len(pairs),
    }


def in_short(summary: Sequence[dict], rows: Sequence[dict]) -> list[str]:
    """What the figures come to, in sentences."""
    lines = {line["kind"]: line for line in summary}
    said = []
    if TRUE in lines:
        true = lines[TRUE]
        for name, what in (("mean", "mean Dice"), ("ET", "Dice of ET"), ("ET_present", "Dice of ET in cases with ET")):
            if true[f"difference_{name}"] is not None:
                said.append(f"True report against none, {what}: {difference(true, name)}.")
        if true["cases_without_ET"]:
            cases = {r["case"]: r for r in rows if r["kind"] == TRUE and r["volume_ml_ET_truth"] == 0}
            says_so = sum(r["enhancement_stated"] == "absent" for r in cases.values())
            none = lines[NONE]
            said.append(
                f"False ET, cases without ET (n={len(cases)}, of which {says_so} true reports say so): "
                f"{none['false_ET_ml_sum']:.2f} ml without a report ({none['false_ET_ml_mean']:.3f} ml per case), "
                f"{true['false_ET_ml_sum']:.2f} ml with the true one ({true['false_ET_ml_mean']:.3f} ml per case)."
            )
    wrong = [line for kind, line in lines.items() if kind not in (NONE, TRUE) and line["cases"]]
    if wrong:
        worst = min(wrong, key=lambda line: line["difference_mean"])
        said.append(f"Worst of the changed reports: {title(worst['kind'])}, mean Dice {difference(worst, 'mean')}.")
    if (flipped := lines.get("flip_side")) and flipped.get("pairs"):
        said.append(
            f"Consistency of the true report above that of the one with its side flipped: {flipped['told_apart']:.1%} "
            f"of {flipped['pairs']} cases; AUC {flipped['auc']:.3f}."
        )
    if TRUE in lines and lines[TRUE]["warned"] is not None:
        share, unused, number = lines[TRUE]["warned"], 1 - lines[TRUE]["used"], lines[TRUE]["cases"]
        said.append(f"True reports with a warning: {share:.1%} of {number}; not used: {unused:.1%}.")
    return said


def difference(line: dict, name: str) -> str:
    """The difference to no report: mean ± standard deviation [interval of the mean]."""
    text = figure(line[f"difference_{name}"], line[f"difference_{name}_sd"], sign="+")
    low, high = line[f"difference_{name}_low"], line[f"difference_{name}_high"]
    return text + ("" if low is None else f" [{low:+.3f}, {high:+.3f}]")


def title(kind: str) -> str:
    """What people call a kind of report."""
    return TITLES.get(kind, kind.replace("_", " "))
