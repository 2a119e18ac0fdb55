"""DICOM SEG: voxels and names round-trip for any labels present and any orientation of the grid."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from brats_label.demo.phantom_study import Extras, write_study
from brats_label.dicom.seg import SEGMENTS, read_seg, write_seg
from brats_label.dicom.volume import to_nifti
from brats_label.errors import Refused
from brats_label.labels.naming import LABELS

NUMBERS = {segment.name: segment.value for segment in SEGMENTS}


@pytest.fixture(scope="module")
def source(tiny_data_set, tmp_path_factory):
    """Source instances of the T1ce, its affine and shape, and the study."""
    folder = tiny_data_set.folder / tiny_data_set.cases[0]
    study = write_study(folder, tmp_path_factory.mktemp("seg"), "P", Extras(thick_flair=True))
    image = nib.load(folder / f"{folder.name}_t1ce.nii.gz")
    return sorted((study.folder / "t1ce").glob("*.dcm")), image.affine, image.shape, study


def drawn(shape, values) -> np.ndarray:
    """Return asymmetric blobs, so that a flip is detected; each value also has slices without the others."""
    random = np.random.default_rng(1)
    label = np.zeros(shape, np.uint8)
    for index, value in enumerate(values):
        start = 5 + 6 * index
        box = label[start : start + 9, 8 + index : 20, 7 + 3 * index : 14 + 3 * index]
        box[random.random(box.shape) < 0.6] = value
    return label


def names_of(dataset) -> list[str]:
    return [str(item.SegmentLabel) for item in dataset.SegmentSequence]


def test_segments_are_the_labels_of_the_app():
    assert NUMBERS == LABELS


@pytest.mark.parametrize("values", [(1, 2, 4), (4,), (2,), (1, 4), (2, 4), (5,), (6,), (1, 2, 4, 5, 6)])
def test_voxels_and_names_round_trip(source, values, tmp_path):
    files, affine, shape, _ = source
    label = drawn(shape, values)
    write_seg(label, affine, files).save_as(tmp_path / "seg.dcm")
    stored = dcmread(tmp_path / "seg.dcm")
    back, names = read_seg(stored, affine, shape)
    assert np.array_equal(back, label)
    assert names == {name: value for name, value in LABELS.items() if value in values}
    assert [NUMBERS[name] for name in names_of(stored)] == sorted(values)
    assert [item.SegmentNumber for item in stored.SegmentSequence] == list(range(1, len(values) + 1))


def test_enhancing_tumour_keeps_name_code_and_number_without_oedema(source):
    files, affine, shape, _ = source
    seg = write_seg(drawn(shape, (4,)), affine, files)
    item = seg.SegmentSequence[0]
    assert item.SegmentLabel == "ET" and "label 4" in item.SegmentDescription
    assert item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Enhancing Lesion"
    assert len(item.RecommendedDisplayCIELabValue) == 3


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_reoriented_label_is_stored_on_the_same_voxels(source, codes):
    files, affine, shape, _ = source
    label = nib.Nifti1Image(drawn(shape, (1, 2, 4)), affine)
    ornt = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(codes)))
    turned = label.as_reoriented(ornt)
    seg = write_seg(np.asarray(turned.dataobj), turned.affine, files)
    back, _ = read_seg(seg, affine, shape)
    assert np.array_equal(back, label.dataobj)


def test_label_on_thick_sagittal_slices_round_trips(source, tmp_path):
    study = source[3]
    files = sorted((study.folder / "flair").glob("*.dcm"))
    image = nib.load(to_nifti(files, tmp_path / "flair.nii.gz"))
    label = np.zeros(image.shape, np.uint8)
    label[5:20, 6:9, 3:7], label[9, 30, 4] = 2, 4
    back, _ = read_seg(write_seg(label, image.affine, files), image.affine, image.shape)
    assert np.array_equal(back, label)


def test_label_map_seg_is_read_as_its_original_label():
    """``label_map_seg.dcm`` has SOP class Label Map Segmentation, as OHIF saves it since 3.11.

    It was written by highdicom 0.28 with pydicom 3, which MONAI Label does not support: ``Segmentation(source_images,
    label.transpose(2, 1, 0), "LABELMAP", segments 1 "NCR/NET", 2 "Edema", 3 "Enhancing Tumor", ...)`` on nine axial
    slices of 16 x 18 voxels of 4 x 4 x 5 mm, the first at (-30, -34, -20) mm LPS, with the balls below.
    """
    dataset = dcmread(Path(__file__).parents[1] / "data" / "label_map_seg.dcm")
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    affine = np.diag([-4.0, -4, 5, 1])
    affine[:3, 3] = 30, 34, -20
    label, names = read_seg(dataset, affine, (16, 18, 9))
    x, y, z = np.meshgrid(range(16), range(18), range(9), indexing="ij")
    squared = (x - 9) ** 2 + (y - 7) ** 2 + (1.2 * (z - 4)) ** 2
    wanted = np.select([squared < 1.7**2, squared < 3**2, squared < 4.5**2], [1, 4, 2], 0)
    assert np.array_equal(label, wanted)
    assert names == {"NCR/NET": 1, "ED": 2, "ET": 4}
    with pytest.raises(Refused, match="off the image's grid"):
        read_seg(dataset, affine + np.eye(4, k=3), (16, 18, 9))


def test_frames_refer_to_their_source_instances(source):
    files, affine, shape, _ = source
    label = np.zeros(shape, np.uint8)
    label[10:20, 10:20, 17] = 2
    seg = write_seg(label, affine, files)
    refers = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    expected = next(ds for ds in map(dcmread, files) if float(ds.ImagePositionPatient[2]) == affine[2, 3] + 17 * 4)
    assert refers.ReferencedSOPInstanceUID == expected.SOPInstanceUID
    assert seg.NumberOfFrames == 1
    first = dcmread(files[0])
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (first.StudyInstanceUID, first.FrameOfReferenceUID)


def test_highdicom_reads_the_same(source, tmp_path):
    files, affine, shape, _ = source
    label = drawn(shape, (2, 4))
    path = tmp_path / "seg.dcm"
    write_seg(label, affine, files, version="v7").save_as(path)
    stored = dcmread(path)

    seg = highdicom.seg.Segmentation.from_dataset(stored)
    uids = [str(dcmread(f).SOPInstanceUID) for f in files]
    planes = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    for number, value in enumerate((2, 4)):
        assert np.array_equal(planes[..., number].transpose(2, 1, 0), label == value)


def test_pydicom_seg_reads_the_same(source, tmp_path):
    pydicom_seg = pytest.importorskip("pydicom_seg", reason="MONAI Label brings it up to 0.8.5")
    files, affine, shape, _ = source
    label = drawn(shape, (2, 4))
    write_seg(label, affine, files).save_as(tmp_path / "seg.dcm")
    read = pydicom_seg.MultiClassReader().read(dcmread(tmp_path / "seg.dcm"))
    whole = SimpleITK.Image(list(shape), SimpleITK.sitkUInt8)
    whole.SetSpacing((4.0, 4.0, 4.0))
    whole.SetOrigin((np.diag([-1, -1, 1]) @ affine[:3, 3]).tolist())
    found = SimpleITK.Resample(read.image, whole, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    expected = np.select([label == 2, label == 4], [1, 2])
    assert np.array_equal(SimpleITK.GetArrayFromImage(found).transpose(2, 1, 0), expected)
    assert [read.segment_infos[n].SegmentLabel for n in (1, 2)] == ["ED", "ET"]


def test_dcmqi_reads_the_same(source, tmp_path):
    beside = str(Path(sys.executable).parent)
    program = shutil.which("segimage2itkimage", path=beside) or shutil.which("segimage2itkimage")
    if program is None:
        pytest.skip("segimage2itkimage is missing; pip install dcmqi")
    files, affine, shape, _ = source
    label = drawn(shape, (1, 4))
    write_seg(label, affine, files).save_as(tmp_path / "seg.dcm")
    command = [program, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    volumes = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"{n}.nrrd"))) for n in (1, 2)]
    assert [int((volume > 0).sum()) for volume in volumes] == [int((label == value).sum()) for value in (1, 4)]


def test_empty_label_is_refused(source):
    files, affine, shape, _ = source
    with pytest.raises(Refused, match="no labelled voxel"):
        write_seg(np.zeros(shape, np.uint8), affine, files)


def test_unknown_value_is_refused(source):
    files, affine, shape, _ = source
    with pytest.raises(Refused, match=r"values \[9\]"):
        write_seg(np.full(shape, 9, np.uint8), affine, files)


@pytest.mark.parametrize("how", ["shifted", "cropped", "scaled"])
def test_label_on_another_grid_is_refused(source, how):
    files, affine, shape, _ = source
    label, affine = drawn(shape, (1,)), affine.copy()
    if how == "shifted":
        affine[0, 3] += 2.0
    elif how == "cropped":
        label = label[:, :, :-1]
    else:
        affine[:3, :3] *= 1.05
    with pytest.raises(Refused, match="not the series' own"):
        write_seg(label, affine, files)


def test_segment_of_unknown_meaning_is_refused(source):
    files, affine, shape, _ = source
    seg = write_seg(drawn(shape, (2,)), affine, files)
    seg.SegmentSequence[0].SegmentLabel = "Liver"
    seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"
    with pytest.raises(Refused, match="Liver"):
        read_seg(seg, affine, shape)


def test_alternative_segment_name_is_read(source):
    files, affine, shape, _ = source
    label = drawn(shape, (2,))
    seg = write_seg(label, affine, files)
    seg.SegmentSequence[0].SegmentLabel = "Edema"
    assert np.array_equal(read_seg(seg, affine, shape)[0], label)


def test_frame_off_the_grid_is_refused(source):
    files, affine, shape, _ = source
    seg = write_seg(drawn(shape, (2,)), affine, files)
    moved = affine.copy()
    moved[2, 3] += 1.5
    with pytest.raises(Refused, match="off the image's grid"):
        read_seg(seg, moved, shape)


def test_image_is_refused_as_seg(source):
    files, affine, shape, _ = source
    with pytest.raises(Refused, match="expected binary segments"):
        read_seg(dcmread(files[0]), affine, shape)


def changed(files, folder, change) -> list[Path]:
    """Write copies of the source instances with ``change`` applied, and return their paths."""
    for path in files:
        dataset = dcmread(path)
        change(dataset)
        dataset.save_as(folder / path.name)
    return sorted(folder.glob("*.dcm"))


TYPE_2 = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
          "StudyTime", "ReferringPhysicianName")  # fmt: skip


@pytest.mark.parametrize("missing", [*((keyword,) for keyword in TYPE_2), TYPE_2])
def test_series_without_type_2_headers_gets_its_seg(source, tmp_path, missing):
    files, affine, shape, _ = source
    label = drawn(shape, (2, 4))
    files = changed(files, tmp_path, lambda ds: [ds.__delattr__(k) for k in missing if k in ds])
    write_seg(label, affine, files).save_as(tmp_path / "seg")
    stored = dcmread(tmp_path / "seg")
    assert np.array_equal(read_seg(stored, affine, shape)[0], label)
    assert all(keyword in stored and not stored[keyword].value for keyword in missing)


def test_series_without_any_other_header_gets_its_seg_or_is_refused(source, tmp_path):
    files, affine, shape, _ = source
    label = drawn(shape, (2,))
    for element in dcmread(files[0], stop_before_pixels=True):
        folder = tmp_path / element.keyword
        folder.mkdir()
        few = changed(files, folder, lambda ds, tag=element.tag: ds.__delitem__(tag))
        try:
            assert write_seg(label, affine, few).SOPInstanceUID
        except Refused as refused:
            assert "expected" in refused.sentence


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientBirthDate", "19XX0101"),
        ("StudyDate", "2026-13-45"),
        ("StudyTime", "ab:cd"),
        ("PatientSex", "unknown"),
        ("PatientName", "A^B^C^D^E^F^G=="),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_series_with_a_malformed_header_gets_its_seg(source, tmp_path, keyword, value):
    files, affine, shape, _ = source
    label = drawn(shape, (2, 4))
    files = changed(files, tmp_path, lambda ds: setattr(ds, keyword, value))
    assert np.array_equal(read_seg(write_seg(label, affine, files), affine, shape)[0], label)


def test_series_without_frame_of_reference_is_refused_with_a_remedy(source, tmp_path):
    files, affine, shape, _ = source
    files = changed(files, tmp_path, lambda ds: ds.__delattr__("FrameOfReferenceUID"))
    with pytest.raises(Refused, match=r"no FrameOfReferenceUID.*Send the study again"):
        write_seg(drawn(shape, (2,)), affine, files)
