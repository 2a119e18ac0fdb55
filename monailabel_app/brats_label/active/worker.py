"""A process of its own that measures cases: ``python -m brats_label.active.worker '{"checkpoint": ..., ...}'``.

Reads a case per line from standard input and answers with a line each, JSON both ways. It is nice, computes in one
thread, and ends with its parent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from ..end_with import end_with
from ..errors import sentence

NICENESS = 10


def serve(setup: dict[str, Any], requests: Iterable[str], answers: TextIO) -> int:
    """Measure what is asked for until there is nothing more; returns the exit code.

    Args:
        setup: ``bundle``, ``checkpoint`` and ``device`` of the segmenter, None for its defaults, and ``version``.
        requests: ``{"case_id", "files", "report", "identity"}`` as JSON.
        answers: gets ``{"ready": true}`` first, then ``{"scores": ...}`` or ``{"error": ...}`` for each request; only
            ``{"fatal": ...}`` if there is no segmenter to be had. No sentence holds a path or a report.
    """
    import torch

    from brats_clip import Segmenter
    from brats_label.active.measure import measure

    def answer(content: dict) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    torch.set_num_threads(1)
    try:
        segmenter = Segmenter(setup["bundle"], setup["checkpoint"], setup["device"], cache_bytes=0)
    except Exception as reason:
        answer({"fatal": sentence(reason)})
        return 2
    answer({"ready": True})
    for line in requests:
        case = json.loads(line)
        try:
            scores = measure(segmenter, **case, version=setup["version"])
            answer({"scores": scores.to_dict()})
        except Exception as reason:  # whatever is wrong with this case, the next may be sound
            answer({"error": sentence(reason)})
    return 0


def main() -> int:
    """Run the worker."""
    setup = json.loads(sys.argv[1])
    end_with(setup["parent"])
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return serve(setup, sys.stdin, answers)


if __name__ == "__main__":
    sys.exit(main())
