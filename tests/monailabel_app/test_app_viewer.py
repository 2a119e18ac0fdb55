"""The packaged viewer is served with text replacements, and no other file is served."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from brats_label.server import add_error_handlers, viewer


@pytest.fixture(scope="module")
def client():
    api = FastAPI()
    api.include_router(viewer.router)
    add_error_handlers(api)
    return TestClient(api)


@pytest.fixture(scope="module")
def panel() -> list[str]:
    """The packaged scripts of the panel."""
    return [path.read_text(encoding="utf-8") for path in viewer._panel()]


@pytest.mark.parametrize("replacement", viewer.REPLACEMENTS, ids=lambda replacement: replacement.why)
def test_each_replacement_finds_its_text_in_the_installed_package(panel, replacement):
    assert any(replacement.found in text for text in panel)
    assert replacement.found != replacement.becomes and replacement.why


def test_replaced_files_are_served(client):
    assert viewer.patched_files()
    for path, content in viewer.patched_files().items():
        served = client.get(f"/ohif/{path.relative_to(viewer.FOLDER).as_posix()}")
        assert served.content == content != path.read_bytes()
        assert served.headers["content-type"].startswith("text/javascript")
    together = b"".join(viewer.patched_files().values()).decode()
    assert all(
        replacement.becomes in together for replacement in viewer.REPLACEMENTS if replacement.becomes.count("\n") == 0
    )
    assert "':8000/'" not in together


def test_other_files_are_served_unchanged(client):
    served = client.get("/ohif/app-config.js")
    assert served.status_code == 200 and served.content == (viewer.FOLDER / "app-config.js").read_bytes()


@pytest.mark.parametrize("page", ["", "index.html", "monai-label", "viewer/monai-label", "any/page/of/it", "a" * 5000])
def test_client_side_routes_get_the_index_page(client, page):
    served = client.get(f"/ohif/{page}")
    assert served.status_code == 200 and served.content == (viewer.FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("file", ["gone.js", "gone.css", "assets/gone.wasm", "x" * 300 + ".js"])
def test_missing_file_is_not_found(client, file):
    assert client.get(f"/ohif/{file}").status_code == 404


@pytest.mark.parametrize(
    "path", ["..%2f..%2f__init__.py", "..%2F..%2Fproxy.py", "%2e%2e/%2e%2e/infer.py", "%2Fetc%2Fpasswd", "a%00b"]
)
def test_nothing_outside_its_folder_is_served(client, path):
    served = client.get(f"/ohif/{path}")
    index = (viewer.FOLDER / "index.html").read_bytes()
    assert served.status_code == 404 or served.content == index


def test_warning_header_is_ascii_and_says_if_the_report_was_not_used():
    said = "The report says left; the image says right: ½ ml.\n"
    headers = viewer.answer_headers({"warning": said, "report": {"used": False}})
    assert all(value.isascii() and "\n" not in value for value in headers.values())
    assert unquote(headers["X-Warning"]) == f"The report was not used: {said}"
    assert unquote(viewer.answer_headers({"warning": said, "report": {"used": True}})["X-Warning"]) == said


def test_volumes_are_sent_in_a_header():
    headers = viewer.answer_headers({"warning": "", "volumes_ml": {"TC": 1.25, "WT": 20.04, "ET": 0.0}})
    assert {name: unquote(text) for name, text in headers.items()} == {"X-Volumes": "WT 20.0 ml, TC 1.2 ml, ET 0.0 ml."}
    assert viewer.answer_headers({}) == {}


def test_volumes_header_names_the_region_with_the_lowest_expected_dice():
    place = {"text": "left temporal, slice 74: about 1.2 ml of enhancing tumour may be missed"}
    params = {"volumes_ml": {"ET": 3.1}, "expected_dice": {"WT": 0.9, "TC": 0.7, "ET": 0.55}}
    told = unquote(viewer.answer_headers({**params, "look_here": [place, {"text": "elsewhere"}]})["X-Volumes"])
    assert told == f"ET 3.1 ml. ET: expected Dice 0.55: look at {place['text']}."
    told = unquote(viewer.answer_headers({**params, "look_here": []})["X-Volumes"])
    assert told == "ET 3.1 ml. ET: expected Dice 0.55."
    told = unquote(viewer.answer_headers({**params, "quality": {"fitted": False}})["X-Volumes"])
    assert told == "ET 3.1 ml. ET: expected Dice 0.55 (not fitted for these weights)."


def test_unknown_viewer_version_is_logged_at_start_and_still_served(client, monkeypatch, caplog):
    viewer.check_viewer()
    assert not caplog.records
    unknown = viewer.Replacement("text of another version", "x", "nothing said so")
    monkeypatch.setattr(viewer, "REPLACEMENTS", (*viewer.REPLACEMENTS, unknown))
    viewer.check_viewer()
    [record] = caplog.records
    assert record.levelname == "ERROR" and "nothing said so" in record.getMessage()
    assert f"1 of {len(viewer.REPLACEMENTS)}" in record.getMessage() and "viewer.py" in record.getMessage()
    assert client.get("/ohif/app-config.js").status_code == 200
