"""A patient's files written as a DICOM study: headers, geometry, UIDs, reports; and reading them back."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from brats_clip.cases import SEQUENCES
from brats_label.demo.phantom_study import Extras, write_study
from brats_label.dicom.report_documents import encapsulated_text, newest, read_text
from brats_label.dicom.volume import stack_slices, to_nifti
from brats_label.errors import Refused
from brats_label.studies.dicomweb.series import read_header
from brats_label.studies.dicomweb.series_choice import choose

EVERYTHING = Extras(localiser=True, duplicate_t2=True, maps=True)


@pytest.fixture(scope="module")
def patient(tiny_data_set) -> Path:
    return tiny_data_set.folder / tiny_data_set.cases[0]


@pytest.fixture(scope="module")
def study(patient, tmp_path_factory):
    return write_study(patient, tmp_path_factory.mktemp("study"), "P", EVERYTHING, seed=5)


def original(patient: Path, sequence: str) -> nib.Nifti1Image:
    return nib.load(patient / f"{patient.name}_{sequence}.nii.gz")


def headers_of(study) -> list:
    by_series = defaultdict(list)
    for ds in study.datasets():
        by_series[ds.SeriesInstanceUID].append(ds)
    return [read_header(found[0], len(found)) for found in by_series.values() if found[0].Modality == "MR"]


def files_of(study, name: str) -> list[Path]:
    return sorted((study.folder / name).glob("*.dcm"))


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_series_holds_the_voxels_and_the_grid_of_the_file(study, patient, sequence, tmp_path):
    back = nib.load(to_nifti(files_of(study, sequence), tmp_path / "image.nii.gz"))
    expected = original(patient, sequence)
    assert np.array_equal(back.dataobj, expected.dataobj)
    np.testing.assert_allclose(back.affine, expected.affine, atol=1e-4)


def test_headers_alone_identify_the_sequences_and_exclude_other_series(study):
    choice = choose(headers_of(study))
    assert {s: image.image_id for s, image in choice.chosen.items()} == {s: study.series[s] for s in SEQUENCES}
    left = {image.image_id for image in choice.left_out}
    assert left == {study.series[name] for name in ("localiser", "t2 thick", "adc", "subtraction")}


def test_timings_identify_the_sequences_without_descriptions(patient, tmp_path):
    study = write_study(patient, tmp_path, "P", Extras(descriptions="none"))
    headers = headers_of(study)
    assert not any(header.description for header in headers)
    choice = choose(headers)
    assert {s: image.image_id for s, image in choice.chosen.items()} == {s: study.series[s] for s in SEQUENCES}


def test_uninformative_headers_leave_the_choice_to_the_image(patient, tmp_path):
    study = write_study(patient, tmp_path, "P", Extras(descriptions="silent"))
    assert set(choose(headers_of(study)).questions[0].uids) == {study.series[s] for s in SEQUENCES}


def test_uids_depend_on_the_seed(patient, study, tmp_path):
    again = write_study(patient, tmp_path / "again", "P", EVERYTHING, seed=5)
    other = write_study(patient, tmp_path / "other", "P", EVERYTHING, seed=6)
    assert again.series == study.series and again.study_uid == study.study_uid
    assert not set(other.series.values()) & set(study.series.values())
    assert [p.read_bytes() for p in again.files()] == [p.read_bytes() for p in study.files()]


def test_instances_have_unique_uids_in_one_study_and_frame_of_reference(study):
    found = list(study.datasets())
    assert len({ds.SOPInstanceUID for ds in found}) == len(found)
    assert {ds.StudyInstanceUID for ds in found} == {study.study_uid}
    assert len({ds.FrameOfReferenceUID for ds in found if ds.Modality == "MR"}) == 1


def test_thick_sagittal_flair_shows_the_same_positions(patient, tmp_path):
    study = write_study(patient, tmp_path, "P", Extras(thick_flair=True))
    files = files_of(study, "flair")
    assert read_header(dcmread(files[0])).plane == "sagittal"
    image = nib.load(to_nifti(files, tmp_path / "flair.nii.gz"))
    assert image.header.get_zooms()[2] == pytest.approx(8)

    def centre(image: nib.Nifti1Image) -> np.ndarray:
        array = np.asarray(image.dataobj, float)
        voxels = np.stack(np.nonzero(array))
        mean = (voxels * array[tuple(voxels)]).sum(axis=1) / array.sum()
        return (image.affine @ [*mean, 1])[:3]

    np.testing.assert_allclose(centre(image), centre(original(patient, "flair")), atol=0.5)


def test_localiser_has_three_planes(study):
    planes = {read_header(dcmread(path)).plane for path in files_of(study, "localiser")}
    assert planes == {"axial", "coronal", "sagittal"}


@pytest.mark.parametrize("kind", ["sr", "text"])
def test_report_is_read_back_as_written(patient, tmp_path, kind):
    study = write_study(patient, tmp_path, "P", Extras(report=kind))
    written = (patient / f"{patient.name}_report.txt").read_text(encoding="utf-8").strip()
    assert read_text(dcmread(files_of(study, "report")[0])) == written


def test_markup_is_removed_from_the_report(study):
    marked_up = "<a><!-- no -->Oedema &lt; 3 cm.<br/>No <b>Necrosis</b></a>"
    document = encapsulated_text(marked_up, study_common(study), "1.2.3")
    document.MIMETypeOfEncapsulatedDocument = "text/xml"
    assert read_text(document).split() == ["Oedema", "<", "3", "cm.", "No", "Necrosis"]


def test_newest_report_wins_and_verified_before_newest(study):
    def report(text: str, date: str, flag: str = "UNVERIFIED"):
        document = encapsulated_text(text, study_common(study), "1.2.3")
        document.ContentDate, document.VerificationFlag = date, flag
        return document

    old, new = report("old", "20260101"), report("new", "20260201")
    assert newest([new, old]) == newest([old, new]) == "new"
    assert newest([new, report("verified", "20260101", "VERIFIED")]) == "verified"
    assert newest([]) == ""


def item(kind: str, code: str, text: str = "", relation: str = "CONTAINS", *inside: Dataset) -> Dataset:
    """Return a content item of a structured report."""
    made, name = Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = code, "DCM", f"meaning of {code}"
    made.ValueType, made.RelationshipType, made.ConceptNameCodeSequence = kind, relation, [name]
    if kind == "TEXT":
        made.TextValue = text
    made.ContentSequence = list(inside)
    return made


def measurements(*inside: Dataset) -> Dataset:
    """Return a measurement report as viewers store it (DICOM template TID 1500)."""
    report = item("CONTAINER", "126000", "", "", *inside)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    return report


def test_names_of_measurements_and_observers_are_not_report_text():
    tracking = item("TEXT", "112039", "Cornerstone3DTools@^0.1.0:Length", "HAS OBS CONTEXT")
    site = item("TEXT", "121106", "long axis")
    group = item("CONTAINER", "125007", "", "CONTAINS", tracking, item("UIDREF", "112040"), site)
    observer = item("TEXT", "121013", "reader station", "HAS OBS CONTEXT")
    assert read_text(measurements(observer, item("CONTAINER", "126010", "", "CONTAINS", group))) == ""
    untitled = measurements(item("TEXT", "112039", "Length 1"))
    del untitled.ConceptNameCodeSequence
    assert read_text(untitled) == ""


def test_findings_are_read_from_measurement_and_other_reports():
    report = measurements(item("TEXT", "112039", "Length 1"), item("TEXT", "121071", "Ring-enhancing lesion."))
    assert read_text(report) == "Ring-enhancing lesion."
    report.ConceptNameCodeSequence[0].CodeValue = "18748-4"
    report.ContentSequence.append(item("TEXT", "121106", "No shift."))
    assert read_text(report) == "Ring-enhancing lesion.\nNo shift."


def test_newer_measurement_report_does_not_hide_the_radiology_report(study):
    written = encapsulated_text("the report", study_common(study), "1.2.3")
    written.ContentDate = "20260101"
    later = measurements(item("TEXT", "112039", "Length 1"))
    later.ContentDate, later.VerificationFlag = "20260201", "VERIFIED"
    assert newest([written, later]) == "the report"


def study_common(study):
    return dcmread(files_of(study, "t1")[0], stop_before_pixels=True)


def test_missing_slice_is_refused_with_its_position(study):
    files = files_of(study, "t1")
    with pytest.raises(Refused, match=r"found 8\.00 mm between slices 10 and 11 and 4\.00 mm elsewhere"):
        stack_slices([*files[:10], *files[11:]], "Series X")


def test_different_slices_at_one_position_are_refused(study, tmp_path):
    files = files_of(study, "t1")
    other = dcmread(files[24])
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "another_echo.dcm")
    with pytest.raises(Refused, match="at the place of another"):
        stack_slices([*files, tmp_path / "another_echo.dcm"])


def test_duplicate_slice_is_used_once(study):
    files = files_of(study, "t1")
    whole, again = stack_slices(files), stack_slices([*files, files[3]])
    assert again.sop_uids == whole.sop_uids and np.array_equal(again.affine, whole.affine)


def test_a_localiser_inside_a_series_is_left_out(study, tmp_path):
    files, added = files_of(study, "t1"), []
    for path in files_of(study, "localiser"):
        ds = dcmread(path)
        ds.SeriesInstanceUID = study.series["t1"]
        ds.save_as(tmp_path / path.name)
        added.append(tmp_path / path.name)
    whole, again = stack_slices(files), stack_slices([*added, *files])
    # The axial plane of the localiser lies in the volume and duplicates its content.
    assert again.sop_uids == whole.sop_uids or set(again.sop_uids) - set(whole.sop_uids) == {
        str(dcmread(added[-1]).SOPInstanceUID)
    }
    assert np.array_equal(again.affine, whole.affine) and again.shape == whole.shape


def test_localiser_planes_are_refused_as_a_volume(study):
    with pytest.raises(Refused, match="not parallel"):
        stack_slices(files_of(study, "localiser"))


def test_file_that_is_no_dicom_is_refused(study, tmp_path):
    (tmp_path / "a.dcm").write_text("<html>")
    with pytest.raises(Refused, match="without position"):
        stack_slices([tmp_path / "a.dcm", *files_of(study, "t1")])


def test_order_of_files_does_not_matter(study, patient, tmp_path):
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for index, path in enumerate(np.random.default_rng(0).permutation([str(p) for p in files_of(study, "t2")])):
        (shuffled / f"{index}.dcm").write_bytes(Path(path).read_bytes())
    back = nib.load(to_nifti(shuffled.iterdir(), tmp_path / "image.nii.gz"))
    assert np.array_equal(back.dataobj, original(patient, "t2").dataobj)
