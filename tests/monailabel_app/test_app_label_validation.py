"""Validation of submitted labels: how valid ones are read, and with which message others are refused."""

from __future__ import annotations

import gzip
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from brats_clip.geometry import Grid
from brats_label.errors import Refused, TooLarge
from brats_label.labels.naming import name_values, read_names
from brats_label.labels.reading import Drawing, Segment
from brats_label.labels.validation import validate, volumes_ml

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])
SHAPE = (16, 18, 12)
GRID = Grid(SHAPE, AFFINE)
NESTED = ("WT", "TC", "ET")
SLICER = [{"name": "ET", "idx": 1}, {"name": "oedema", "idx": 2}, {"name": "NCR/NET", "idx": 3}]


def tumour() -> np.ndarray:
    """Return a label map without symmetry: oedema around enhancing tumour around necrosis."""
    label = np.zeros(SHAPE, np.uint8)
    label[3:12, 4:13, 2:9] = 2
    label[4:9, 5:10, 3:7] = 4
    label[5:8, 6:8, 4:6] = 1
    return label


def regions(label: np.ndarray) -> np.ndarray:
    return np.stack([label > 0, np.isin(label, (1, 4)), label == 4], axis=-1).astype(np.uint8)


def renumbered(numbers: dict[int, int]) -> np.ndarray:
    lookup = np.zeros(256, np.uint8)
    for brats, number in numbers.items():
        lookup[brats] = number
    return lookup[tumour()]


def nifti(folder, array, affine=AFFINE, name="label.nii.gz"):
    nib.save(nib.Nifti1Image(array, affine), folder / name)
    return folder / name


def nrrd(folder, array, segments=(), affine=AFFINE, name="label.seg.nrrd"):
    """Write ``(X, Y, Z)`` or ``(X, Y, Z, L)`` in LPS, as Slicer does."""
    vector = array.ndim == 4
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0, *([3] if vector else [])), isVector=vector)
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetDirection((lps[:, :3] / spacing).ravel())
    image.SetOrigin(lps[:, 3])
    for number, (segment, layer, value) in enumerate(segments):
        for key, text in (("Name", segment), ("Layer", layer), ("LabelValue", value), ("ID", f"Segment_{number}")):
            image.SetMetaData(f"Segment{number}_{key}", str(text))
    sitk.WriteImage(image, str(folder / name), True)
    return folder / name


def raw(folder, array, name="label.bin"):
    (folder / name).write_bytes(array.astype(np.uint8).tobytes(order="F"))
    return folder / name


def written(folder, content: bytes, name="label.nii.gz"):
    (folder / name).write_bytes(content)
    return folder / name


def shared_layer(folder):
    array = renumbered({1: 3, 2: 2, 4: 1})
    array[0, 0, 0] = 4
    return nrrd(folder, array, [("ET", 0, 1), ("Oedema", 0, 2), ("necrosis", 0, 3), ("background", 0, 4)])


def cropped(folder):
    start = np.array([2, 3, 1])
    affine = AFFINE.copy()
    affine[:3, 3] += AFFINE[:3, :3] @ start
    return nrrd(folder, tumour()[2:14, 3:15, 1:10], [("NCR", 0, 1), ("ED", 0, 2), ("ET", 0, 4)], affine)


def turned(folder):
    image = nib.as_closest_canonical(nib.Nifti1Image(tumour(), AFFINE))
    array, affine = np.asarray(image.dataobj).transpose(2, 0, 1), image.affine[:, [2, 0, 1, 3]]
    assert array.shape != SHAPE
    return nifti(folder, array, affine)


def exclusive_layers(folder):
    layers = np.stack([tumour() == value for value in (2, 1, 4)], axis=-1).astype(np.uint8)
    return nrrd(folder, layers, [("WT", 0, 1), ("TC", 1, 1), ("ET", 2, 1)])


