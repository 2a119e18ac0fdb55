"""Cases from a real DICOMweb server: listing, fetching, conversion, reports, and storing of segmentations."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import wait_for
from pydicom import dcmread
from pydicom.uid import generate_uid
from stored_segs import find_segs

from brats_clip.cases import SEQUENCES
from brats_label.datastore import CaseDatastore
from brats_label.demo.orthanc import LocalOrthanc, OrthancMissing, free_port
from brats_label.demo.phantom_study import Extras, WrittenStudy, write_study
from brats_label.dicom import client as client_module
from brats_label.dicom.seg import read_seg, store, write_seg
from brats_label.errors import ClientError, NotFound, Refused, Unreachable
from brats_label.labels.store import LabelStore
from brats_label.open_store import open_store
from brats_label.settings import Settings, Workspace
from brats_label.studies.dicomweb import DicomWebSource
from brats_label.studies.library import CaseLibrary

pytestmark = pytest.mark.e2e

EXTRAS = (
    Extras(localiser=True, duplicate_t2=True, maps=True),
    Extras(thick_flair=True, descriptions="none", report="text"),
    Extras(descriptions="silent", report=""),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with LocalOrthanc(tmp_path_factory.mktemp("orthanc")) as running:
            yield running
    except OrthancMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def studies(server, tiny_data_set, tmp_path_factory) -> list[WrittenStudy]:
    """Upload one study per phantom, each with different extras."""
    folder = tmp_path_factory.mktemp("dicom")
    written = [
        write_study(tiny_data_set.folder / case, folder, case, extras)
        for case, extras in zip(tiny_data_set.cases, EXTRAS, strict=True)
    ]
    for study in written:
        server.upload(study.files())
    return written


@pytest.fixture(scope="module")
def source(server, studies, tmp_path_factory) -> DicomWebSource:
    return DicomWebSource(server.url, Settings(), tmp_path_factory.mktemp("cache"))


def case_of(source: DicomWebSource, study: WrittenStudy):
    return source.resolve(study.study_uid)[0]


def original(tiny_data_set, study: WrittenStudy, name: str) -> nib.Nifti1Image:
    case = study.folder.name
    return nib.load(tiny_data_set.folder / case / f"{case}_{name}.nii.gz")


def test_each_patient_is_one_case_with_its_four_series(source, studies):
    cases = source.cases()
    assert len({case.patient for case in cases.values()}) == len(cases) == len(studies)
    for study in studies[:2]:
        case = cases[study.series["t1ce"]]
        assert {s: image.image_id for s, image in case.images.items()} == {s: study.series[s] for s in SEQUENCES}
        assert case.reference == "t1ce" and not case.missing


def test_info_lists_the_chosen_series_without_patient_data(source, studies):
    info = case_of(source, studies[0]).info
    assert info["StudyInstanceUID"] == studies[0].study_uid and info["Modality"] == "MR"
    assert info["series"]["t1ce"]["SeriesInstanceUID"] == studies[0].series["t1ce"]
    assert "post" in info["series"]["t1ce"]["reason"]
    left = {item["SeriesInstanceUID"]: item["reason"] for item in info["left_out"]}
    assert set(left) == {studies[0].series[name] for name in ("localiser", "t2 thick", "adc", "subtraction")}
    assert studies[0].patient_id not in str(info) and "Phantom^" not in str(info)


def test_native_files_equal_the_original_images(source, studies, tiny_data_set):
    files = source.native_files(case_of(source, studies[0]))
    for sequence in SEQUENCES:
        image, expected = nib.load(files[sequence]), original(tiny_data_set, studies[0], sequence)
        assert np.array_equal(image.dataobj, expected.dataobj)
        np.testing.assert_allclose(image.affine, expected.affine, atol=1e-4)


def test_thick_sagittal_flair_keeps_its_own_grid(source, studies):
    flair = nib.load(source.native_files(case_of(source, studies[1]))["flair"])
    assert nib.aff2axcodes(flair.affine) == ("P", "I", "R")
    assert flair.header.get_zooms()[2] == pytest.approx(8)


def test_only_chosen_series_are_fetched_and_only_once(server, studies, tmp_path):
    source = DicomWebSource(server.url, Settings(), tmp_path)
    case = case_of(source, studies[0])
    files = source.native_files(case)
    fetched = {path.name for path in (tmp_path / studies[0].study_uid).iterdir()}
    assert fetched == {studies[0].series[s] for s in SEQUENCES}
    dates = {path: path.stat().st_mtime_ns for path in files.values()}
    assert source.native_files(case) == files
    assert {path: path.stat().st_mtime_ns for path in files.values()} == dates


def test_series_with_vague_headers_are_identified_by_image_and_cached(server, source, studies, tiny_data_set, tmp_path):
    case = case_of(source, studies[2])
    assert set(case.images) >= {"t1", "t2", "flair"}
    assert all("image itself" in image.reason for image in case.images.values())
    assert case.images["flair"].image_id == studies[2].series["flair"]
    kept = list((source._series.cache / studies[2].study_uid).glob("answers/*.json"))
    assert len(kept) == 1


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_any_chosen_series_resolves_to_its_case(source, studies, sequence):
    case, shown = source.resolve(studies[0].series[sequence])
    assert (case.case_id, shown) == (studies[0].series["t1ce"], sequence)


def test_left_out_series_is_not_found_with_the_reason(source, studies):
    with pytest.raises(NotFound, match=r"3-plane loc.*a localiser"):
        source.resolve(studies[0].series["localiser"])


@pytest.mark.parametrize("image_id", ["1.2.3.4", "../../etc/passwd", "", "x" * 5000, "1.2\n3"])
def test_unknown_id_is_not_found(source, image_id):
    with pytest.raises(NotFound, match="no series or study") as caught:
        source.resolve(image_id)
    assert len(caught.value.sentence) < 250 and "\n" not in caught.value.sentence


def test_report_comes_from_sr_or_encapsulated_text(source, studies, tiny_data_set):
    for study in studies[:2]:
        case = study.folder.name
        written = (tiny_data_set.folder / case / f"{case}_report.txt").read_text(encoding="utf-8").strip()
        assert source.report(case_of(source, study)) == written
    assert source.report(case_of(source, studies[2])) == ""


def test_segmentation_is_stored_and_read_back_voxel_by_voxel(source, studies, tiny_data_set):
    case = case_of(source, studies[0])
    label = original(tiny_data_set, studies[0], "seg")
    array = np.asarray(label.dataobj)
    seg = write_seg(array, label.affine, source.dicom_folder(case).glob("*.dcm"))
    store(source.client, seg)
    found = find_segs(source.client, case.info["StudyInstanceUID"], case.case_id)
    assert found[-1].SOPInstanceUID == seg.SOPInstanceUID
    back, names = read_seg(found[-1], label.affine, label.shape)
    assert np.array_equal(back, array)
    assert set(names.values()) == set(np.unique(array)) - {0}
    assert find_segs(source.client, case.info["StudyInstanceUID"], studies[0].series["t1"]) == []
    source.refresh()
    assert len(source.cases()) == len(studies)  # the stored SEG is not a case


def test_new_study_is_found_on_request_and_deleted_study_disappears(server, source, tiny_data_set, tmp_path):
    source.cases()
    late = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path, "LATE", seed=9)
    server.upload(late.files())
    source._studies.looked = float("-inf")  # as if the listing had expired
    assert source.resolve(late.series["flair"])[1] == "flair"
    case = case_of(source, late)
    remove(server, late)
    source.refresh()
    assert case.case_id not in source.cases()
    with pytest.raises(NotFound, match="no longer"):
        source.native_files(case)


def remove(server: LocalOrthanc, study: WrittenStudy) -> None:
    """Delete a study through Orthanc's REST API, since DICOMweb defines no deletion."""
    root = server.url.removesuffix("/dicom-web")
    for uid in requests.post(f"{root}/tools/lookup", data=study.study_uid, timeout=10).json():
        requests.delete(f"{root}/studies/{uid['ID']}", timeout=10)


