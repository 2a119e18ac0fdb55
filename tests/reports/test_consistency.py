import json
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_clip.errors import InputError
from brats_clip.reports import (
    FINDING_SLOTS,
    PERTURBATIONS,
    Findings,
    ImageEvidence,
    compare_with_image,
    describe_mask,
    generic_report,
    swap_side,
    write_report,
)

SHAPE = (70, 88, 70)  # bounding box of a brain at 2 mm, RAS
AFFINE = np.diag([2, 2, 2, 1.0])
BRAIN = np.ones(SHAPE, bool)
RIGHT_FRONTAL, LEFT_FRONTAL, RIGHT_OCCIPITAL = (50, 72, 42), (20, 72, 42), (46, 7, 34)


def ball(centre, radius):
    grid = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    return sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2


def tumour(centre, whole=9, core=6, necrotic=4, enhancing=0.9):
    """Return probabilities of WT, TC, ET: concentric balls (radii in voxels) with ``enhancing`` as ET of the rim."""
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[0][ball(centre, whole)] = 0.9
    probabilities[1][ball(centre, core)] = 0.9
    probabilities[2][ball(centre, core) & ~ball(centre, necrotic)] = enhancing
    return probabilities


def check(report, probabilities):
    return compare_with_image(report, ImageEvidence(probabilities, AFFINE, BRAIN))


def only(result, finding):
    return next(check for check in result.checks if check.finding == finding)


SIZES = tuple(slot for slot in FINDING_SLOTS if slot.endswith(" size"))
TRUE = "Mass in the right frontal lobe with rim enhancement and central necrosis. There is marked oedema."


def test_true_report_agrees_without_warnings():
    result = check(TRUE, tumour(RIGHT_FRONTAL))
    assert result.score > 0.95 and result.warnings == ()
    assert [found.finding for found in result.checks] == ["side", "lobes", "enhancement", "oedema", "necrosis"]


# Composed before the reader was tried on them, about the tumour of ``tumour(RIGHT_FRONTAL)``: 36 mm, its core 24 mm.
TRUE_REPORTS = (
    "FINDINGS: 3.5 cm rim-enhancing mass in the right frontal lobe with central necrosis and edema.",
    "IMPRESSION: Right frontal high-grade glioma.",
    "RT FRONTAL MASS, RING ENHANCING. MODERATE EDEMA. NO HYDROCEPHALUS.",
    "Heterogeneously enhancing right frontal lesion. The left hemisphere is unremarkable.",
    "HISTORY: Left-sided weakness. FINDINGS: Enhancing mass within the right frontal lobe.",
    "COMPARISON: MRI of March 2020. The right frontal tumor has grown to 24 mm (enhancing part). No new lesion.",
    "There is an intra-axial mass of the right superior frontal gyrus with nodular enhancement and necrosis.",
    "No lesion in the left hemisphere. Right frontal neoplasm, avidly enhancing after gadolinium.",
    "T2/FLAIR hyperintense tumour, right frontal, mild mass effect. Post contrast: peripheral enhancement.",
    "Right anterior frontal glioblastoma measuring 36 x 35 x 34 mm including edema.",
    "Old lacunar infarct in the left basal ganglia. New enhancing mass in the right frontal lobe.",
    "Status post resection of a left temporal meningioma in 2005. Now ring-enhancing lesion right frontal.",
    "Rechts frontale Raumforderung mit ringf\u00f6rmiger Kontrastmittelaufnahme und zentraler Nekrose.",
    "Lesi\u00f3n frontal derecha con realce anular y edema perilesional.",
    "L\u00e9sion frontale droite avec prise de contraste annulaire.",
    "Lesione frontale destra con enhancement ad anello.",
    "Les\u00e3o frontal direita com realce perif\u00e9rico p\u00f3s-contraste.",
)
FALSE_REPORTS = (
    "Left frontal rim-enhancing mass.",
    "LT FRONTAL MASS WITH EDEMA.",
    "Mass in the left temporal lobe with surrounding oedema.",
    "Right occipital enhancing tumour.",
    "Large enhancing tumour of the cerebellum.",
    "No enhancing lesion. Right frontal non-enhancing mass.",
    "Right frontal tumour without contrast enhancement.",
    "Normal brain MRI. No mass lesion.",
    "Left parieto-occipital glioblastoma with ring enhancement.",
    "Links temporale Raumforderung mit Kontrastmittelaufnahme.",
    "Lesi\u00f3n temporal izquierda con realce.",
    "L\u00e9sion frontale gauche sans prise de contraste.",
)