GOOD = {
    "BraTS numbers": (lambda f: nifti(f, tumour()), {}),
    "unpacked": (lambda f: nifti(f, tumour(), name="label.nii"), {}),
    "ET as 3": (lambda f: nifti(f, renumbered({1: 1, 2: 2, 4: 3})), {}),
    "numbers that a tool has scaled": (lambda f: nifti(f, tumour() * np.float32(1.00001)), {}),
    "whole numbers stored as real ones": (lambda f: nifti(f, tumour().astype(np.float64)), {}),
    "another order of axes": (turned, {}),
    "half a rounding error away": (lambda f: nifti(f, tumour(), AFFINE + np.eye(4)[[3, 3, 3, 0]].T * 0.004), {}),
    "raw as OHIF sends it": (lambda f: raw(f, tumour()), {}),
    "a plain NRRD": (lambda f: nrrd(f, tumour(), name="label.nrrd"), {}),
    "Slicer, names in its order": (lambda f: nifti(f, renumbered({4: 1, 2: 2, 1: 3})), {"label_info": SLICER}),
    "Slicer, which left out the background": (
        lambda f: nifti(f, renumbered({1: 1, 2: 2, 4: 3})),
        {"label_info": [{"name": "NCR", "idx": 2}, {"name": "ED", "idx": 3}, {"name": "ET", "idx": 4}]},
    ),
    "Slicer with the empty segments it offers": (
        lambda f: nifti(f, renumbered({1: 1, 2: 2, 4: 3})),
        {"label_info": [{"name": n, "idx": i} for i, n in enumerate(("NCR/NET", "ED", "ET", "TC", "WT", "Seg"), 2)]},
    ),
    "numbers that are BraTS's": (
        lambda f: nifti(f, tumour()),
        {"label_info": [{"name": "NCR", "idx": 1}, {"name": "ED", "idx": 2}, {"name": "ET", "idx": 4}]},
    ),
    "numbers out of order": (
        lambda f: nifti(f, renumbered({1: 9, 2: 7, 4: 8})),
        {"label_info": [{"name": "NCR", "idx": 9}, {"name": "ED", "idx": 7}, {"name": "ET", "idx": 8}]},
    ),
    "names by number": (
        lambda f: nifti(f, renumbered({1: 5, 2: 6, 4: 7})),
        {"label_info": {"5": "Necrotic core", "6": "peritumoural oedema", "7": "enhancing tumour"}},
    ),
    "numbers by name": (
        lambda f: nifti(f, renumbered({1: 5, 2: 6, 4: 7})),
        {"label_info": {"NCR/NET": 5, "Edema": 6, "Enhancing-Tumor": 7}},
    ),
    "a list of names": (
        lambda f: nifti(f, renumbered({1: 3, 2: 1, 4: 2})),
        {"label_info": ["ED", "ET", "NCR"]},
    ),
    "the names of an inference's result": (
        lambda f: nifti(f, renumbered({1: 5, 2: 6, 4: 7})),
        {"model": "segmentation", "params": {"label_names": {"NCR/NET": 5, "ED": 6, "ET": 7}}},
    ),
    "regions painted one over the other": (
        lambda f: nifti(f, renumbered({2: 1, 1: 2, 4: 3})),
        {"label_info": [{"name": n, "idx": i} for i, n in enumerate(NESTED, 1)]},
    ),
    "three nested layers": (lambda f: nifti(f, regions(tumour())), {}),
    "named layers in another order": (
        lambda f: nifti(f, regions(tumour())[..., [1, 2, 0]]),
        {"label_info": ["tumour core", "ET", "Whole Tumor"]},
    ),
    "segments in one layer": (shared_layer, {"label_info": [{"name": "nonsense", "idx": 1}]}),
    "overlapping segments in layers": (
        lambda f: nrrd(f, regions(tumour()), [("Whole tumor", 0, 1), ("TC", 1, 1), ("ET", 2, 1)]),
        {},
    ),
    "painted segments in layers": (exclusive_layers, {}),
    "a segmentation cropped to its segments": (cropped, {}),
}