def test_growing_series_is_fetched_again(server, tiny_data_set, tmp_path):
    study = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "dicom", "GROWS", seed=10)
    last = sorted((study.folder / "t1").glob("*.dcm"))[-1]
    server.upload([path for path in study.files() if path != last])
    source = DicomWebSource(server.url, Settings(), tmp_path / "cache")
    assert nib.load(source.native_files(case_of(source, study))["t1"]).shape[2] == 47
    server.upload([last])
    source.refresh()
    assert nib.load(source.native_files(case_of(source, study))["t1"]).shape[2] == 48
    remove(server, study)


def test_series_with_a_gap_is_refused_and_other_cases_still_work(server, studies, tiny_data_set, tmp_path):
    study = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "dicom", "GAP", seed=11)
    hole = sorted((study.folder / "flair").glob("*.dcm"))[20]
    server.upload([path for path in study.files() if path != hole])
    source = DicomWebSource(server.url, Settings(), tmp_path / "cache")
    with pytest.raises(Refused, match="between slices 20 and 21"):
        source.native_files(case_of(source, study))
    assert source.native_files(case_of(source, studies[0]))
    remove(server, study)


def test_study_without_the_configured_reference_uses_another(server, tiny_data_set, tmp_path):
    study = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "dicom", "NOCE", seed=12)
    server.upload([path for path in study.files() if path.parent.name != "t1ce"])
    source = DicomWebSource(server.url, Settings(), tmp_path / "cache")
    case = case_of(source, study)
    assert (case.reference, case.missing) == ("flair", ("t1ce",))
    other = DicomWebSource(server.url, Settings(reference="t2"), tmp_path / "cache")
    assert case_of(other, study).case_id == study.series["t2"]
    remove(server, study)