def test_true_reports_draw_at_most_one_warning():
    results = {report: check(report, tumour(RIGHT_FRONTAL)) for report in TRUE_REPORTS}
    warned = [report for report, found in results.items() if found.warnings]
    assert len(TRUE_REPORTS) == 17 and len(warned) <= 1, warned
    assert sum(bool(found.checks) for found in results.values()) >= 16  # the others are not understood


def test_false_reports_are_noticed_or_claim_no_agreement():
    """One may pass: what is not understood must score no agreement."""
    results = {report: check(report, tumour(RIGHT_FRONTAL)) for report in FALSE_REPORTS}
    passed = [report for report, found in results.items() if found.checks and not found.warnings]
    assert len(FALSE_REPORTS) == 12 and len(passed) <= 1, passed


def test_flipped_side_gives_a_warning_text():
    result = check(swap_side(TRUE), tumour(RIGHT_FRONTAL))
    assert result.score < 0.1
    assert result.warnings == ("The report says left; the tumour is on the right.",)
    assert (only(result, "side").said, only(result, "side").seen) == ("left", "right (100%)")


@pytest.mark.parametrize("codes", ["LPS", "PIR"])
def test_result_does_not_depend_on_the_storage_order(codes):
    ornt = nib.orientations.axcodes2ornt(tuple(codes))
    affine = AFFINE @ nib.orientations.inv_ornt_aff(ornt, SHAPE)
    probabilities = tumour(RIGHT_FRONTAL)
    turned = np.stack([nib.orientations.apply_orientation(channel, ornt) for channel in probabilities])
    brain = np.ones(turned.shape[1:], bool)
    assert compare_with_image(swap_side(TRUE), ImageEvidence(turned, affine, brain)) == check(
        swap_side(TRUE), probabilities
    )


def test_lesion_near_the_midline_contradicts_neither_side():
    near = tumour((36, 72, 42), whole=4, core=2, necrotic=0)
    for side in ("left", "right"):
        result = check(f"A {side} frontal lesion.", near)
        assert result.score > 0.3 and result.warnings == ()


def test_one_sided_report_tolerates_tumour_beyond_the_midline():
    crossing = np.maximum(tumour(RIGHT_FRONTAL), tumour(LEFT_FRONTAL, whole=5, core=0, necrotic=0))
    assert check("A right frontal lesion.", crossing).score > 0.9
    assert check("A left frontal lesion.", crossing).warnings


@pytest.mark.parametrize(
    "report",
    [
        "Left frontal mass with midline shift to the right.",
        "Left frontal mass. The midline is shifted to the right by 6 mm.",
        "Mass in the left frontal lobe with compression of the right lateral ventricle.",
        "Left frontal mass. The lesion does not cross the midline.",
        "The lesion does not cross the midline.",
        "Previously right-sided craniotomy. Left frontal mass.",
    ],
)
def test_shift_compression_and_surgery_contradict_no_side(report):
    result = check(report, tumour(LEFT_FRONTAL))
    assert result.same_place and result.warnings == ()


@pytest.mark.parametrize("report", ["Bilateral enhancing lesions.", "Left and right frontal lesions."])
def test_missed_second_lesion_gives_a_warning_and_keeps_the_report(report):
    result = check(report, tumour(LEFT_FRONTAL))
    assert result.same_place and result.warnings == ("The report says both sides; the tumour is on the left.",)


