import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from brats_clip.reports import Findings, caption, generic_report, read_findings, write_report


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("A mass in the left frontal lobe.", {"side": "left", "lobes": ("frontal",), "enhancement": None}),
        ("Both temporal lobes are affected.", {"side": "bilateral", "lobes": ("temporal",)}),
        ("Left frontal and right parietal lesions.", {"side": "bilateral", "sides": ("left", "right")}),
        ("Left temporal mass. The right hemisphere is normal.", {"side": "left", "sides": ("left",)}),
        ("Left insular mass sparing the right frontal lobe.", {"side": "left", "lobes": ("insular",)}),
        ("Left frontal mass. The right lateral ventricle is compressed.", {"side": "left", "mass_effect": True}),
        ("The frontal horn is narrowed; lesion in the right thalamus.", {"lobes": ("deep",), "side": "right"}),
        ("Frontotemporal tumour", {"lobes": ("frontal", "temporal")}),
        ("Right parieto-occipital tumour", {"lobes": ("parietal", "occipital")}),
        ("Midline shift to the left.", {"sides": ("left",), "mass_effect": True}),
        ("No midline shift.", {"side": None, "mass_effect": False}),
        ("Left frontal mass with midline shift to the right.", {"side": "left", "sides": ("left", "right")}),
        ("Left frontal mass. The midline is shifted to the right by 6 mm.", {"side": "left"}),
        ("Left frontal mass, midline structures displaced 5 mm to the right.", {"side": "left"}),
        ("Mass in the left frontal lobe with compression of the right lateral ventricle.", {"side": "left"}),
        ("The right lateral ventricle is compressed by a left frontal mass.", {"side": "left", "mass_effect": True}),
        ("Left-to-right midline shift due to a left frontal tumour.", {"side": "left"}),
        ("Left temporal glioma with rightward midline shift.", {"side": "left"}),
        ("Left frontal mass with shift\nto the right.", {"side": "left"}),
        ("Ventricular compression by the left tumour.", {"side": "left"}),
        ("Previously right-sided craniotomy. Left frontal mass.", {"side": "left"}),
        ("After right frontal craniotomy for tumour resection. Mass in the left insula.", {"side": "left"}),
        ("Left frontal mass. The lesion does not cross the midline.", {"side": "left"}),
        ("The lesion does not cross the midline.", {"side": None}),
        ("Midline shift to the right by 6 mm.", {"side": None}),
        ("Left frontal and right parietal lesions with midline shift.", {"side": "bilateral"}),
        ("Left frontal mass with mass-effect.", {"side": "left", "mass_effect": True}),
        ("Brainstem glioma in the midline.", {"side": "midline", "lobes": ("brainstem",)}),
        ("The lesion enhances.", {"enhancement": "present"}),
        ("The lesion does not enhance.", {"enhancement": "absent"}),
        ("Non-enhancing mass.", {"enhancement": "absent"}),
        ("Nonenhancing part next to a rim that enhances.", {"enhancement": "present"}),
        ("Enhancement: none.", {"enhancement": "absent"}),
        ("Contrast uptake is absent.", {"enhancement": "absent"}),
        ("No necrosis, oedema or enhancement.", {"enhancement": "absent", "necrosis": False, "oedema": False}),
        ("No necrosis, marked edema.", {"necrosis": False, "oedema": True}),
        ("No oedema, but strong enhancement.", {"oedema": False, "enhancement": "present"}),
        ("Contrast-enhanced T1 images were reviewed.", {"enhancement": None}),
        ("Necrosis is not observed.", {"necrosis": False}),
        ("Necrosis is noted.", {"necrosis": True}),
        ("Ventricular compression is not severe.", {"mass_effect": True}),
        ("Oedema in the left temporal lobe is not seen.", {"oedema": False, "lobes": ("temporal",)}),
        ("", {"side": None, "sides": None, "lobes": None, "enhancement": None, "necrosis": None, "oedema": None}),
    ],
)
def test_findings_are_read_from_text(text, stated):
    found = read_findings(text)
    assert {name: found[name] for name in stated} == stated


def test_sentence_of_10000_words_is_read_within_3_seconds():
    words = "mass in the left frontal lobe, with oedema and an enhancing rim, compression of the right ventricle and a "
    text = " ".join((words * 600).split()[:10_000])
    assert len(text.split()) == 10_000
    for long in (text, text.replace(", ", ",\n")):  # as one line, and as many lines of one sentence
        start = time.process_time()
        found = read_findings(long)
        assert time.process_time() - start < 3  # about 0.2 s on one core
        assert (found["side"], found["lobes"], found["mass_effect"]) == ("left", ("frontal",), True)


def test_negation_applies_only_to_nearby_findings():
    far = "which was seen before and is seen again today " * 8
    assert read_findings(f"No necrosis {far} and oedema.")["oedema"] is True
    assert read_findings(f"No necrosis {far[:200]} or oedema.")["oedema"] is False


def test_written_reports_are_read_back(random_findings):
    right = {"side": 0, "enhancement": 0, "oedema": 0, "necrosis": 0, "mass_effect": 0}
    total = dict.fromkeys(right, 0)
    for i in range(500):
        rng = np.random.default_rng(i)
        findings = random_findings(rng)
        found = read_findings(write_report(findings, rng))
        expected = {
            "side": findings.side,
            "enhancement": "absent" if findings.enhancement == "none" else "present",
            "oedema": findings.oedema != "none",
            "necrosis": findings.necrosis,
            "mass_effect": findings.mass_effect in ("mild", "marked"),
        }
        assert set(found["lobes"]) <= set(findings.lobes)
        for name, value in expected.items():
            if found[name] is None and name in ("necrosis", "mass_effect"):  # may be left out of the report
                continue
            total[name] += 1
            right[name] += found[name] == value
    assert all(total[name] > 150 for name in total)
    assert all(right[name] >= 0.98 * total[name] for name in total), (right, total)


def test_side_and_enhancement_of_captions_are_read(random_findings):
    for i in range(300):
        rng = np.random.default_rng(i)
        findings = random_findings(rng)
        found = read_findings(caption(findings, rng))
        assert found["side"] == findings.side
        assert found["enhancement"] == ("absent" if findings.enhancement == "none" else "present")


def test_report_without_a_lesion_states_no_side():
    for i in range(20):
        found = read_findings(write_report(Findings(), np.random.default_rng(i)))
        assert (found["side"], found["lobes"]) == (None, None)
        assert found["enhancement"] in ("absent", None)


def test_generic_reports_state_nothing():
    for i in range(50):
        assert set(read_findings(generic_report(np.random.default_rng(i))).values()) == {None}


@pytest.mark.skipif("REPORTS_DIR" not in os.environ, reason="REPORTS_DIR does not point to real reports")
def test_real_reports_are_read_without_error():
    paths = Path(os.environ["REPORTS_DIR"]).glob("*.json")
    found = [read_findings(text) for path in paths for text in json.loads(path.read_text()).values()]
    assert len(found) > 100
    for name in ("side", "lobes", "necrosis", "oedema", "mass_effect"):
        assert np.mean([reading[name] is not None for reading in found]) > 0.95
