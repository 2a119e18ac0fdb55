"""A raw exam in the app: prepared once, segmented on the grid of the series shown, or refused with a reason."""

from __future__ import annotations

import importlib
import json
import threading
import time
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import RunningServer
from raw_exam import brain_of, series

from brats_clip.cases import SEQUENCES, is_ready, read_volume
from brats_clip.geometry import Grid, resample
from brats_clip.images import write_image
from brats_clip.phantoms import draw_raw_phantom
from brats_label.demo.orthanc import LocalOrthanc
from brats_label.demo.phantom_study import Extras, write_study
from brats_label.errors import Refused
from brats_label.inference import AdmissionControl
from brats_label.inference.service import Prompt, SegmentationService
from brats_label.labels.store import LabelStore
from brats_label.open_store import open_store
from brats_label.settings import Settings, Workspace
from brats_label.studies import library as library_module
from brats_label.studies.folder import FolderSource
from brats_label.studies.library import CaseLibrary

NAMES = {"t1": "T1", "t1ce": "T1_post", "t2": "T2", "flair": "FLAIR"}
cases_prepare = importlib.import_module("brats_clip.cases.prepare")  # its function has the same name


def known_brain(volume):
    """Return the brain in place of deepbet, which recognises real heads but not this simple one."""
    return brain_of("t1", volume.grid)


@pytest.fixture(scope="module")
def exam(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for sequence, name in NAMES.items():
        volume = series(sequence)
        write_image(folder / "exam" / f"{name}.nii.gz", volume.array.astype(np.int16), volume.affine)
    return folder


@pytest.fixture(scope="module")
def made(exam, tmp_path_factory):
    """Prepare the exam once, and record the steps reported meanwhile."""
    cache, steps = tmp_path_factory.mktemp("cache"), []
    library = CaseLibrary(FolderSource(exam, Settings(), cache), cache)

    def extract(volume):
        steps.append(library.preparing("exam"))
        return known_brain(volume)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases_prepare, "extract_brain", extract)
        aligned = library.aligned(library.case("exam"))
    return library, aligned, steps, cache


def test_a_raw_exam_is_registered_stripped_and_resampled(made):
    _, aligned, _, _ = made
    volumes = {sequence: read_volume(path) for sequence, path in aligned.files.items()}
    assert is_ready(volumes) and list(volumes) == list(SEQUENCES)
    assert np.allclose(aligned.preparation.working.spacing, 1)
    notes = " ".join(aligned.preparation.notes)
    assert "brain extracted from t1" in notes and "registered to t1" in notes and "peak" in notes


def test_current_preparation_step_is_reported(made):
    library, _, steps, _ = made
    assert steps[0]["step"] == "find the brain" and steps[0]["seconds"] >= 0
    assert library.preparing("exam") is None


def test_prepared_exam_is_reused_by_other_servers(made, exam, monkeypatch):
    library, aligned, _, cache = made
    monkeypatch.setattr(library_module, "prepare", lambda *_, **__: pytest.fail("prepared again"))
    assert library.aligned(library.case("exam")) is aligned
    again = CaseLibrary(FolderSource(exam, Settings(), cache), cache)
    other = again.aligned(again.case("exam"))
    assert other.files == aligned.files and other.preparation.to_json() == aligned.preparation.to_json()