def test_wrong_side_or_distant_lobe_is_another_place():
    assert not check("Right frontal mass with midline shift to the left.", tumour(LEFT_FRONTAL)).same_place
    assert not check("Bilateral cerebellar and occipital lesions.", tumour(LEFT_FRONTAL)).same_place
    assert check("Mass in the midline.", tumour((54, 68, 42))).same_place


@pytest.mark.parametrize(
    ("report", "doubted"),
    [
        (TRUE, ()),
        ("Right frontal mass of 3 x 3 mm without enhancement. There is no oedema.", (*SIZES, "enhancement", "oedema")),
        ("Right frontal mass of 140 x 140 mm with rim enhancement.", SIZES),
        ("Left frontal mass with rim enhancement.", FINDING_SLOTS),
    ],
)
def test_findings_that_the_image_contradicts_are_not_trusted(report, doubted):
    trusted = check(report, tumour(RIGHT_FRONTAL, whole=14)).trusted
    assert trusted == tuple(slot not in doubted for slot in FINDING_SLOTS)


def test_bilateral_report_agrees_only_with_tumour_on_both_sides():
    both = np.maximum(tumour(RIGHT_FRONTAL), tumour(LEFT_FRONTAL, whole=5, core=0, necrotic=0))
    assert check("Bilateral frontal lesions.", both).score > 0.9
    assert check("Bilateral frontal lesions.", tumour((34, 72, 42))).score > 0.9
    one_sided = check("Bilateral frontal lesions.", tumour(RIGHT_FRONTAL))
    assert one_sided.warnings == ("The report says both sides; the tumour is on the right.",)


def test_midline_report_agrees_only_with_central_lesions():
    assert check("A midline frontal lesion.", tumour((41, 72, 42), whole=4, core=2, necrotic=0)).score > 0.9
    assert check("A midline frontal lesion.", tumour((54, 68, 42))).warnings


def test_adjacent_lobe_lowers_the_score_and_distant_lobe_warns():
    true = check("A right frontal lesion.", tumour(RIGHT_FRONTAL)).score
    neighbour = check("A right parietal lesion.", tumour((50, 45, 60), whole=6))
    far = check("A right cerebellar and occipital lesion.", tumour(RIGHT_FRONTAL))
    assert true > 0.95 and neighbour.score > 0.5 and neighbour.warnings == ()
    assert far.score < 0.3
    assert far.warnings == (
        "The report names the cerebellum and the occipital lobe; the tumour lies in the frontal lobe.",
    )


def test_naming_the_main_lobe_alone_is_enough():
    assert check("A right frontal lesion.", tumour((50, 58, 50), whole=12)).score > 0.8


@pytest.mark.parametrize(
    ("report", "enhancing", "warned"),
    [
        ("No enhancement.", 0.9, "The report says no enhancement; 5.0 ml of enhancing tumour are segmented."),
        ("Marked enhancement.", 0.0, "The report says enhancement; hardly any enhancing tumour is segmented."),
        ("Marked enhancement.", 0.9, None),
        ("No enhancement.", 0.0, None),
        # Faint enhancement confirms a report and contradicts none.
        ("Marked enhancement.", 0.3, None),
        ("No enhancement.", 0.3, None),
    ],
)
def test_enhancement_is_compared_with_a_tolerance(report, enhancing, warned):
    result = check(report, tumour(RIGHT_FRONTAL, enhancing=enhancing))
    assert [w and w.split(";")[0] for w in result.warnings] == ([warned.split(";")[0]] if warned else [])
    assert (result.score < 0.5) == bool(warned)


def test_speck_of_enhancement_does_not_contradict_a_denial():
    speck = tumour(RIGHT_FRONTAL, enhancing=0.0)
    speck[2][ball(RIGHT_FRONTAL, 2)] = 0.9  # 0.2 ml
    assert check("No enhancement.", speck).score > 0.9