def test_unusable_study_is_reported_with_the_reason(server, tiny_data_set, tmp_path):
    study = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "dicom", "KNEE", seed=13)
    for path in study.files():
        ds = dcmread(path)
        ds.BodyPartExamined = "KNEE"
        ds.save_as(path)
    server.upload(study.files())
    source = DicomWebSource(server.url, Settings(), tmp_path / "cache")
    assert study.study_uid not in {case.info["StudyInstanceUID"] for case in source.cases().values()}
    [told] = [sentence for sentence in source.problems() if study.study_uid in sentence]
    assert "BodyPartExamined is KNEE" in told and study.patient_id not in told
    for uid in (study.study_uid, study.series["t2"]):
        with pytest.raises(NotFound, match="KNEE"):
            source.resolve(uid)
    workspace = Workspace(tmp_path / "workspace")
    library = CaseLibrary(source, workspace.cache)
    datastore = CaseDatastore(source, LabelStore(workspace.labels, open_store(workspace)), workspace, library)
    assert told in datastore.status()["problems"]
    remove(server, study)


def test_sequence_in_another_frame_of_reference_is_noted_and_can_be_registered(server, tiny_data_set, tmp_path):
    study = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "dicom", "MOVED", seed=14)
    for path in sorted((study.folder / "t1ce").glob("*.dcm")):  # as if the patient had been repositioned
        ds = dcmread(path)
        ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["after a break"])
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x + 9, y - 6, z]
        ds.save_as(path)
    server.upload(study.files())
    source = DicomWebSource(server.url, Settings(reference="flair", preprocess="never"), tmp_path / "cache")
    case = case_of(source, study)
    [note] = case.info["notes"]
    assert note.startswith("T1 with contrast agent lies in another frame of reference than FLAIR")
    assert "--conf preprocess auto" in note
    told = DicomWebSource(server.url, Settings(reference="flair"), tmp_path / "cache")
    assert "aligned by registration" in case_of(told, study).info["notes"][0]
    aligned = CaseLibrary(told, tmp_path / "aligned").aligned(case_of(told, study))
    assert np.linalg.norm(aligned.preparation.motions["t1ce"][:3, 3]) == pytest.approx(np.hypot(9, 6), abs=1.5)
    remove(server, study)


def test_one_frame_of_reference_gives_no_note(source, studies):
    assert "notes" not in case_of(source, studies[0]).info


def test_concurrent_threads_fetch_a_case_once(server, studies, tmp_path):
    source = DicomWebSource(server.url, Settings(), tmp_path)
    found, problems = [], []

    def want() -> None:
        try:
            found.append(source.native_files(case_of(source, studies[0])))
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and all(files == found[0] for files in found)


def test_expired_listing_is_served_at_once_and_refreshed_in_the_background(server, studies, tmp_path, monkeypatch):
    source = DicomWebSource(server.url, Settings(), tmp_path, expiry_s=0.0)
    before = source.cases()
    looked, look, answered = source._studies.looked, source._studies._look, threading.Event()
    monkeypatch.setattr(source._studies, "_look", lambda: answered.wait(30) and look())
    assert source.cases() == before and source._studies.looked == looked  # the server has not answered yet
    answered.set()
    wait_for(lambda: source._studies.looked > looked, seconds=20)


def test_password_is_required_and_used(tmp_path):
    try:
        guarded = LocalOrthanc(tmp_path / "orthanc", users={"anna": "secret"})
        with guarded:
            with pytest.raises(Unreachable, match="401; check the user name and password"):
                DicomWebSource(guarded.url, Settings(), tmp_path).cases()
            assert DicomWebSource(guarded.url, Settings(), tmp_path, "anna", "secret").cases() == {}
    except OrthancMissing as missing:
        pytest.skip(str(missing))


