"""Whether a training goes on with the one that was interrupted, or is a new one: decided here, and said in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .options import TrainOptions
from .snapshot import Snapshot, fingerprints

# Not of what is learnt: threads are a matter of speed, and the weights are compared, whatever the request called them.
_NOT_COMPARED = ("resume", "threads", "start_from")
_NAMED = 5  # cases, in a sentence


def decide(
    snapshot: Snapshot, cases: Mapping[str, Sequence[Mapping]], options: TrainOptions, weights: Mapping[str, Any]
) -> tuple[bool, str]:
    """Whether to go on where ``snapshot`` was cut off, and a sentence that says so and why.

    Only a training that would be the same is gone on with: "all labels so far" is what people ask for.

    Args:
        snapshot: of the last training, if it was interrupted.
        cases: labelled cases by side, as they are now.
        options: as asked for now.
        weights: to start from: ``name`` and ``sha256``.

    Raises:
        InputError: if a label or a report cannot be read.
    """
    if not snapshot.resumable():
        return False, f"A new training from {weights['name']}."
    epoch, content = snapshot.epoch(), snapshot.content()
    if not options.resume:
        reasons = ["resume is off"]
    else:
        reasons = [
            *_of_weights(content["weights"], weights),
            *_of_options(snapshot.options(), options),
            *_of_cases(content["fingerprints"], fingerprints(cases)),
        ]
    if reasons:
        why = "; ".join(reasons)
        return (
            False,
            f"A new training from {weights['name']}; the one interrupted after epoch {epoch} is given up: {why}.",
        )
    same = "labels, options and weights are the same"
    return True, f"Resumed after epoch {epoch} of {options.max_epochs} of the training that was interrupted: {same}."


def _of_weights(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before["sha256"] == now["sha256"]:
        return []
    return [f"it started from {before['name']}"]


def _of_options(before: TrainOptions, now: TrainOptions) -> list[str]:
    names = [name for name in TrainOptions.model_fields if name not in _NOT_COMPARED]
    pairs = [(name, getattr(before, name), getattr(now, name)) for name in names]
    return [f"{name} was {old:g} and is {new:g}" for name, old, new in pairs if old != new]


def _of_cases(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changed = [case for case in before if case in now and before[case] != now[case]]
    sorts = {
        "new labelled cases": now.keys() - before.keys(),
        "cases no longer there": before.keys() - now.keys(),
        "changed labels, reports or images": changed,
    }
    return [f"{what}: {_listed(some)}" for what, some in sorts.items() if some]


def _listed(cases: Iterable[str]) -> str:
    names = sorted(cases)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
