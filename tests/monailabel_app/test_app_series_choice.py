"""Series choice by descriptions of three vendors, timings, and images if headers are uninformative; duplicates."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from brats_clip.cases.sequence_by_image import sequences_by_image
from brats_label.studies.dicomweb.series import SeriesHeader, read_header
from brats_label.studies.dicomweb.series_choice import choose
from brats_label.studies.dicomweb.verdict import judge

BRAIN = SeriesHeader("1", slices=160, slice_mm=1.0, pixel_mm=(1.0, 1.0), image_type=("ORIGINAL", "PRIMARY", "M"))
T1_TIMES = {"tr_ms": 1900.0, "te_ms": 2.9, "ti_ms": 900.0, "scanning_sequence": ("GR", "IR")}
T2_TIMES = {"tr_ms": 3200.0, "te_ms": 96.0, "scanning_sequence": ("SE",)}
FLAIR_TIMES = {"tr_ms": 9000.0, "te_ms": 120.0, "ti_ms": 2500.0, "scanning_sequence": ("SE", "IR")}


def series(uid: str, description: str = "", **headers) -> SeriesHeader:
    return replace(BRAIN, uid=uid, description=description, **headers)


@pytest.mark.parametrize(
    ("description", "sequence"),
    [
        ("t1_mprage_sag_p2_iso", "t1"),
        ("t1_mpr_ns_sag_p2_iso", "t1"),
        ("t1_mprage_sag_p2_iso_CE", "t1ce"),
        ("t1_mpr_tra_KM", "t1ce"),
        ("t1_se_tra nach KM", "t1ce"),
        ("t1_vibe_tra_fs_post", "t1ce"),
        ("t1_tse_cor_GAD", "t1ce"),
        ("MPRAGE POST AX", "t1ce"),
        ("MP-RAGE", "t1"),
        ("Ax T1 FSE", "t1"),
        ("Ax T1 FSE +C", "t1ce"),
        ("AX T1 C+", "t1ce"),
        ("Ax T1 FLAIR", "t1"),
        ("Sag T1FLAIR POST", "t1ce"),
        ("AX BRAVO", "t1"),
        ("Ax BRAVO +GD", "t1ce"),
        ("SAG FSPGR 3D POST", "t1ce"),
        ("Ax 3D T1 SPGR w/o", "t1"),
        ("AX T1 PRE-GD", "t1"),
        ("AX T1 PRE CONTRAST", "t1"),
        ("AX T1 WITHOUT CONTRAST", "t1"),
        ("AX T1 W/O GAD", "t1"),
        ("AX T1 NON-CONTRAST", "t1"),
        ("T1 nativ tra", "t1"),
        ("AX T1 POST OP DAY 1", "t1"),
        ("T1 postcontrast", "t1ce"),
        ("T1Gd", "t1ce"),
        ("T1CE", "t1ce"),
        ("T1c", "t1ce"),
        ("sT1W_3D_TFE", "t1"),
        ("sT1W_3D_TFE_Gd", "t1ce"),
        ("3D T1 TFE SAG GADO", "t1ce"),
        ("T1W_SE", "t1"),
        ("T1W_FFE", "t1"),
        ("T1 THRIVE", "t1"),
        ("AX T2 FLAIR FS", "flair"),
        ("t2_tirm_tra_dark-fluid", "flair"),
        ("t2_spc_da-fl_sag_p2_iso FLAIR", "flair"),
        ("t2_spc_da-fl_sag_p2_iso", "flair"),
        ("t2_space_dark-fluid_sag", "flair"),
        ("SAG CUBE FLAIR", "flair"),
        ("3D Brain VIEW FLAIR SHC", "flair"),
        ("AX T2FLAIR", "flair"),
        ("FLAIR longTR", "flair"),
        ("Ax FLAIR +C", "flair"),
        ("t2_tse_tra_512", "t2"),
        ("t2_blade_tra", "t2"),
        ("AX T2 PROPELLER", "t2"),
        ("Ax T2 FRFSE", "t2"),
        ("SAG T2 CUBE", "t2"),
        ("t2_spc_sag_p2_iso", "t2"),
        ("T2W_TSE", "t2"),
        ("sT2W_TSE_3D VISTA", "t2"),
    ],
)
def test_description_identifies_the_sequence(description, sequence):
    choice = choose([series("a", description)])
    assert list(choice.chosen) == [sequence], choice
    assert repr(description)[1:-1] in choice.chosen[sequence].reason


@pytest.mark.parametrize(
    ("description", "word"),
    [
        ("3-plane loc", "localiser"),
        ("AAHead_Scout_64ch", "localiser"),
        ("Survey", "localiser"),
        ("localizer", "localiser"),
        ("3-pl T2* FGRE", "localiser"),
        ("ASSET CAL", "calibration"),
        ("AX DWI", "diffusion"),
        ("ep2d_diff_3scan_trace_p2_ADC", "diffusion"),
        ("ADC", "diffusion"),
        ("ep2d_diff_tra_b1000", "diffusion"),
        ("DTI 32 dir", "diffusion"),
        ("SWI", "susceptibility"),
        ("Mag_Images SWI", "susceptibility"),
        ("AX SWAN", "susceptibility"),
        ("t2_fl2d_tra_hemo", "susceptibility"),
        ("T2*", "susceptibility"),
        ("AX T2* GRE", "susceptibility"),
        ("T2W_FFE", "susceptibility"),
        ("AX GRE", "susceptibility"),
        ("PERF", "perfusion"),
        ("ep2d_perf_p2", "perfusion"),
        ("DSC PWI", "perfusion"),
        ("rCBV", "perfusion"),
        ("3D pCASL", "perfusion"),
        ("MIP", "projection"),
        ("TOF_3D_multi-slab", "angiography"),
        ("AX MRV", "angiography"),
        ("minIP", "projection"),
        ("T1 POST SUB", "subtraction"),
        ("T1 post minus pre", "subtraction"),
        ("T1 MAP", "map"),
        ("bold resting", "functional"),
        ("svs_se_135", "spectroscopy"),
        ("STIR cor", "STIR"),
        ("CISS 3D", "gradient echo"),
        ("T2 C-SPINE", "not of the brain"),
        ("AX T2 ORBITS", "not of the brain"),
        ("PD tra", "proton"),
    ],
)
def test_description_excludes_other_series(description, word):
    choice = choose([series("a", description)])
    assert not choice.chosen
    assert word in choice.left_out[0].reason


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"modality": "CT"}, "CT"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.4.1"}, "multi-frame"),
        ({"body_part": "CSPINE"}, "CSPINE"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "localiser"),
        ({"image_type": ("DERIVED", "SECONDARY", "OTHER")}, "derived"),
        ({"image_type": ("DERIVED", "PRIMARY", "ADC")}, "ADC"),
        ({"image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")}, "diffusion"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "P", "ND")}, "phase"),
        ({"b_value": 1000.0}, "b = 1000"),
        ({"slices": 3}, "3 slices"),
        ({"scanning_sequence": ("EP",)}, "echo-planar"),
    ],
)
def test_headers_exclude_a_series_despite_its_description(headers, word):
    choice = choose([series("a", "AX T2 TSE", **headers)])
    assert not choice.chosen
    assert word in choice.left_out[0].reason


@pytest.mark.parametrize("part", ["", "NEURO", "BRAIN^HEAD", "HEAD AND NECK", "HEADNECK", "Schädel", "1", "CRANIUM"])
def test_body_parts_that_may_be_a_head_are_used(part):
    assert list(choose([series("a", "AX T2 TSE", body_part=part)]).chosen) == ["t2"]


@pytest.mark.parametrize("part", ["CSPINE", "Spine", "NECK", "CHEST", "ABDOMEN", "KNEE", "L SPINE", "PROSTATE", "HIP"])
def test_other_body_parts_are_left_out_and_named(part):
    choice = choose([series("a", "AX T2 TSE", body_part=part)])
    assert not choice.chosen and part in choice.left_out[0].reason


@pytest.mark.parametrize(
    ("headers", "sequence"),
    [
        (T1_TIMES, "t1"),
        (T1_TIMES | {"contrast_agent": "Gadobutrol"}, "t1ce"),
        ({"tr_ms": 550.0, "te_ms": 12.0, "scanning_sequence": ("SE",)}, "t1"),
        ({"tr_ms": 8.2, "te_ms": 3.2, "ti_ms": 450.0, "scanning_sequence": ("GR",)}, "t1"),
        ({"tr_ms": 8.2, "te_ms": 3.2, "scanning_sequence": ("GR",)}, "t1"),
        ({"tr_ms": 2500.0, "te_ms": 9.0, "ti_ms": 860.0, "scanning_sequence": ("SE", "IR")}, "t1"),
        (T2_TIMES, "t2"),
        ({"tr_ms": 3200.0, "te_ms": 409.0, "scanning_sequence": ("SE",)}, "t2"),
        ({"tr_ms": 6200.0, "te_ms": 99.0, "scanning_sequence": ("SE",)}, "t2"),
        (FLAIR_TIMES, "flair"),
        ({"tr_ms": 5000.0, "te_ms": 388.0, "ti_ms": 1800.0}, "flair"),
        ({"tr_ms": 9000.0, "te_ms": 90.0, "scanning_sequence": ("SE", "IR")}, "flair"),
        ({"tr_ms": 800.0, "te_ms": 20.0, "scanning_sequence": ("GR",)}, "susceptibility"),
        ({"tr_ms": 3000.0, "te_ms": 15.0, "scanning_sequence": ("SE",)}, "proton"),
        ({"tr_ms": 4000.0, "te_ms": 60.0, "ti_ms": 160.0}, "STIR"),
    ],
)
def test_timings_identify_the_sequence_without_a_description(headers, sequence):
    choice = choose([series("a", **headers)])
    if sequence in ("t1", "t1ce", "t2", "flair"):
        assert list(choice.chosen) == [sequence], choice
    else:
        assert sequence in choice.left_out[0].reason


def test_short_echo_of_a_dual_echo_series_is_no_t2():
    times = {"tr_ms": 3000.0, "scanning_sequence": ("SE",)}
    choice = choose([series("pd", "PD/T2", te_ms=14.0, **times), series("t2", "PD/T2", te_ms=98.0, **times)])
    assert choice.chosen["t2"].image_id == "t2"
    assert "proton" in choice.left_out[0].reason


def test_flair_with_a_short_echo_is_t1_weighted():
    assert judge(series("a", "AX FLAIR", tr_ms=2100.0, te_ms=9.0, ti_ms=760.0)).what == "t1"


def test_t2_in_the_name_of_a_flair_does_not_displace_the_t2():
    dark = {"acquisition_type": "3D", "tr_ms": 5000.0, "te_ms": 388.0, "ti_ms": 1800.0, "slices": 176}
    real = series("t2", "t2_tse_tra", slices=30, slice_mm=5.0, tr_ms=6000.0, te_ms=100.0)
    for name in ("t2_spc_da-fl_sag_p2_iso", "t2_spc_irprep_sag"):
        choice = choose([real, series("fl", name, **dark)])
        assert {s: image.image_id for s, image in choice.chosen.items()} == {"t2": "t2", "flair": "fl"}, name


def test_protocol_is_used_only_without_an_informative_description():
    assert judge(series("a", "AX T2", protocol="BRAIN PERF W WO CONTRAST")).what == "t2"
    assert judge(series("a", "head 1", protocol="t2_tirm_tra_dark-fluid")).what == "flair"
    assert judge(series("a", "AX T1", protocol="BRAIN W CONTRAST")).contrast == ""


@pytest.mark.parametrize("description", ["AX T1 PRE-GD", "AX T1 W/O GAD", "T1 NON-CONTRAST", "T1 ohne KM", "T1 PRE"])
def test_negated_contrast_agent_means_no_contrast(description):
    assert judge(series("a", description)).contrast == "no"


def test_words_for_pre_and_post_contrast_are_undecided():
    assert judge(series("a", "AX T1 PRE AND POST GD")).contrast == ""


def test_negated_contrast_agent_overrides_the_agent_header():
    assert judge(series("a", "AX T1 PRE", contrast_agent="Gadovist")).contrast == "no"


def test_four_sequences_of_a_study_are_identified_with_reasons():
    study = [
        series("loc", "3-plane loc", slices=9),
        series("t1", "t1_mprage", **T1_TIMES),
        series("t2", "t2_tse", **T2_TIMES),
        series("fl", "t2_tirm_dark-fluid", **FLAIR_TIMES),
        series("ce", "t1_mprage", contrast_agent="Gadobutrol", **T1_TIMES),
    ]
    choice = choose(study)
    assert {s: image.image_id for s, image in choice.chosen.items()} == {
        "t1": "t1",
        "t1ce": "ce",
        "t2": "t2",
        "flair": "fl",
    }
    assert "ContrastBolusAgent" in choice.chosen["t1ce"].reason
    assert "no sign of contrast agent" in choice.chosen["t1"].reason
    assert [left.image_id for left in choice.left_out] == ["loc"]
    assert not choice.needs_image


def test_t1_acquired_after_the_contrast_agent_is_t1ce():
    before = series("a", "AX T1", acquired="20260101080000")
    given = series("b", "AX FLAIR POST", acquired="20260101082000")
    after = series("c", "AX T1", acquired="20260101083000")
    choice = choose([before, given, after])
    assert (choice.chosen["t1"].image_id, choice.chosen["t1ce"].image_id) == ("a", "c")
    assert "after contrast agent" in choice.chosen["t1ce"].reason


AGENT = {"contrast_agent": "GADAVIST"}


def test_agent_in_all_headers_leaves_the_native_t1_to_acquisition_order():
    study = [
        series("pre", "AX T1", acquired="20260101100000", **AGENT),
        series("fl", "AX FLAIR", acquired="20260101095000", **AGENT),
        series("post", "AX T1 POST", acquired="20260101103000", **AGENT),
        series("late", "AX T1 FS", acquired="20260101104000", **AGENT),
    ]
    choice = choose(study)
    assert (choice.chosen["t1"].image_id, choice.chosen["t1ce"].image_id) == ("pre", "post")
    assert "whole exam" in choice.chosen["t1"].reason and not choice.needs_image
    assert [left.image_id for left in choice.left_out] == ["late"]


def test_agent_in_all_headers_without_other_signs_is_decided_by_image():
    study = [series("a", "AX T1", **AGENT), series("b", "AX T1", **AGENT), series("t2", "AX T2", **AGENT)]
    asked = choose(study)
    assert asked.questions[0].sequences == ("t1", "t1ce") and set(asked.questions[0].uids) == {"a", "b"}
    settled = choose(study, {"a": "t1", "b": "t1ce"})
    assert (settled.chosen["t1"].image_id, settled.chosen["t1ce"].image_id) == ("a", "b")
    assert not settled.needs_image


def test_t1_images_that_look_alike_follow_the_agent_header():
    study = [series("ax", "AX T1", **AGENT), series("cor", "COR T1", **AGENT)]
    choice = choose(study, {"ax": "t1", "cor": "t1"})
    assert list(choice.chosen) == ["t1ce"] and not choice.needs_image
    assert "look alike" in choice.chosen["t1ce"].reason


def test_agent_header_contradicted_by_a_description_is_not_trusted():
    study = [series("pre", "AX T1 PRE", **AGENT), series("silent", "AX T1", **AGENT)]
    assert set(choose(study).questions[0].uids) == {"pre", "silent"}


def test_two_t1_described_with_contrast_agent_are_decided_by_image_with_a_note():
    study = [series("a", "AX T1 GD"), series("b", "AX T1 GD"), series("t2", "AX T2")]
    asked = choose(study)
    assert asked.questions[0].sequences == ("t1", "t1ce") and set(asked.questions[0].uids) == {"a", "b"}
    settled = choose(study, {"a": "t1", "b": "t1ce"})
    assert (settled.chosen["t1"].image_id, settled.chosen["t1ce"].image_id) == ("a", "b")
    assert "headers contradict" in settled.chosen["t1"].reason and not settled.needs_image
    assert any("told by the images" in note for note in settled.notes)
    alike = choose(study, {"a": "t1", "b": "t1"})
    assert set(alike.chosen) == {"t1ce", "t2"} and not alike.needs_image


def test_agent_header_against_descriptions_is_decided_by_image():
    study = [series("pre", "AX T1 PRE", **AGENT), series("post", "AX T1 POST")]
    assert set(choose(study).questions[0].uids) == {"pre", "post"}
    settled = choose(study, {"pre": "t1ce", "post": "t1"})
    assert (settled.chosen["t1"].image_id, settled.chosen["t1ce"].image_id) == ("post", "pre")
    untold = choose(study, {"pre": "", "post": ""})
    assert (untold.chosen["t1"].image_id, untold.chosen["t1ce"].image_id) == ("pre", "post")
    assert not untold.needs_image


@pytest.mark.parametrize(
    ("worse", "better", "word"),
    [
        ({"acquisition_type": "2D", "slice_mm": 5.0}, {"acquisition_type": "3D"}, "3D"),
        ({"slice_mm": 6.0}, {"slice_mm": 4.0}, "thinner"),
        ({"pixel_mm": (1.0, 1.0)}, {"pixel_mm": (0.5, 0.5)}, "finer"),
        ({"slices": 150}, {"slices": 170}, "more slices"),
        ({"slices": 40}, {"slices": 160}, "covers more"),
        ({"image_type": ("DERIVED", "SECONDARY", "MPR")}, {}, "original"),
        ({"acquired": "20260101080000"}, {"acquired": "20260101090000"}, "later"),
        ({"description": "AX T1 FS POST"}, {}, "fat suppression"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_best_of_duplicates_is_chosen_with_the_reason(worse, better, word, order):
    both = [replace(series("worse", "AX T1 POST"), **worse), replace(series("better", "AX T1 POST"), **better)]
    choice = choose(both[::order])
    assert choice.chosen["t1ce"].image_id == "better"
    assert word in choice.left_out[0].reason


def test_reformat_is_used_where_the_original_is_missing():
    choice = choose([series("a", "t1_mpr AX MPR", image_type=("DERIVED", "SECONDARY", "MPR"))])
    assert choice.chosen["t1"].image_id == "a"


def test_mpr_means_reformat_in_a_derived_series_and_mprage_otherwise():
    reformat = series("a", "MPR AX", image_type=("DERIVED", "SECONDARY", "MPR"), **FLAIR_TIMES)
    assert list(choose([reformat]).chosen) == ["flair"]
    assert list(choose([series("a", "t1_mpr_sag")]).chosen) == ["t1"]


def test_equal_series_are_chosen_by_uid_whatever_the_order():
    study = [series("b", "AX T2"), series("a", "AX T2")]
    assert choose(study).chosen == choose(study[::-1]).chosen


def test_two_t1_with_uninformative_headers_are_decided_by_image():
    study = [series("x", **T1_TIMES), series("y", **T1_TIMES), series("z", **T2_TIMES)]
    asked = choose(study)
    assert asked.needs_image and asked.questions[0].sequences == ("t1", "t1ce")
    assert set(asked.questions[0].uids) == {"x", "y"} and set(asked.chosen) == {"t2"}
    settled = choose(study, {"x": "t1ce", "y": "t1"})
    assert not settled.needs_image
    assert (settled.chosen["t1ce"].image_id, settled.chosen["t1"].image_id) == ("x", "y")
    assert "image itself" in settled.chosen["t1"].reason


def test_long_tr_and_te_alone_may_be_t2_or_flair():
    either = {"tr_ms": 6000.0, "te_ms": 100.0}
    known = [series("a", **either), series("f", "FLAIR", **FLAIR_TIMES)]
    assert choose(known).chosen["t2"].image_id == "a"
    assert choose([series("a", **either), series("b", **either)]).questions[0].sequences == ("t2", "flair")


def test_unidentified_series_is_left_out_unless_all_four_are_unidentified():
    assert "neither headers" in choose([series("a"), series("b", "AX T2")]).left_out[0].reason
    assert len(choose([series(uid) for uid in "abcd"]).questions[0].uids) == 4


def test_series_not_identified_by_image_is_left_out():
    choice = choose([series(uid) for uid in "abcd"], dict.fromkeys("abcd", ""))
    assert not choice.chosen and len(choice.left_out) == 4


def test_header_of_a_realistic_instance_is_read():
    ds = Dataset()
    ds.SeriesInstanceUID, ds.Modality, ds.SOPClassUID = "1.2.3", "MR", "1.2.840.10008.5.1.4.1.1.4"
    ds.SeriesDescription, ds.ImageType, ds.ScanningSequence = " AX T1 ", ["ORIGINAL", "PRIMARY"], "SE"
    ds.RepetitionTime, ds.EchoTime, ds.InversionTime, ds.ContrastBolusAgent = "550.0", "12", "0", "NO"
    ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = ["0.5", "0.5"], "5", "6"
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    ds.AcquisitionDate, ds.AcquisitionTime = "20260105", "081500.5"
    header = read_header(ds, slices=24)
    assert (header.description, header.scanning_sequence, header.slices) == ("AX T1", ("SE",), 24)
    assert (header.tr_ms, header.te_ms, header.ti_ms, header.contrast_agent) == (550.0, 12.0, None, "")
    assert (header.plane, header.slice_mm, header.voxel_mm3) == ("sagittal", 6.0, 1.5)
    assert header.acquired == "20260105081500.500000"


def test_empty_header_is_read():
    ds = Dataset()
    ds.SeriesInstanceUID = "1.2.3"
    ds.RepetitionTime = None
    header = read_header(ds)
    assert header.tr_ms is None and header.acquired == "" and header.plane == ""


@pytest.fixture(scope="module")
def images(tiny_data_set):
    """The four sequences of a phantom with enhancing tumour."""
    for case in tiny_data_set.cases:
        folder = tiny_data_set.folder / case
        read = {
            s: np.asarray(nib.load(folder / f"{case}_{s}.nii.gz").dataobj) for s in ("t1", "t1ce", "t2", "flair", "seg")
        }
        if (read.pop("seg") == 4).sum() > 50:
            return read
    raise AssertionError("no phantom with enhancing tumour")


def test_images_distinguish_t1_from_t1ce(images):
    assert sequences_by_image({"a": images["t1ce"], "b": images["t1"]}, ("t1", "t1ce")) == {"a": "t1ce", "b": "t1"}


def test_images_show_that_a_repeated_t1_has_no_contrast_agent(images):
    noise = 1 + 0.05 * np.random.default_rng(0).standard_normal(images["t1"].shape)
    found = sequences_by_image({"a": images["t1"], "b": images["t1"] * noise}, ("t1", "t1ce"))
    assert found == {"a": "t1", "b": "t1"}


def test_images_distinguish_t2_from_flair_at_any_intensity_scale(images):
    found = sequences_by_image({"a": images["flair"] * 3.0, "b": images["t2"] * 0.1}, ("t2", "flair"))
    assert found == {"a": "flair", "b": "t2"}


def test_images_identify_all_four_sequences(images):
    shuffled = {s: images[s] for s in ("flair", "t1ce", "t2", "t1")}
    assert sequences_by_image(shuffled, ("t1", "t1ce", "t2", "flair")) == {s: s for s in shuffled}


def test_empty_images_identify_nothing():
    empty = np.zeros((20, 20, 20))
    assert sequences_by_image({"a": empty, "b": empty}, ("t1", "t1ce")) == {"a": "", "b": ""}
    assert sequences_by_image({}, ("t1", "t1ce")) == {}