def test_wrong_side_weighs_more_than_wrong_enhancement():
    probabilities = tumour(RIGHT_FRONTAL)
    side = check("Left frontal lesion with enhancement.", probabilities).score
    enhancement = check("Right frontal lesion without enhancement.", probabilities).score
    assert 3 * side < enhancement < 0.5


def test_denied_oedema_and_stated_necrosis_are_compared():
    assert "oedema" in check("There is no oedema.", tumour(RIGHT_FRONTAL, whole=14)).warnings[0]
    no_necrosis = tumour(RIGHT_FRONTAL, necrotic=0)
    no_necrosis[2] = no_necrosis[1]
    assert "necrosis" in check("Central necrosis.", no_necrosis).warnings[0]
    denied = check("There is no necrosis.", tumour(RIGHT_FRONTAL, whole=14, core=10, necrotic=8))
    assert denied.score < 0.9 and denied.warnings == ()  # labels do not identify necrosis with certainty


@pytest.mark.parametrize("text", [TRUE, "Cystic necrosis.", "The left insula is infiltrated."])
def test_lesion_that_is_not_segmented_is_a_disagreement(text):
    result = check(text, np.zeros((3, *SHAPE)))
    assert result.score < 0.1 and result.warnings == ("The report names a lesion; none is segmented.",)


def test_report_of_no_lesion_agrees_only_with_an_empty_segmentation():
    for i in range(10):
        report = write_report(Findings(), np.random.default_rng(i))
        nothing, something = check(report, np.zeros((3, *SHAPE))), check(report, tumour(RIGHT_FRONTAL))
        assert nothing.score == 1 and nothing.warnings == ()
        assert something.score < 0.1 and something.warnings[0].startswith("The report says there is no lesion;")


@pytest.mark.parametrize(
    "report",
    [
        "No mass-effect.",
        "No mass effect.",
        "No tumor progression is seen.",
        "No progression of the tumour.",
        "There is no recurrence of the lesion.",
        "No evidence of tumour growth.",
    ],
)
def test_other_denials_do_not_deny_the_lesion(report):
    assert check(report, tumour(RIGHT_FRONTAL)).checks == ()


@pytest.mark.parametrize("report", ["No mass is seen.", "No evidence of tumour.", "There is no enhancing lesion."])
def test_denied_lesion_is_checked(report):
    assert only(check(report, tumour(RIGHT_FRONTAL)), "lesion").said == "absent"


def test_report_without_findings_has_no_score():
    for report in ("", "...", *(generic_report(np.random.default_rng(i)) for i in range(8))):
        for probabilities in (tumour(RIGHT_FRONTAL), np.zeros((3, *SHAPE))):
            result = check(report, probabilities)
            assert (result.score, result.checks, result.warnings) == (None, (), ())


@pytest.mark.parametrize(
    ("report", "language"),
    [
        ("Guz prawego p\u0142ata czo\u0142owego bez obrz\u0119ku.", "Polish"),
        ("\u041e\u043f\u0443\u0445\u043e\u043b\u044c.", "unknown"),
    ],
)
def test_unsupported_language_gives_a_notice_and_no_score(report, language):
    result = check(report, tumour(RIGHT_FRONTAL))
    assert (result.score, result.checks, result.warnings) == (None, (), ())
    assert len(result.notices) == 1 and f"({language})" in result.notices[0]
    assert result.to_dict()["notices"] == list(result.notices)


def test_only_a_report_that_is_not_understood_gives_a_notice():
    (notice,) = check("See dictation of Monday.", tumour(RIGHT_FRONTAL)).notices
    assert notice.startswith("The report was not understood")
    assert check("", tumour(RIGHT_FRONTAL)).notices == check(TRUE, tumour(RIGHT_FRONTAL)).notices == ()
    assert check("No mass is seen.", tumour(RIGHT_FRONTAL)).notices == ()


# A ring-enhancing left frontal tumour with a core of 15 ml (32 mm) in 66 ml of abnormal FLAIR signal (52 mm).
GLIOBLASTOMA = {"whole": 13, "core": 8, "necrotic": 5}


