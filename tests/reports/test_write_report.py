import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from open_clip import SimpleTokenizer

from brats_clip.reports import Findings, caption, split_sentences, swap_side, write_report
from brats_clip.reports.findings import ENHANCEMENTS
from brats_clip.reports.writing.phrases import REGISTERS

FRONTAL = Findings(
    side="left",
    lobes=("frontal",),
    core_lobes=("frontal",),
    wt_ml=60.0,
    tc_ml=20.0,
    et_ml=12.0,
    ncr_ml=8.0,
    ed_ml=40.0,
    enhancement="thick rim",
    necrosis=True,
    necrosis_fraction=0.4,
    oedema="moderate",
    oedema_ratio=2.0,
    foci=1,
    diameter_mm=62.0,
    core_diameter_mm=35.0,
)


def some(random_findings, number, seed=0):
    for i in range(number):
        rng = np.random.default_rng([seed, i])
        yield random_findings(rng), rng


def test_every_topic_has_eight_wordings_in_every_register():
    topics = set(REGISTERS["prose"])
    assert {f"enhancement {pattern}" for pattern in ENHANCEMENTS} <= topics
    for table in REGISTERS.values():
        assert set(table) == topics
        assert all(len(set(templates)) >= 8 for templates in table.values())


def test_every_template_can_be_filled(random_findings):
    for findings, rng in some(random_findings, 400):
        for register in REGISTERS:
            text = write_report(findings, rng, register)
            assert not re.search(r"[\[\]{}|]|  | [.,]|\ba [aeio]", text), text


def test_reports_have_40_to_160_words(random_findings):
    for findings, rng in [*some(random_findings, 300), (Findings(), np.random.default_rng(0))]:
        assert 40 <= len(write_report(findings, rng).split()) <= 160


def test_reports_are_reproducible_by_seed_and_differ_between_seeds():
    texts = {write_report(FRONTAL, np.random.default_rng(seed)) for seed in range(100)}
    assert len(texts) == 100
    assert write_report(FRONTAL, np.random.default_rng(5)) == write_report(FRONTAL, np.random.default_rng(5))


def test_registers_differ_in_layout():
    rng = np.random.default_rng(0)
    assert "\n" in write_report(FRONTAL, rng, "structured")
    assert "\n" not in write_report(FRONTAL, rng, "prose")
    with pytest.raises(KeyError):
        write_report(FRONTAL, rng, "poem")


def test_most_sentences_name_side_and_lobe():
    sentences = [s for i in range(100) for s in split_sentences(write_report(FRONTAL, np.random.default_rng(i)))]
    assert np.mean(["left" in s.lower() and "frontal" in s.lower() for s in sentences]) > 0.9
    assert not any(re.search(r"\bright\b", s) for s in sentences)


def test_both_spellings_and_units_occur():
    texts = " ".join(write_report(FRONTAL, np.random.default_rng(i)) for i in range(100))
    for word in ("oedema", "edema", "FLAIR", "Flair", "tumour", "tumor", " ml", " mm", " cm"):
        assert re.search(rf"{word}\b", texts), word


def test_sizes_are_those_of_the_findings():
    known = dataclasses.replace(
        FRONTAL,
        core_axes_mm=(35.2, 28.4, 30.1),
        enhancement_axes_mm=(33.0, 26.6, 27.8),
        whole_axes_mm=(62.2, 48.8, 51.0),
    )
    for findings, lengths in ((FRONTAL, {62, 35}), (known, {35, 28, 30, 33, 27, 62, 49, 51, 25, 60, 50})):
        seen = set()
        for i in range(100):
            text = write_report(findings, np.random.default_rng(i))
            for numbers, unit in re.findall(r"([\d.]+(?:(?: ?[x\xd7] ?| by )[\d.]+)*) (cm|mm)\b(?!3)", text):
                seen |= {round(float(n) * (10 if unit == "cm" else 1)) for n in re.findall(r"[\d.]+", numbers)}
            assert set(re.findall(r"([\d.]+) (?:ml|mL|cc|cm3)", text)) <= {"60", "12", "8.0", "40", "20"}
        assert seen <= lengths | {5 * round(mm / 5) for mm in lengths} and seen >= {35, 62, 60}


def test_sizes_are_given_in_several_ways_and_rounded_differently():
    findings = dataclasses.replace(FRONTAL, core_axes_mm=(42.3, 31.6, 37.2))
    texts = [write_report(findings, np.random.default_rng(i)) for i in range(300)]
    one, two, three = (
        sum(
            bool(re.search(rf"(?<![x\xd7y] )\b4[\d.]*(?:(?: ?[x\xd7] ?| by )[\d.]+){{{n}}} [cm]m\b", text))
            for text in texts
        )
        for n in range(3)
    )
    assert min(one, two, three) > 20
    assert any("42 mm" in text for text in texts) and any("40 mm" in text for text in texts)


def test_imprecision_and_left_out_options_take_effect():
    exact = [write_report(FRONTAL, np.random.default_rng(i), "terse") for i in range(40)]
    rough = [write_report(FRONTAL, np.random.default_rng(i), "terse", imprecision=0.2) for i in range(40)]
    short = [write_report(FRONTAL, np.random.default_rng(i), "terse", left_out=0.9) for i in range(40)]
    assert exact != rough and all(re.search("frontal", text) for text in short)
    assert np.mean([len(text) for text in short]) < 0.6 * np.mean([len(text) for text in exact])


def test_unknown_mass_effect_is_not_mentioned():
    words = re.compile(r"mass effect|ventric|midline shift", re.IGNORECASE)
    texts = [write_report(FRONTAL, np.random.default_rng(i)) for i in range(100)]
    assert not any(words.search(text) for text in texts)
    known = dataclasses.replace(FRONTAL, mass_effect="marked")
    assert np.mean([bool(words.search(write_report(known, np.random.default_rng(i)))) for i in range(100)]) > 0.6


def test_captions_are_one_short_sentence(random_findings):
    tokenizer = SimpleTokenizer()
    for findings, rng in [*some(random_findings, 300), (Findings(), np.random.default_rng(0))]:
        text = caption(findings, rng)
        assert len(split_sentences(text)) == 1
        assert len(tokenizer.encode(text)) + 2 < 60


def test_sentences_fit_the_context_length_of_clip(random_findings):
    tokenizer = SimpleTokenizer()
    for findings, rng in some(random_findings, 100):
        assert all(len(tokenizer.encode(s)) + 2 <= 77 for s in split_sentences(write_report(findings, rng)))


def test_swap_side_keeps_case_and_is_its_own_inverse():
    text = "Left-sided lesion, LEFT > right, leftward shift, lt. ventricle; brightness and cleft stay."
    swapped = "Right-sided lesion, RIGHT > left, rightward shift, rt. ventricle; brightness and cleft stay."
    assert swap_side(text) == swapped
    assert swap_side(swapped) == text


@pytest.mark.skipif("REPORTS_DIR" not in os.environ, reason="REPORTS_DIR does not point to real reports")
def test_written_reports_share_no_eight_word_run_with_real_reports(random_findings):
    def runs(text):
        words = re.findall(r"[a-z0-9]+", text.lower())
        return {tuple(words[i : i + 8]) for i in range(len(words) - 7)}

    real = set()
    for path in Path(os.environ["REPORTS_DIR"]).glob("*.json"):
        for text in json.loads(path.read_text()).values():
            real |= runs(text)
    assert real
    for findings, rng in some(random_findings, 500):
        for text in (write_report(findings, rng), caption(findings, rng)):
            assert not runs(text) & real
