"""What only the image can tell, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..cases.case import SEQUENCES
from .verdict import Verdict

SPOKEN = {"t1": "T1", "t1ce": "T1 with contrast agent", "t2": "T2", "flair": "FLAIR"}


@dataclass(frozen=True)
class Question:
    """Series that headers do not tell apart; ``tell_by_image`` does.

    Attributes:
        sequences: what they may be.
        uids: their SeriesInstanceUIDs.
    """

    sequences: tuple[str, ...]
    uids: tuple[str, ...]


def ask(verdicts: list[Verdict]) -> tuple[list[Verdict], list[Question]]:
    """Find what only the image can tell.

    Args:
        verdicts: on the series of a study that may serve as a sequence, with contrast settled as far as headers tell.

    Returns:
        The verdicts, where one of T2 and FLAIR tells the other, and the questions.
    """
    questions = []
    silent = [v for v in verdicts if v.what == "t1" and not v.contrast]
    native = [v for v in verdicts if v.what == "t1" and v.contrast == "no"]
    either = [v for v in verdicts if v.what == "t2 or flair"]
    if len(verdicts) == len(SEQUENCES) and all(v.what == "unknown" for v in verdicts):
        return verdicts, [Question(SEQUENCES, tuple(v.header.uid for v in verdicts))]
    if silent and len(silent) + len(native) > 1 and not any(v.what == "t1ce" for v in verdicts):
        questions.append(Question(("t1", "t1ce"), tuple(v.header.uid for v in [*native, *silent])))
    if either:
        known = {v.what for v in verdicts} & {"t2", "flair"}
        if len(either) == 1 and len(known) == 1:
            other = ({"t2", "flair"} - known).pop()
            reason = f"{either[0].reason}; T2 or FLAIR, and another series is {SPOKEN[known.pop()]}"
            verdicts = [replace(v, what=other, reason=reason) if v is either[0] else v for v in verdicts]
        else:
            questions.append(Question(("t2", "flair"), tuple(v.header.uid for v in either)))
    return verdicts, questions


def answered(verdicts: list[Verdict], answers: Mapping[str, str]) -> list[Verdict]:
    """What the images showed; T1s that all look alike and all have the agent noted were all taken after it."""
    t1s = [v for v in verdicts if answers.get(v.header.uid) in ("t1", "t1ce")]
    alike = len(t1s) > 1 and all(v.by_agent and answers[v.header.uid] == "t1" for v in t1s)
    after = {v.header.uid for v in t1s} if alike else ()
    return [
        replace(v, by_agent=False, reason=f"{v.reason}, and all T1 look alike") if v.header.uid in after else told
        for v, told in ((v, _by_answer(v, answers)) for v in verdicts)
    ]


def _by_answer(verdict: Verdict, answers: Mapping[str, str]) -> Verdict:
    uid = verdict.header.uid
    if not verdict.what or uid not in answers:
        return verdict
    sequence = answers[uid]
    if not sequence:
        return replace(verdict, what="", reason="headers do not say what it shows, and the image does not tell")
    contrast = {"t1": "no", "t1ce": "yes"}.get(sequence, "")
    reason = f"the image itself looks like {SPOKEN[sequence]}; headers do not say ({verdict.reason})"
    what = "t1" if sequence == "t1ce" else sequence
    return replace(verdict, what=what, contrast=contrast, reason=reason, by_agent=False)
