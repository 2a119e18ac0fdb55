from __future__ import annotations

import pytest

from brats_clip.reports import Findings
from brats_clip.reports.findings import ENHANCEMENTS, LOBES, MASS_EFFECTS, OEDEMAS, SIDES
from brats_clip.semantics.attributes import ATTRIBUTES, VALUES, attribute_slices, attribute_targets

CASE = Findings(side="left", lobes=("frontal", "insular"), wt_ml=50.0, enhancement="thin rim", necrosis=True, foci=1)


def stated(findings: Findings, *only: str) -> dict[tuple[str, str], float]:
    targets = attribute_targets(findings, only or None)
    return {VALUES[i]: float(targets[i]) for i in targets.nonzero()[:, 0].tolist()}


def test_targets_of_a_case_follow_its_findings():
    assert stated(CASE) == {
        ("side", "left"): 1.0,
        ("lobe", "frontal"): 0.5,
        ("lobe", "insular"): 0.5,
        ("enhancement", "present"): 1.0,
        ("pattern", "rim"): 1.0,
        ("necrosis", "present"): 1.0,
        ("oedema", "none"): 1.0,
        ("size", "medium-sized"): 1.0,
        ("foci", "one"): 1.0,
    }
    assert set(stated(CASE, "side", "size")) == {("side", "left"), ("size", "medium-sized")}


def test_targets_are_zero_without_findings_or_lesion():
    assert attribute_targets(None).sum() == 0
    assert attribute_targets(Findings()).sum() == 0


@pytest.mark.parametrize(
    ("field", "words"),
    [("side", SIDES), ("enhancement", ENHANCEMENTS), ("oedema", OEDEMAS), ("mass_effect", MASS_EFFECTS)],
)
def test_every_value_of_the_findings_has_an_attribute_value(field, words):
    for word in words:
        values = {"side": "left", "lobes": LOBES, "wt_ml": 5.0, field: word}
        targets = attribute_targets(Findings(**values))
        sums = {attribute: float(targets[place].sum()) for attribute, place in attribute_slices().items()}
        unsaid = {"pattern"} if values.get("enhancement", "none") == "none" else set()
        unsaid |= {"mass effect"} if "mass_effect" not in values else set()
        assert sums == pytest.approx({attribute: float(attribute not in unsaid) for attribute in ATTRIBUTES})


def test_left_and_right_have_the_same_wordings():
    left, right = (ATTRIBUTES["side"][side] for side in ("left", "right"))
    assert [words.replace("left", "right") for words in left] == list(right)