@pytest.mark.parametrize(
    "report",
    [
        "Left frontal ring-enhancing mass, 3.2 cm, with central necrosis and surrounding edema.",
        "LT FRONTAL MASS WITH RING ENHANCEMENT.",
        "HISTORY: right breast cancer.\nFINDINGS: There is a 33 x 31 mm enhancing lesion in the left frontal lobe.",
        "Glioblastoma of the left frontal lobe with a necrotic center. The right hemisphere is normal.",
        "Raumforderung links frontal mit ringf\u00f6rmiger Kontrastmittelanreicherung und perifokalem \u00d6dem.",
        "Masa frontal izquierda con realce en anillo y edema.",
        "L\u00e9sion frontale gauche avec prise de contraste annulaire, \u0153d\u00e8me p\u00e9ril\u00e9sionnel.",
        "Massa frontale sinistra con enhancement ad anello, necrosi centrale ed edema.",
        "Massa frontal esquerda com realce anelar e edema.",
        "Mass in the left frontal lobe. Midline shift of 4 mm to the right.",
        "Side: L\nLobe: frontal\nEnhancement: yes\nNecrosis: yes\nEdema: yes",
        "The left frontal tumour measures about 3 cm; the FLAIR abnormality measures 5 cm.",
        "Enhancement? Yes. Edema? Yes. Location? Left frontal.",
        "Status post biopsy of the left frontal lesion. Ring-enhancing tumour with edema, no haemorrhage.",
        "Mucosal thickening in the right maxillary sinus. Left frontal glioma with necrosis.",
        "No lesion in the right hemisphere. Left frontal enhancing tumour of about 15 ml.",
        "Left frontal neoplasm. No significant mass effect. The cerebellum and brainstem are unremarkable.",
    ],
)
def test_true_reports_of_many_kinds_give_no_warning(report):
    result = check(report, tumour(LEFT_FRONTAL, **GLIOBLASTOMA))
    assert result.warnings == result.notices == () and result.score > 0.7


@pytest.mark.parametrize(
    "report",
    [
        "Right frontal ring-enhancing mass.",
        "RT FRONTAL MASS",
        "rechts frontal",
        "Enhancement? No.",
        "Left cerebellar mass with edema.",
        "Left frontal mass without enhancement.",
        "There is no mass and no abnormal signal; normal brain.",
        "Mass, R temporal, 3 cm.",
        "Masa frontal derecha.",
        "Left frontal mass of 11 x 10 x 10 cm.",
        "Left frontal mass of 6 mm.",
        "Non-enhancing tumour of the left frontal lobe with no edema.",
        "Guz prawego p\u0142ata czo\u0142owego.",
    ],
)
def test_false_reports_of_many_kinds_give_a_warning_or_notice(report):
    result = check(report, tumour(LEFT_FRONTAL, **GLIOBLASTOMA))
    assert result.warnings or (result.notices and result.score is None)


@pytest.mark.parametrize("factor", [0.25, 0.8, 1, 1.25, 4])
def test_only_large_size_differences_give_a_warning(factor):
    report = f"Left frontal mass of {32 * factor:.0f} x {32 * factor:.0f} mm."
    result = check(report, tumour(LEFT_FRONTAL, **GLIOBLASTOMA))
    assert bool(result.warnings) == (factor in (0.25, 4))
    assert only(result, "size").said.startswith("a mass of")


def test_sizes_of_the_core_are_not_compared_without_t1ce():
    image = ImageEvidence(tumour(LEFT_FRONTAL, **GLIOBLASTOMA), AFFINE, BRAIN)
    report = "Left frontal mass of 2 mm. Enhancing part of 90 mm. FLAIR abnormality of 50 x 50 mm."
    assert len(compare_with_image(report, image).warnings) == 1
    assert compare_with_image(report, image, unseen=("enhancement",)).warnings == ()


