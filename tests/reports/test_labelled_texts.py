import json
import os
from pathlib import Path

import pytest

from brats_clip.reports import read_findings

OWN = json.loads((Path(__file__).parent / "labelled_texts.json").read_text(encoding="utf-8"))["texts"]


def misread(texts):
    """Return the misread texts, each with the name and the value of the misread finding."""
    wrong = []
    for entry in texts:
        found = read_findings(entry["text"])
        found["lobes"] = sorted(found["lobes"] or ())
        for name, want in entry["want"].items():
            one = found[name.removesuffix("_any_of")]
            if one not in want if name.endswith("_any_of") else one != (sorted(want) if name == "lobes" else want):
                wrong.append((entry["text"], name, one))
    return wrong


@pytest.mark.parametrize("kind", sorted({entry["kind"] for entry in OWN}))
def test_labelled_texts_are_read_correctly(kind):
    texts = [entry for entry in OWN if entry["kind"] == kind]
    assert len(texts) >= 15
    assert misread(texts) == []


@pytest.mark.real
@pytest.mark.skipif("REPORTS_DIR" not in os.environ, reason="REPORTS_DIR does not point to real reports")
def test_at_most_5_percent_of_held_out_texts_are_misread():
    path = Path(os.environ["REPORTS_DIR"]).parent / "report_texts.json"
    if not path.is_file():
        pytest.skip("no report_texts.json beside REPORTS_DIR")
    texts = json.loads(path.read_text(encoding="utf-8"))["texts"]
    wrong = {text for text, *_ in misread(texts)}
    assert len(wrong) <= 0.05 * len(texts), wrong
