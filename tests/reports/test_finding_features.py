import dataclasses

import numpy as np
import pytest

from brats_clip.reports import FEATURES, FINDING_SLOTS, Findings, finding_features, read_findings, stated, write_report
from brats_clip.reports.findings import ENHANCEMENTS

ROW = {name: row for row, name in enumerate(FINDING_SLOTS)}
SIZES = [ROW[name] for name in FINDING_SLOTS if name.endswith(" size")]


def test_features_have_fixed_shapes_and_types():
    for source in (Findings(), Findings(side="left", lobes=("frontal",)), "", read_findings("Left mass.")):
        features, known = finding_features(source)
        assert (features.shape, features.dtype) == ((len(FINDING_SLOTS), FEATURES), np.float32)
        assert (known.shape, known.dtype) == ((len(FINDING_SLOTS),), bool)
        assert np.isfinite(features).all() and not features[~known].any()


def test_text_without_findings_has_no_known_features():
    assert not finding_features("")[1].any()


def test_text_and_its_read_findings_give_the_same_features():
    text = "Left frontal mass of 4.5 x 3 cm with a thin enhancing rim."
    for a, b in zip(finding_features(text), finding_features(read_findings(text)), strict=True):
        assert np.array_equal(a, b)


def test_every_row_holds_the_documented_values():
    features, known = finding_features(
        "Two left frontal and insular masses, the larger one 30 x 15 mm. Ring enhancement. Edema: moderate, 20 ml."
    )
    assert features[ROW["side"]][:4].tolist() == [1, 0, 0, 0]
    assert np.flatnonzero(features[ROW["lobes"]]).tolist() == [0, 4]
    core = features[ROW["core size"]]
    assert core[1] == 0 and core[2] == pytest.approx(np.log(0.5) / 0.8) and core[5:].tolist() == [1, 1, 0, 0]
    assert core[0] == pytest.approx(np.log(np.pi / 6 * 30 * 15 * 13.5 / 1000 / 20) / 1.5)
    assert features[ROW["oedema size"]].tolist() == [0] * 8 + [1]
    assert features[ROW["enhancement"]][:4].tolist() == [0, 1, 0.5, 0.5]
    assert features[ROW["oedema"]][:5].tolist() == [0, 1, 0, 1, 0]
    assert features[ROW["multiplicity"]][:4].tolist() == [0, 1, 1, pytest.approx(np.log(2))]
    unknown = [name for name, there in zip(FINDING_SLOTS, known, strict=True) if not there]
    assert unknown == ["enhancement size", "necrosis size", "necrosis", "cyst", "mass effect"]


def test_unstated_whole_tumour_is_the_sum_of_core_and_oedema():
    features, known = finding_features("The core has a volume of 12 ml. Oedema of 28 ml.")
    whole = features[ROW["whole size"]]
    assert known[ROW["whole size"]] and whole[0] == pytest.approx(np.log(40 / 20) / 1.5) and not whole[1:].any()
    stated, _ = finding_features("The core has a volume of 12 ml. Oedema of 28 ml. Total tumor volume 50 ml.")
    assert stated[ROW["whole size"]][0] == pytest.approx(np.log(50 / 20) / 1.5)
    assert not finding_features("Oedema of 28 ml.")[1][ROW["whole size"]]


def test_denied_findings_are_known_to_be_absent():
    features, known = finding_features("No enhancement, no necrosis, no oedema, no mass effect. No cyst.")
    for name in ("enhancement", "necrosis", "cyst", "oedema", "mass effect"):
        assert known[ROW[name]] and features[ROW[name]].tolist() == [1] + [0] * (FEATURES - 1)


def test_every_enhancement_pattern_has_distinct_features():
    rows = {
        tuple(finding_features(Findings(side="left", lobes=("frontal",), enhancement=name))[0][ROW["enhancement"]])
        for name in ENHANCEMENTS
    }
    assert len(rows) == len(ENHANCEMENTS)


def test_report_that_is_read_back_gives_the_features_of_its_findings(random_findings):
    """Up to rounding; what the report leaves out is unknown."""
    compared = np.zeros(len(FINDING_SLOTS), int)
    wrong = np.zeros(len(FINDING_SLOTS), int)
    for i in range(300):
        rng = np.random.default_rng(i)
        findings = random_findings(rng)
        # The axes are compared longest first, whatever the order in the report.
        axes = {name: tuple(sorted(getattr(findings, name), reverse=True)) for name in AXES}
        findings = dataclasses.replace(findings, **axes)
        true, true_known = finding_features(findings)
        said, said_known = finding_features(write_report(findings, rng))
        for row in np.flatnonzero(said_known):
            compared[row] += 1
            wrong[row] += not (true_known[row] and agree(FINDING_SLOTS[row], true[row], said[row]))
    assert (compared > 50).all(), dict(zip(FINDING_SLOTS, compared, strict=True))
    assert (wrong <= 0.02 * compared).all(), dict(zip(FINDING_SLOTS, wrong, strict=True))


AXES = ("core_axes_mm", "enhancement_axes_mm", "whole_axes_mm")


def agree(name, true, said):
    if name.endswith(" size"):
        stated = said[5:] > 0
        return np.allclose(said[1:5][stated], true[1:5][stated], atol=0.25)  # 5 mm of 25 mm, 0.1 ml of 0.3 ml
    if name == "lobes":
        return (said <= true).all()
    if name == "necrosis":
        return said[1] == true[1] and (said[2] == 0 or abs(said[3] - true[3]) < 0.2)
    if name == "multiplicity":
        return said[1] == true[1] and (said[2] == 0 or said[3] == true[3])
    # The report may leave out an extent or a pattern.
    return (said[:2] == true[:2]).all() and (not said[2:].any() or np.allclose(said[2:], true[2:], atol=0.5))


def test_stated_has_the_keys_of_read_findings():
    assert set(stated(Findings())) == set(read_findings(""))
