"""Which T1-weighted series of a study were taken after contrast agent, as far as headers tell."""

from __future__ import annotations

from dataclasses import replace

from .verdict import BY_AGENT, Verdict


def settle_contrast(verdicts: list[Verdict]) -> list[Verdict]:
    """Split what is T1-weighted into T1 and T1ce, as far as headers tell; the agent stays in the patient."""
    verdicts = _distrust_agent(verdicts)
    given = [v.header.acquired for v in verdicts if v.contrast == "yes" and v.header.acquired]
    first = min(given, default="")
    some = any(v.what == "t1" and v.contrast == "yes" for v in verdicts)
    settled = []
    for v in verdicts:
        if v.what == "t1" and v.contrast == "yes":
            v = replace(v, what="t1ce")
        elif v.what == "t1" and not v.contrast and first and v.header.acquired > first:
            v = replace(v, what="t1ce", contrast="yes", reason=f"{v.reason}; taken after contrast agent was given")
        elif v.what == "t1" and not v.contrast and some:
            v = replace(v, contrast="no", reason=f"{v.reason}; no sign of contrast agent, and another series has one")
        settled.append(v)
    return settled


def _distrust_agent(verdicts: list[Verdict]) -> list[Verdict]:
    """Pass over ContrastBolusAgent where it was entered for the whole exam: then it tells no series from another."""
    t1s = [v for v in verdicts if v.what == "t1"]
    everywhere = len(t1s) > 1 and all(v.contrast == "yes" for v in t1s)
    if not everywhere and not any(v.contrast == "no" and v.header.contrast_agent for v in t1s):
        return verdicts
    says = "ContrastBolusAgent tells nothing, being set for the whole exam"
    return [
        replace(v, contrast="", by_agent=False, reason=v.reason.replace(BY_AGENT, says)) if v.by_agent else v
        for v in verdicts
    ]
