"""One patient as a folder, as a 4D file and as a DICOM study gets the same segmentation."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from app_folders import as_four_d
from nibabel.processing import resample_from_to

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.geometry import Grid, resample
from brats_clip.phantoms import draw_phantom, write_phantom
from brats_label.demo.orthanc import LocalOrthanc
from brats_label.demo.phantom_study import Extras, write_study
from brats_label.inference import AdmissionControl
from brats_label.inference.service import Prompt, SegmentationService
from brats_label.models import ModelRegistry
from brats_label.settings import Settings
from brats_label.studies.dicomweb import DicomWebSource
from brats_label.studies.folder import FolderSource
from brats_label.studies.library import CaseLibrary

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
GRID = (120, 120, 78), (2.0, 2.0, 2.0)
MIN_DICE = 0.99


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return write_phantom(draw_phantom((3, 4)), tmp_path_factory.mktemp("patient"), "P1", *GRID)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(device="cpu")


@pytest.fixture(scope="module")
def serve(segmenter, tmp_path_factory):
    """Return a function that makes a segmentation service for a source."""

    def service(source) -> SegmentationService:
        folder = tmp_path_factory.mktemp("workspace")
        models = ModelRegistry(folder / "models", ROOT / "bundle" / "models" / "model.pt")
        library = CaseLibrary(source, folder / "cache")
        return SegmentationService(
            Settings(), source, library, models, AdmissionControl(1, 4), make=lambda **_: segmenter
        )

    return service


@pytest.fixture(scope="module")
def studies(needs_orthanc, made, tmp_path_factory):
    """Sources of the patient: a folder, a 4D file, and two DICOM studies, the second with a thick sagittal FLAIR."""
    folder, sources = tmp_path_factory.mktemp("studies"), {}
    as_four_d(made, folder / "4d" / "P1.nii.gz")
    sources["folder"] = FolderSource(made.parent, Settings(), folder / "c1")
    sources["4D"] = FolderSource(folder / "4d", Settings(), folder / "c2")
    with LocalOrthanc(folder / "orthanc") as orthanc:
        for name, extras in (
            ("DICOM", Extras(localiser=True, report="")),
            ("thick", Extras(thick_flair=True, report="")),
        ):
            written = write_study(made, folder / name, name, extras)
            orthanc.upload(written.files())
            source = DicomWebSource(orthanc.url, Settings(), folder / "c3")
            (case,) = [c for c in source.cases().values() if c.info["StudyInstanceUID"] == written.study_uid]
            sources[name] = SingleCaseSource(source, case.case_id)
        yield sources


class SingleCaseSource:
    """A source limited to one case."""

    def __init__(self, source: DicomWebSource, case_id: str) -> None:
        self._source, self._case_id = source, case_id

    def cases(self) -> dict:
        return {self._case_id: self._source.cases()[self._case_id]}

    def __getattr__(self, name: str):
        return getattr(self._source, name)


def answer(service: SegmentationService, sequence: str = "t1ce") -> nib.Nifti1Image:
    (case,) = service.source.cases().values()
    return service.answer(Prompt(case.images[sequence].image_id, use_report=False)).label


def on_grid_of(image: nib.Nifti1Image, other: nib.Nifti1Image) -> np.ndarray:
    """Resample a label to the grid of another label, by the nearest voxel."""
    label = np.asarray(image.dataobj)
    target = Grid(other.shape, other.affine)
    return resample(label, Grid(label.shape, image.affine), target, np.eye(4), linear=False)


def least_dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the lowest Dice of WT, TC and ET."""
    scores = []
    for values in ((1, 2, 4), (1, 4), (4,)):
        x, y = np.isin(a, values), np.isin(b, values)
        scores.append(2 * (x & y).sum() / max(x.sum() + y.sum(), 1))
    return min(scores)


@pytest.mark.parametrize("kind", ["4D", "DICOM"])
def test_4d_file_and_dicom_study_give_the_segmentation_of_the_folder(serve, studies, kind, capsys):
    files = answer(serve(studies["folder"]))
    other = answer(serve(studies[kind]))
    dice = least_dice(np.asarray(files.dataobj), on_grid_of(other, files))
    with capsys.disabled():
        print(f"\n{kind} against a folder: Dice {dice:.4f}")
    assert dice >= MIN_DICE


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_every_requested_series_gives_the_same_segmentation(serve, studies, sequence):
    service = serve(studies["DICOM"])
    shown = answer(service, sequence)
    assert least_dice(on_grid_of(shown, answer(service)), np.asarray(answer(service).dataobj)) >= MIN_DICE


def test_thick_sagittal_flair_gives_the_same_segmentation_in_every_form(serve, studies, segmenter, tmp_path, capsys):
    """Compare a DICOM study, a folder with that FLAIR, and a 4D file of the sequences resampled to T1ce."""
    service = serve(studies["thick"])
    (case,) = service.source.cases().values()
    native = service.source.native_files(case)
    thick, reference = nib.load(native["flair"]), nib.load(native["t1ce"])
    assert thick.shape != reference.shape
    for sequence, path in native.items():
        target = tmp_path / "folder" / "P1" / f"P1_{sequence}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    images = {s: resample_from_to(nib.load(p), reference, order=1) for s, p in native.items()}
    stack = np.stack([images[s].get_fdata() for s in ("flair", "t1", "t1ce", "t2")], axis=-1)
    (tmp_path / "4d").mkdir()
    nib.save(nib.Nifti1Image(stack.astype(np.float32), reference.affine), tmp_path / "4d" / "P1.nii.gz")

    dicom = answer(service)
    folder = answer(serve(FolderSource(tmp_path / "folder", Settings(), tmp_path / "c1")))
    four_d = answer(serve(FolderSource(tmp_path / "4d", Settings(), tmp_path / "c2")))
    dice = {
        n: least_dice(np.asarray(dicom.dataobj), on_grid_of(o, dicom)) for n, o in (("folder", folder), ("4D", four_d))
    }
    full = least_dice(on_grid_of(answer(serve(studies["folder"])), reference), np.asarray(dicom.dataobj))
    with capsys.disabled():
        print(f"\nthick FLAIR: Dice {dice}; {full:.4f} to the same patient with a full FLAIR, which shows more")
    assert dice["folder"] >= MIN_DICE
    assert dice["4D"] >= MIN_DICE

    seen = answer(service, "flair")
    assert seen.shape == thick.shape
    np.testing.assert_allclose(seen.affine, thick.affine, atol=1e-3)
    expected = on_grid_of(dicom, thick)
    assert least_dice(np.asarray(seen.dataobj), expected) >= MIN_DICE