class StubSegmenter:
    """A stub of the network that segments a box in the middle of the brain and records its inputs."""

    def __init__(self, **_) -> None:
        self.given, self.clicks = [], None

    def modules(self):
        return ()

    def set_case(self, case, **images):
        self.given.append(images)
        return case

    def segment(self, report, clicks, case):
        volume = next(iter(self.given[0].values()))
        label = np.zeros(volume.array.shape, np.uint8)
        self.clicks, self.box = clicks, tuple(slice(n // 2 - 12, n // 2 + 12) for n in label.shape)
        label[self.box] = 2
        return SimpleNamespace(
            label=label, affine=volume.affine, volumes_ml={"WT": 13.8}, report_used=False, consistency=None,
            sequences_used=SEQUENCES, sequences_missing=(), seconds={}, notes=(),
            quality=SimpleNamespace(to_dict=lambda: {"look_here": []}),
        )  # fmt: skip


def test_answer_and_clicks_are_on_the_series_shown_and_second_prompt_reads_files(made, exam, monkeypatch):
    cache = made[-1]
    monkeypatch.setattr(cases_prepare, "extract_brain", known_brain)
    library = CaseLibrary(FolderSource(exam, Settings(), cache), cache / "fresh")
    network = StubSegmenter()
    models = SimpleNamespace(current=lambda: SimpleNamespace(sha256="0", path="", name="1"))
    service = SegmentationService(
        Settings(), library.source, library, models, AdmissionControl(1, 1), make=lambda **_: network
    )
    first = service.answer(Prompt("exam@flair"))
    shown = read_volume(exam / "exam" / "FLAIR.nii.gz")
    assert Grid(first.label.shape, first.label.affine).same_as(shown.grid)
    assert any("brain extracted" in note for note in first.params["notes"])
    reference = read_volume(exam / "exam" / "T1_post.nii.gz")
    assert Grid(first.reference_label.shape, first.reference_label.affine).same_as(reference.grid)
    voxel = np.argwhere(np.asarray(first.label.dataobj))
    voxel = [int(v) for v in voxel[len(voxel) // 2]]
    service.answer(Prompt("exam@flair", clicks={"ET": [voxel]}))
    [(kind, click)] = network.clicks
    assert kind == "ET"
    assert all(part.start - 2 <= v <= part.stop + 1 for part, v in zip(network.box, click, strict=True))
    assert network.given[0].keys() == set(SEQUENCES)
    # The first prompt gets the volumes that were just prepared; later prompts get file names.
    assert all(volume.path == str(network.given[1][s]) for s, volume in network.given[0].items())


def test_label_drawn_on_a_series_is_mapped_to_the_prepared_images(made, exam, tmp_path):
    from brats_label.datastore import CaseDatastore

    library, aligned, _, _ = made
    workspace = Workspace(tmp_path)
    labels = LabelStore(workspace.labels, open_store(workspace))
    datastore = CaseDatastore(library.source, labels, workspace, library)
    image = read_volume(exam / "exam" / "T2.nii.gz")
    drawn = np.zeros(image.array.shape, np.uint8)
    drawn[tuple(slice(n // 2 - k, n // 2 + k) for n, k in zip(drawn.shape, (12, 12, 6), strict=True))] = 2
    nib.save(nib.Nifti1Image(drawn, image.affine), tmp_path / "drawn.nii.gz")
    datastore.store_label("exam@t2", tmp_path / "drawn.nii.gz", "final", {})
    [entry] = datastore.datalist()
    label = read_volume(entry["label"])
    assert label.grid.same_as(read_volume(entry["flair"]).grid)
    wanted = aligned.preparation.from_native(drawn, "t2") > 0
    assert 2 * (wanted & (label.array > 0)).sum() / (wanted.sum() + (label.array > 0).sum()) > 0.85
    back = datastore.get_label_uri("exam@t2", "final")
    assert read_volume(back).grid.same_as(image.grid)


def test_exam_without_a_brain_is_refused(exam, tmp_path, monkeypatch):
    from brats_clip.errors import CaseError

    def none(volume):
        raise CaseError(volume.path, "no brain", "an image of a head")

    monkeypatch.setattr(cases_prepare, "extract_brain", none)
    library = CaseLibrary(FolderSource(exam, Settings(), tmp_path), tmp_path)
    expected = r"^t1 \(T1.nii.gz\): found no brain; expected an image of a head \(--conf preprocess never takes"
    with pytest.raises(Refused, match=expected):
        library.aligned(library.case("exam"))
    assert library.preparing("exam") is None


def test_preprocess_never_uses_images_on_one_grid_unchanged_with_a_note(exam, tmp_path):
    library = CaseLibrary(FolderSource(exam, Settings(), tmp_path / "a"), tmp_path / "a", "never")
    with pytest.raises(Refused, match="--conf preprocess auto"):
        library.aligned(library.case("exam"))
    volume = series("t1")
    for sequence, name in NAMES.items():
        other = resample(series(sequence).array, series(sequence).grid, volume.grid)
        write_image(tmp_path / "studies" / "exam" / f"{name}.nii.gz", other.astype(np.int16), volume.affine)
    library = CaseLibrary(FolderSource(tmp_path / "studies", Settings(), tmp_path / "b"), tmp_path / "b", "never")
    aligned = library.aligned(library.case("exam"))
    assert aligned.files["t2"] == tmp_path / "studies" / "exam" / "T2.nii.gz"
    assert list(aligned.preparation.notes) == [f"{s}: does not look stripped" for s in aligned.files]


@pytest.mark.e2e
@pytest.mark.slow
def test_a_raw_dicom_study_is_prepared_segmented_and_corrected(needs_orthanc, tmp_path):
    study = write_study(draw_raw_phantom((77, 1)), tmp_path / "dicom", "RAW", Extras(localiser=True))
    conf = {"workspace": tmp_path / "workspace"}
    filters = {"MONAI_LABEL_DICOMWEB_SEARCH_FILTER": '{"Modality": "MR"}'}
    with LocalOrthanc(tmp_path / "orthanc") as orthanc:
        orthanc.upload(study.files())
        with RunningServer(orthanc.url, tmp_path / "server", conf, filters) as server:
            shown, answers = study.series["t2"], []

            def infer(**prompt) -> dict:
                query = {"image": shown, "output": "json"}
                data = {"params": json.dumps(prompt)}
                answer = requests.post(f"{server.url}/infer/deepedit", params=query, data=data, timeout=600)
                assert answer.status_code == 200, answer.text
                return answer.json()

            thread = threading.Thread(target=lambda: answers.append(infer()))
            thread.start()
            steps = set()
            while thread.is_alive():
                info = requests.get(f"{server.url}/datastore/image/info", params={"image": shown}, timeout=60).json()
                steps.add(info.get("preparing", {}).get("step"))
                time.sleep(0.2)
            [first] = answers
            assert {"find the brain", "register t2", "register flair"} <= steps
            assert first["sequence_shown"] == "t2" and first["volumes_ml"]["WT"] > 0
            assert any("brain extracted" in note for note in first["notes"])
            assert any(note.startswith("t2: registered to t1") for note in first["notes"])
            query = {"image": shown, "output": "image"}
            file = requests.post(f"{server.url}/infer/deepedit", params=query, data={"params": "{}"}, timeout=600)
            (tmp_path / "answer.nii.gz").write_bytes(file.content)
            label = nib.load(tmp_path / "answer.nii.gz")
            slices = sorted((study.folder / "t2").glob("*.dcm"))
            assert len(slices) in label.shape and label.get_fdata().any()
            voxel = [int(v) for v in np.argwhere(label.get_fdata() > 0)[0]]
            again = infer(ET=[voxel])
            assert again["clicks"] == {"ET": 1} and again["seconds"]["files"] < first["seconds"]["files"] / 5
