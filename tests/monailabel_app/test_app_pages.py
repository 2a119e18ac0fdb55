"""The root page shows what is served; the viewer pages explain why there is no viewer for files."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.tasks.infer_v2 import InferType

from brats_label.errors import Unreachable
from brats_label.server import case_routes, pages, viewer


def app(studies: str, cases=("A",)):
    def listed():
        if isinstance(cases, Exception):
            raise cases
        return list(cases)

    return SimpleNamespace(
        studies=studies,
        datastore=lambda: SimpleNamespace(list_images=listed),
        _infers={"segmentation": SimpleNamespace(type=InferType.SEGMENTATION)},
        models=SimpleNamespace(name_in_use=lambda: "version <0>"),
    )


@pytest.fixture
def get(monkeypatch):
    def get(path: str, served) -> str:
        monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", served.studies)
        api = FastAPI()
        api.state.app = served
        api.include_router(pages.router)
        api.include_router(viewer.router)
        response = TestClient(api, base_url="http://127.0.0.1:8765").get(path)
        assert response.status_code == 200 and response.headers["content-type"].startswith("text/html")
        return response.text

    return get


def test_root_page_shows_what_is_served_and_links(get):
    page = get("/", app("/data/<b>x", ("A", "B")))
    assert "2 cases of the folder /data/&lt;b&gt;x" in page and "<b>x" not in page
    assert "segmentation" in page and "version &lt;0&gt;" in page and "http://127.0.0.1:8765<" in page
    assert 'href="info/"' in page and 'href="openapi.json"' in page
    assert "make serve-demo" in page and 'href="ohif/"' not in page


def test_root_page_loads_nothing_from_other_sites(get):
    page = get("/", app("http://dicom.example/dicom-web"))
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page) and "<script" not in page
    assert 'href="ohif/"' in page and "1 case of the DICOMweb server" in page


def test_root_page_reports_an_unreachable_server(get):
    assert "is it running?" in get("/", app("http://x/dicom-web", Unreachable("Not there; is it running?")))


def test_root_page_hides_the_studies_if_login_is_enabled(get, monkeypatch):
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", True)
    page = get("/", app("/data/secret"))
    assert "secret" not in page and "3D Slicer" in page


@pytest.mark.parametrize("path", ["/ohif/", "/ohif/monai-label?StudyInstanceUIDs=1.2", "/ohif/index.html"])
def test_viewer_pages_give_instructions_if_the_studies_are_files(get, path):
    page = get(path, app("/data/cases"))
    assert "3D Slicer" in page and "make serve STUDIES=http" in page and "make serve-demo" in page
    assert "<script" not in page
    assert "<script" in get(path, app("http://127.0.0.1:8042/dicom-web"))


@pytest.mark.parametrize("name", ["log", "label"])
def test_body_of_a_file_that_changes_during_its_download_has_the_declared_length(name, tmp_path, monkeypatch):
    path = tmp_path / "logs" / "app.log"
    path.parent.mkdir()
    path.write_bytes(b"x" * 10)
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(tmp_path))
    datastore = SimpleNamespace(get_label_uri=lambda label, tag: str(path))
    if name == "log":
        response = pages.log(user=None, lines=0)
    else:
        response = case_routes.label(SimpleNamespace(datastore=lambda: datastore), None, "CASE", "final")
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)
        path.write_bytes(b"x" * 20)  # after the headers

    async def receive() -> None:
        await asyncio.Event().wait()  # the client stays connected

    asyncio.run(response({"type": "http", "method": "GET", "headers": []}, receive, send))
    declared = dict(sent[0]["headers"])[b"content-length"]
    assert int(declared) == sum(len(message["body"]) for message in sent[1:]) == 10
