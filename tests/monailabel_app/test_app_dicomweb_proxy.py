"""Searches through the DICOMweb proxy: a value with any characters is found and stays one search term."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
import requests
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.config import settings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from brats_label.demo import phantom_study
from brats_label.demo.orthanc import LocalOrthanc
from brats_label.server import dicomweb_proxy
from brats_label.server.dicomweb_proxy import filter_matches, query, wildcard_query

IDS = ("A/B@C", "A/B@C D", "A/B@CxD", "x&00100020=y", "per%cent", "a#b", "a+b", "Mül", "O'Neil (1)", "50%2F1")


@pytest.mark.parametrize("value", [*IDS, "a;b=c&d", "\r\nX: y", "a\\b", "*b?"])
def test_special_characters_round_trip_as_one_search_term(value):
    sent = query([("00100020", value), ("limit", "5")])
    assert parse_qsl(sent) == [("00100020", value), ("limit", "5")]
    assert not set("#; +\r\n\\") & set(sent) and sent.count("&") == 1
    wide = wildcard_query([("00100020", value), ("limit", "5")]) or sent
    assert "%" not in wide and wide.count("&") == 1 and wide.count("=") == 2


def test_loose_search_is_made_only_for_attribute_values_that_need_encoding():
    assert wildcard_query([("PatientID", "A/B@C"), ("includefield", "all"), ("fuzzymatching", "a b")]) is None
    assert wildcard_query([("PatientID", "A B")]) == "PatientID=A?B"


def test_results_of_a_loose_search_are_filtered():
    found = [{"00100010": {"Value": [{"Alphabetic": name}]}} for name in ("De Boer^Jan", "DexBoer^Jan")] + [{}]
    assert filter_matches(found, [("PatientName", "*de boer*")]) == found[:1]


@pytest.fixture(scope="module")
def orthanc(needs_orthanc, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qido")
    with LocalOrthanc(folder / "orthanc") as orthanc:
        orthanc.upload([patient(folder / f"{number}.dcm", name) for number, name in enumerate(IDS)])
        yield orthanc


def patient(path, patient_id: str):
    ds = Dataset()
    ds.SpecificCharacterSet, ds.PatientID, ds.PatientName, ds.Modality = "ISO_IR 192", patient_id, "Nobody", "OT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = generate_uid(), generate_uid(), generate_uid()
    ds.SOPClassUID, ds.file_meta = SecondaryCaptureImageStorage, FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.is_little_endian, ds.is_implicit_VR = True, False
    dcmwrite(path, ds, write_like_original=False)
    return path


@pytest.fixture
def client(orthanc, monkeypatch):
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", orthanc.url)
    monkeypatch.setattr(dicomweb_proxy, "_client", None)
    api = FastAPI()
    api.include_router(dicomweb_proxy.router)
    with TestClient(api) as client:
        yield client


@pytest.mark.e2e
@pytest.mark.parametrize("patient_id", IDS)
def test_patient_id_is_found_through_the_proxy(client, patient_id):
    for path in ("qido/studies", "studies"):
        found = client.get(f"/proxy/dicom/{path}", params={"00100020": patient_id, "limit": 101})
        assert found.status_code == 200
        assert [one["00100020"]["Value"] for one in found.json()] == [[patient_id]]
    assert len(client.get("/proxy/dicom/qido/studies").json()) == len(IDS)


@pytest.mark.e2e
def test_partial_patient_id_finds_nothing(client):
    for patient_id in ("A/B@C E", "A B@C", "x&00100020=", "nobody at all"):
        assert client.get("/proxy/dicom/qido/studies", params={"00100020": patient_id}).json() == []


@pytest.mark.e2e
def test_response_is_compressed_only_if_requested(client, orthanc):
    plain = client.get("/proxy/dicom/qido/studies", headers={"accept-encoding": ""})
    assert "content-encoding" not in plain.headers and plain.json()
    del client.headers["accept-encoding"]
    assert "content-encoding" not in client.get("/proxy/dicom/qido/studies").headers
    asked = {"accept-encoding": "gzip"}
    direct = requests.get(f"{orthanc.url}/studies", headers=asked, timeout=30).headers.get("content-encoding")
    assert client.get("/proxy/dicom/qido/studies", headers=asked).headers.get("content-encoding") == direct


def test_demo_patient_ids_need_no_encoding(tmp_path):
    writer = phantom_study._Writer(tmp_path, "PHANTOM_0_00001", "0/240x240x155@1x1x1", "full")
    assert writer.patient_id == "PHANTOM_0_00001-0_240x240x155_1x1x1"