def test_faint_probabilities_over_the_whole_brain_have_no_effect():
    clear, hazy = tumour(RIGHT_FRONTAL), tumour(RIGHT_FRONTAL)
    hazy[:, : SHAPE[0] // 2] = np.maximum(hazy[:, : SHAPE[0] // 2], 0.2)
    assert check(TRUE, hazy) == check(TRUE, clear)
    assert check(TRUE, np.full((3, *SHAPE), 0.2)).warnings == ("The report names a lesion; none is segmented.",)


def test_tumour_outside_the_brain_is_ignored():
    both = np.maximum(tumour(RIGHT_FRONTAL), tumour(LEFT_FRONTAL))
    brain = BRAIN & ~ball(LEFT_FRONTAL, 12)
    assert compare_with_image("Right frontal mass.", ImageEvidence(both, AFFINE, brain)).score > 0.9


def test_written_reports_agree_and_their_perturbations_do_not():
    true, perturbed, warned = [], {"flip_side": [], "negate_enhancement": [], "swap_region": []}, 0
    rng = np.random.default_rng(0)
    for x in (18, 52):
        for y, z in ((70, 40), (14, 34), (40, 20), (36, 56), (22, 14)):
            probabilities = tumour((x, y, z), whole=8, enhancing=float(rng.choice([0.0, 0.9])))
            wt, tc, et = probabilities > 0.5
            label = np.select([et, tc, wt], [4, 1, 2], 0)
            report = write_report(describe_mask(label, AFFINE, brain=BRAIN), rng)
            result = check(report, probabilities)
            true.append(result.score)
            warned += bool(result.warnings)
            for name, scores in perturbed.items():
                scores.append(check(PERTURBATIONS[name](report, rng, []), probabilities).score)
    assert warned == 0 and min(true) > 0.9
    assert max(perturbed["flip_side"]) < 0.2
    assert max(perturbed["negate_enhancement"]) < 0.6
    assert np.mean(np.array(perturbed["swap_region"]) < true) > 0.8


def test_result_is_json_serialisable():
    result = check(swap_side(TRUE), tumour(RIGHT_FRONTAL))
    values = json.loads(json.dumps(result.to_dict()))
    assert values["score"] == result.score and values["warnings"] == list(result.warnings)
    assert values["checks"][0] == {
        "finding": "side",
        "said": "left",
        "seen": "right (100%)",
        "agreement": 0.0,
        "warning": "The report says left; the tumour is on the right.",
    }


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"probabilities": np.zeros((2, *SHAPE))}, "probabilities"),
        ({"probabilities": np.full((3, *SHAPE), np.nan)}, "probabilities"),
        ({"probabilities": np.full((3, *SHAPE), 5.0)}, "probabilities"),
        ({"brain": BRAIN[1:]}, "brain"),
        ({"brain": ~BRAIN}, "brain"),
        ({"affine": np.zeros((4, 4))}, "affine"),
        ({"affine": np.eye(3)}, "affine"),
    ],
)
def test_invalid_arrays_are_refused(changed, where):
    arguments = {"probabilities": tumour(RIGHT_FRONTAL), "affine": AFFINE, "brain": BRAIN} | changed
    with pytest.raises(InputError) as error:
        compare_with_image(TRUE, ImageEvidence(**arguments))
    assert error.value.where == where


def test_comparison_with_a_whole_brain_takes_under_0_3_s():
    probabilities = tumour(RIGHT_FRONTAL).repeat(2, 1).repeat(2, 2).repeat(2, 3)
    brain = np.ones(probabilities.shape[1:], bool)
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        compare_with_image(TRUE, ImageEvidence(probabilities, np.eye(4), brain))
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.3  # about 0.02 on one core


@pytest.mark.skipif("REPORTS_DIR" not in os.environ, reason="REPORTS_DIR does not point to real reports")
def test_real_reports_are_compared_without_error():
    probabilities = tumour(RIGHT_FRONTAL)
    for path in Path(os.environ["REPORTS_DIR"]).glob("*.json"):
        for text in json.loads(path.read_text()).values():
            result = check(text, probabilities)
            assert result.score is not None and 0 <= result.score <= 1