@pytest.mark.parametrize("name", GOOD)
def test_valid_label_is_read_as_intended(name, tmp_path):
    write, params = GOOD[name]
    label = validate(write(tmp_path), GRID, params)
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(label.array, tumour())


def not_nested():
    layers = regions(tumour())
    layers[0, 0, :3, 2] = 1
    return layers


def with_nan():
    array = tumour().astype(np.float32)
    array[0, 0, :5] = np.nan
    return array


def truncated(folder, path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def damaged(folder):
    path = nifti(folder, np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8))
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # within the checksum
    path.write_bytes(content)
    return path


def bomb(folder):
    image = nib.Nifti1Image(tumour(), AFFINE).to_bytes()
    return written(folder, gzip.compress(image + b"\0" * 2**23))


def pointing_elsewhere(folder):
    (folder / "secret.raw").write_bytes(tumour().tobytes(order="F"))
    head = f"NRRD0005\ntype: uint8\ndimension: 3\nsizes: {' '.join(map(str, SHAPE))}\nencoding: raw\n"
    return written(folder, f"{head}data file: {folder / 'secret.raw'}\n\n".encode(), "label.nrrd")


HTML = b"<!DOCTYPE html>\n<html><body><h1>502 Bad Gateway</h1></body></html>"
SHIFTED = AFFINE + np.eye(4)[[3, 3, 3, 0]].T * 0.5
UNEVEN = np.where(tumour() == 2, 0.5, tumour())
BAD = {
    "an error page": (lambda f: written(f, HTML), {}, "an HTML page"),
    "a packed error page": (lambda f: written(f, gzip.compress(HTML)), {}, "gzip-packed: an HTML page"),
    "an error page as raw voxels": (lambda f: written(f, HTML, "label.bin"), {}, "an HTML page"),
    "nothing": (lambda f: written(f, b""), {}, "0 bytes"),
    "JSON": (lambda f: written(f, b'{"detail": "Not Found"}'), {}, "JSON"),
    "text": (lambda f: written(f, b"no label here"), {}, "plain text"),
    "a picture": (lambda f: written(f, b"\x89PNG\r\n\x1a\n" + bytes(64), "label.png"), {}, "PNG"),
    "noise": (lambda f: written(f, bytes(range(256)) * 8), {}, "binary data of no known format"),
    "a truncated gzip": (lambda f: truncated(f, nifti(f, tumour())), {}, "truncated or damaged"),
    "a gzip cut in its header": (lambda f: truncated(f, nifti(f, tumour()), 0.02), {}, "gzip"),
    "a gzip with a wrong checksum": (damaged, {}, "truncated or damaged"),
    "a truncated NIfTI": (lambda f: truncated(f, nifti(f, tumour(), name="label.nii")), {}, "truncated"),
    "a truncated NRRD": (lambda f: truncated(f, nrrd(f, tumour()), 0.9), {}, "truncated or damaged NRRD"),
    "more than its header says": (bomb, {}, "goes on after its voxels"),
    "NRRD called NIfTI": (lambda f: nrrd(f, tumour()).rename(f / "x.nii.gz"), {}, "an NRRD image, but its name"),
    "NIfTI called NRRD": (lambda f: nifti(f, tumour()).rename(f / "x.nrrd"), {}, "a NIfTI image, but its name"),
    "no ending": (lambda f: nifti(f, tumour()).rename(f / "label"), {}, "none of the endings known"),
    "voxels in another file": (pointing_elsewhere, {}, "in another file"),
    "DICOM where none is read": (lambda f: written(f, bytes(128) + b"DICM" + bytes(64), "x.dcm"), {}, "DICOM"),
    "another shape": (lambda f: nifti(f, tumour()[:-1]), {}, r"found 15 x 18 x 12 .* expected 16 x 18 x 12"),
    "another place": (lambda f: nifti(f, tumour(), SHIFTED), {}, r"\(30.5, -20, 5\) mm .*\(30, -20, 5\) mm"),
    "another spacing": (lambda f: nifti(f, tumour(), AFFINE @ np.diag([1, 1, 1.1, 1])), {}, "2 x 2 x 3.3 mm"),
    "a NIfTI cropped": (lambda f: nifti(f, tumour()[:, :, 1:10]), {}, "another grid"),
    "raw of another size": (lambda f: raw(f, tumour()[:-1]), {}, "3,240 bytes; expected 3,456"),
    "one slice": (lambda f: nifti(f, tumour()[:, :, 4]), {}, "16 x 18; expected a 3D"),
    "too many layers": (lambda f: nifti(f, np.repeat(tumour()[..., None], 20, 3)), {}, "up to 16 layers"),
    "NaN": (lambda f: nifti(f, with_nan()), {}, "5 voxels that are NaN"),
    "interpolated": (lambda f: nifti(f, UNEVEN), {}, "such as 0.5"),
    "negative": (lambda f: nifti(f, -tumour().astype(np.int16)), {}, "from -4 to 0"),
    "colours": (
        lambda f: nifti(f, np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))),
        {},
        "voxels of type",
    ),
    "an unknown value": (lambda f: nifti(f, renumbered({1: 1, 2: 2, 4: 7})), {}, r"\[0, 1, 2, 7\]"),
    "3 and 4": (lambda f: nifti(f, renumbered({1: 3, 2: 2, 4: 4})), {}, r"\[0, 2, 3, 4\]"),
    "an unknown name": (
        lambda f: nifti(f, tumour()),
        {"label_info": [{"name": "spleen", "idx": 1}, {"name": "ED", "idx": 2}, {"name": "ET", "idx": 4}]},
        "'spleen'; expected NCR/NET",
    ),
    "a value without a name": (
        lambda f: nifti(f, tumour()),
        {"label_info": {"ED": 2, "ET": 4}},
        r"\[1\] that label_info does not name; it names 2 'ED', 4 'ET'",
    ),
    "names of no form": (lambda f: nifti(f, tumour()), {"label_info": [{"title": "ED"}]}, "cannot be read"),
    "a number beyond all": (lambda f: nifti(f, tumour()), {"label_info": [{"name": "ED", "idx": 1e999}]}, "be read"),
    "names in two ways": (
        lambda f: nifti(f, (tumour() > 0) * np.uint8(2)),
        {"label_info": [{"name": "NCR/NET", "idx": 2}, {"name": "ED", "idx": 3}, {"name": "ET", "idx": 4}]},
        "by its numbers they are 2 'NCR/NET', by its order 2 'ED'",
    ),
    "names as text": (lambda f: nifti(f, tumour()), {"label_info": "ED, ET"}, "cannot be read"),
    "tissues and regions": (
        lambda f: nifti(f, tumour()),
        {"label_info": {"NCR": 1, "WT": 2, "ET": 4}},
        "both tissues",
    ),
    "one region alone": (lambda f: nifti(f, (tumour() > 0) * np.uint8(6)), {"label_info": {"WT": 6}}, "WT alone"),
    "layers that are not nested": (lambda f: nifti(f, not_nested()), {}, "3 voxels are in ET that are not in TC"),
    "layers in another order": (lambda f: nifti(f, regions(tumour())[..., ::-1]), {}, "in TC that are not in WT"),
    "three layers of tissues": (
        lambda f: nifti(f, np.stack([tumour() == v for v in (1, 2, 4)], -1).astype(np.uint8)),
        {},
        "not in",
    ),
    "two layers without names": (lambda f: nifti(f, regions(tumour())[..., :2]), {}, "2 layers without names"),
    "as many names as not": (lambda f: nifti(f, regions(tumour())), {"label_info": ["WT", "TC"]}, "3 layers and"),
    "overlapping tissues": (
        lambda f: nrrd(f, regions(tumour()), [("ED", 0, 1), ("NCR", 1, 1), ("ET", 2, 1)]),
        {},
        "belong to more than one",
    ),
    "a segment in a layer there is not": (lambda f: nrrd(f, tumour(), [("ED", 3, 2)]), {}, "layer 3; it has 1"),
    "an empty label": (lambda f: nifti(f, np.zeros(SHAPE, np.uint8)), {}, '"empty": true'),
    "an empty label, not said so": (lambda f: nifti(f, np.zeros(SHAPE, np.uint8)), {"empty": "no"}, "is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_label_is_refused_with_a_helpful_message(name, tmp_path):
    write, params, says = BAD[name]
    with pytest.raises(Refused, match=says) as refused:
        validate(write(tmp_path), GRID, params)
    assert refused.value.status == 422
    assert str(tmp_path) not in refused.value.sentence
    assert refused.value.sentence.endswith(".") or refused.value.sentence.endswith("?")


def test_empty_label_is_accepted_if_declared(tmp_path):
    path = nifti(tmp_path, np.zeros(SHAPE, np.uint8))
    assert not validate(path, GRID, {"empty": True, "label_info": SLICER}).array.any()


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with pytest.raises(TooLarge, match="at most"):
        validate(nifti(tmp_path, tumour()), GRID, {}, max_bytes=100)


def test_volumes_are_in_ml(tmp_path):
    label = validate(nifti(tmp_path, tumour()), GRID)
    counts = {"WT": (tumour() > 0).sum(), "TC": np.isin(tumour(), (1, 4)).sum(), "ET": (tumour() == 4).sum()}
    expected = {name: pytest.approx(count * 12 / 1000) for name, count in counts.items()}
    assert volumes_ml(label.array, label.grid) == expected


def test_dicom_seg_is_read_by_the_given_reader(tmp_path):
    path = written(tmp_path, bytes(128) + b"DICM" + bytes(64), "x.dcm")

    def read(file, grid):
        assert (file, grid) == (path, GRID)
        segments = [Segment(name, layer, 1) for layer, name in enumerate(NESTED)]
        return Drawing(regions(tumour()).astype(np.uint16), tuple(segments))

    np.testing.assert_array_equal(validate(path, GRID, read_dicom_seg=read).array, tumour())


def test_parameters_are_read_from_json(tmp_path):
    params = json.loads('{"label_info": [{"name": "ET", "idx": 3}], "client_id": "user-xyz"}')
    label = validate(nifti(tmp_path, (tumour() == 4) * np.uint8(3)), GRID, params)
    assert set(np.unique(label.array)) == {0, 4}
    assert "ET" in label.read_as


@pytest.mark.parametrize(
    ("entries", "values", "read"),
    [
        ({"ED": 2, "ET": 3}, [0, 2], ["ED"]),  # BraTS 2023
        ({"ED": 2, "ET": 3}, [0, 3], ["ET"]),
        ({"ED": 2, "ET": 3}, [0, 2, 3], ["ED", "ET"]),
        ({"ED": 2, "ET": 3}, [0, 1, 2], ["ED", "ET"]),  # two segments; the one before them was left out
        ({"ED": 2, "ET": 4}, [0, 2], ["ED"]),  # BraTS 2018 to 2022
        ({"NCR": 1, "ED": 2, "ET": 4}, [0, 1, 2, 3], ["NCR", "ED", "ET"]),  # one was left out in between
        ({"NCR/NET": 2, "ED": 3, "ET": 4}, [0, 1, 2], ["NCR/NET", "ED"]),
    ],
)
def test_label_info_numbers_decide_where_they_can_and_its_order_otherwise(entries, values, read):
    names = read_names({"label_info": [{"name": name, "idx": number} for name, number in entries.items()]})
    assert [segment.name for segment in name_values(names, values)] == read
