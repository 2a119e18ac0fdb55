import numpy as np
import pytest

from brats_clip.errors import InputError
from brats_clip.reports import (
    PERTURBATIONS,
    another_patients,
    drop_sentences,
    generic_report,
    negate_enhancement,
    read_findings,
    scale_size,
    split_sentences,
    swap_region,
    swap_side,
    write_report,
)
from brats_clip.reports.reading import enhancement_mentions

REPORT = (
    "1. Large left frontotemporal mass, 3.5 x 2.0 cm.\n2. Thick rim enhancement in the left frontal lobe.\n3. No edema."
)
RNG = np.random.default_rng


@pytest.fixture
def reports(random_findings):
    texts = []
    for i in range(200):
        rng = RNG(i)
        texts.append(write_report(random_findings(rng), rng))
    return texts


def others_than(name, before, after):
    return all(before[key] == after[key] for key in before if key != name)


def test_swap_side_changes_only_the_side_and_is_its_own_inverse(reports):
    other = {"left": "right", "right": "left", "bilateral": "bilateral", "midline": "midline"}
    for text in reports:
        before, after = read_findings(text), read_findings(swap_side(text))
        assert after["side"] == other[before["side"]]
        assert all(before[key] == after[key] for key in before if key not in ("side", "sides"))
        assert swap_side(swap_side(text)) == text
    assert swap_side(REPORT) == REPORT.replace("left", "right")


def test_negate_enhancement_inverts_only_the_enhancement(reports):
    turned = {"present": "absent", "absent": "present"}
    seen = set()
    for i, text in enumerate(reports):
        before = read_findings(text)
        negated = negate_enhancement(text, RNG(i))
        after = read_findings(negated)
        seen.add(before["enhancement"])
        assert after["enhancement"] == turned[before["enhancement"]], (text, negated)
        same = ("side", "necrosis", "oedema", "mass_effect")
        assert [after[key] for key in same] == [before[key] for key in same], (text, negated)
        assert set(after["lobes"]) == set(before["lobes"])
        assert read_findings(negate_enhancement(negated, RNG(i)))["enhancement"] == before["enhancement"]
        old, new = split_sentences(text), split_sentences(negated)
        assert len(old) == len(new)
        assert all(a == b for a, b in zip(old, new, strict=True) if not list(enhancement_mentions(a)))
    assert seen == {"present", "absent"}


def test_negate_enhancement_keeps_layout_and_other_sentences():
    negated = negate_enhancement(REPORT, RNG(0)).split("\n")
    assert negated[0] == REPORT.split("\n")[0] and negated[2] == REPORT.split("\n")[2]
    assert negated[1].startswith("2. ") and "left" in negated[1] and "frontal" in negated[1]


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("A left tumour with thick rim enhancement.", "A left tumour with no enhancement."),
        ("A left tumour without enhancement.", "A left tumour with strong enhancement."),
        ("Mixed signals and marked enhancement, necrosis.", "Mixed signals and no enhancement, necrosis."),
        ("Non-enhancing core of 3 ml.", "Enhancing core of 3 ml."),
        ("No word of it here.", "No word of it here."),
    ],
)
def test_negate_enhancement_changes_only_the_clause(text, negated):
    assert negate_enhancement(text, RNG(0)) == negated


def test_swap_region_changes_only_the_lobes_and_is_its_own_inverse(reports):
    for text in reports:
        before, after = read_findings(text), read_findings(swap_region(text))
        assert before["lobes"] != after["lobes"] or len(before["lobes"]) > 1
        assert others_than("lobes", before, after)
        assert swap_region(swap_region(text)) == text
    assert "left occipitoparietal mass" in swap_region(REPORT) and "left occipital lobe" in swap_region(REPORT)
    assert swap_region("Temporal horn. Insula, INSULA, basal ganglia.") == (
        "Temporal horn. Cerebellum, CEREBELLUM, brainstem."
    )


@pytest.mark.parametrize(
    ("text", "factor", "scaled"),
    [
        ("3.5 cm", 2, "7.0 cm"),
        ("35 mm in 2 planes", 2, "70 mm in 2 planes"),
        ("3.5 x 2.0 x 1 cm", 2, "7.0 x 4.0 x 2 cm"),
        ("2-3 cm", 2, "4-6 cm"),
        ("10 ml, 10 cc, 10 cm3, 10 mL", 2, "80 ml, 80 cc, 80 cm3, 80 mL"),
        ("about 80 ml", 0.5, "about 10 ml"),
        ("2 ml", 0.5, "0.2 ml"),
        ("4,5 x 3 cm", 2, "9,0 x 6 cm"),
        ("T2, 4 foci, FLAIR 3 T", 2, "T2, 4 foci, FLAIR 3 T"),
        ("Small lesion, a large one", 2, "Medium-sized lesion, a very large one"),
        ("Medium-sized lesion, a tiny one", 0.5, "Small lesion, a tiny one"),
        ("Small, 3 cm", 1, "Small, 3 cm"),
    ],
)
def test_scale_size_scales_lengths_volumes_and_words(text, factor, scaled):
    assert scale_size(text, factor) == scaled


def test_scale_size_changes_only_the_sizes_and_refuses_factor_0(reports):
    for text in reports:
        before, after = read_findings(text), read_findings(scale_size(text, 2))
        assert others_than("sizes", before, after)
        for part, size in (before["sizes"] or {}).items():
            assert after["sizes"][part]["mm"] == pytest.approx([2 * mm for mm in size["mm"]])
            assert after["sizes"][part]["ml"] == (size["ml"] and pytest.approx(8 * size["ml"]))
    with pytest.raises(InputError, match="factor"):
        scale_size(REPORT, 0)


def test_scale_up_doubles_and_scale_down_halves_lengths():
    assert PERTURBATIONS["scale_up"]("A 3.0 x 2.5 cm mass.", RNG(0), []) == "A 6.0 x 5.0 cm mass."
    assert PERTURBATIONS["scale_down"]("A 3.0 x 2.5 cm mass of 8 ml.", RNG(0), []) == "A 1.5 x 1.2 cm mass of 1 ml."


def test_drop_sentences_keeps_a_share_in_order():
    text = "\n".join(f"{i}. Sentence {'abcdefghij'[i - 1]}." for i in range(1, 11))
    for seed in range(20):
        kept = drop_sentences(text, RNG(seed), keep=0.4)
        assert len(split_sentences(kept)) == 4
        assert kept.split("\n") == sorted(kept.split("\n"), key=lambda line: int(line.split(".")[0]))
        assert set(kept.split("\n")) <= set(text.split("\n"))
    assert drop_sentences(text, RNG(0), keep=1) == text
    assert len(split_sentences(drop_sentences(text, RNG(0), keep=0))) == 1
    assert drop_sentences("", RNG(0)) == ""
    with pytest.raises(InputError, match="keep"):
        drop_sentences(text, RNG(0), keep=2)


def test_generic_reports_vary():
    assert len({generic_report(RNG(i)) for i in range(50)}) > 45


def test_another_patients_never_returns_the_own_report():
    assert {another_patients(["a", "b", "a", "c"], RNG(i), 0) for i in range(50)} == {"b", "c"}
    with pytest.raises(InputError, match="another patient"):
        another_patients(["a", "a"], RNG(0), 0)


def test_every_perturbation_changes_the_report_reproducibly(reports):
    text = REPORT + "\n" + reports[0]
    for name, perturb in PERTURBATIONS.items():
        changed = perturb(text, RNG(3), reports[1:])
        assert changed != text, name
        assert changed == perturb(text, RNG(3), reports[1:]), name
        assert bool(changed) == (name != "none")