def test_known_cases_stay_available_when_the_server_is_down(tiny_data_set, tmp_path):
    study = write_study(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "dicom", "P")
    try:
        with LocalOrthanc(tmp_path / "orthanc") as server:
            server.upload(study.files())
            source = DicomWebSource(server.url, Settings(), tmp_path / "cache")
            source.native_files(case_of(source, study))
    except OrthancMissing as missing:
        pytest.skip(str(missing))
    with pytest.raises(Unreachable, match="cannot be reached"):
        source.refresh()
    assert list(source.cases()) == [study.series["t1ce"]]
    assert len(source.native_files(case_of(source, study))) == 4
    with pytest.raises(Unreachable):
        source.report(case_of(source, study))


def test_local_orthanc_answers_only_this_machine(server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; gives the address that other machines would see
        except OSError:
            pytest.skip("this machine has no other address than 127.0.0.1")
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no other address than 127.0.0.1")
    port = server.url.split(":")[2].split("/")[0]
    try:
        answer = requests.get(f"http://{own}:{port}/dicom-web/studies", timeout=10)
    except requests.ConnectionError:
        return
    assert answer.status_code in (401, 403)


def test_wrong_path_is_reported(server, tmp_path):
    with pytest.raises(Unreachable, match="404; check the path"):
        DicomWebSource(f"{server.url}-wrong", Settings(), tmp_path).cases()


def test_unreachable_server_is_reported_at_once(tmp_path):
    started = time.perf_counter()
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:\d+ cannot be reached; check that it runs"):
        DicomWebSource(f"http://user:secret@127.0.0.1:{free_port()}/dicom-web", Settings(), tmp_path).cases()
    assert time.perf_counter() - started < 5


def test_silent_server_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "TIMEOUT_S", (0.5, 0.5))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        source = DicomWebSource(f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web", Settings(), tmp_path)
        with pytest.raises(Unreachable, match="does not answer in time"):
            source.cases()


@pytest.fixture
def silent_url():
    """Yield the URL of a server that accepts connections and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web"


def seconds_until_told(ask, count: int) -> list[float]:
    """Return the time that each of ``count`` threads waits until ``Unreachable`` is raised."""
    seconds, begun = [], time.monotonic()

    def wait() -> None:
        with pytest.raises(Unreachable):
            ask()
        seconds.append(time.monotonic() - begun)

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seconds) == count
    return seconds


def test_concurrent_callers_wait_for_one_timeout_of_a_silent_server(tmp_path, silent_url, monkeypatch):
    monkeypatch.setattr(client_module, "TIMEOUT_S", (1.5, 1.5))
    source = DicomWebSource(silent_url, Settings(), tmp_path)
    assert max(seconds_until_told(source.cases, 5)) < 3
    assert max(seconds_until_told(source.cases, 2)) < 1  # the failure is remembered for a while
    monkeypatch.setattr("brats_label.dicom.client.REMEMBER_S", 0.0)
    assert min(seconds_until_told(source.cases, 1)) > 1  # later the server is asked again


def test_callers_do_not_wait_long_for_a_stalled_listing(tmp_path, silent_url, monkeypatch):
    monkeypatch.setattr(client_module, "TIMEOUT_S", (6, 6))
    monkeypatch.setattr("brats_label.studies.dicomweb.study_list.INACTIVITY_S", 1.5)
    source = DicomWebSource(silent_url, Settings(), tmp_path)
    assert sorted(seconds_until_told(source.cases, 4))[2] < 4


@pytest.mark.parametrize("url", ["", "ftp://host/x", "no address", "http://"])
def test_invalid_address_is_refused(url, tmp_path):
    with pytest.raises(ClientError, match="expected an address"):
        DicomWebSource(url, Settings(), tmp_path)


def test_html_response_is_reported_as_not_dicomweb(server, tmp_path, monkeypatch):
    """The response is a proxy's login page: status 200 and HTML."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(page)

        threading.Thread(target=answer, daemon=True).start()
        source = DicomWebSource(f"http://127.0.0.1:{listener.getsockname()[1]}/x", Settings(), tmp_path)
        with pytest.raises(Unreachable, match="not DICOMweb"):
            source.cases()


def test_fetched_series_has_the_uploaded_instances(server, source, studies):
    case = case_of(source, studies[0])
    fetched = {dcmread(path).SOPInstanceUID for path in source.dicom_folder(case).glob("*.dcm")}
    written = {dcmread(path).SOPInstanceUID for path in Path(studies[0].folder / "t1ce").glob("*.dcm")}
    assert fetched == written
