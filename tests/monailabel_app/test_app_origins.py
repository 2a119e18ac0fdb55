"""Pages of other sites get nothing from a server that answers its own machine alone."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.testclient import TestClient
from monailabel.config import settings as server
from pydantic import AnyHttpUrl
from starlette.middleware import Middleware

from brats_label.server.install import install
from brats_label.server.origins import OwnPages, allow_origins
from brats_label.settings import Settings

FRIEND = "https://viewer.example"


def client(allowed: list[str], own_alone: bool = True) -> TestClient:
    """A server with MONAI Label's CORS, mended."""
    all_pages = Middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True)
    api = FastAPI(middleware=[all_pages])
    api.add_api_route("/x", lambda: "patient", methods=["GET", "POST"])
    allow_origins(api, allowed)
    if own_alone:
        api.add_middleware(OwnPages, allowed=allowed)
    return TestClient(api, base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:9999"},
        {"Host": "[::1]:8000"},
        {"Host": "ohif.localhost"},
        {"Host": "LOCALHOST"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Host": "localhost:9999", "Origin": "http://localhost:9999"},
        {"Origin": "http://localhost:3000"},
        {"Origin": FRIEND},
    ],
)
def test_programs_and_pages_of_this_machine_are_answered(headers):
    assert client([FRIEND]).get("/x", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"Host": "rebind.evil.example"}, 421, "remote true"),
        ({"Host": "127.0.0.1.evil.example:8000"}, 421, "127.0.0.1"),
        ({"Host": "0.0.0.0:8000"}, 421, "localhost"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421, "remote"),
        ({"Origin": "http://evil.example"}, 403, "MONAI_LABEL_CORS_ORIGINS"),
        ({"Origin": "http://localhost.evil.example"}, 403, "sites"),
        ({"Origin": "null"}, 403, "sites"),
        ({"Origin": ""}, 403, "sites"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_of_other_sites_are_not(method, headers, status, says):
    preflight = {"Access-Control-Request-Method": "GET"} if method == "OPTIONS" else {}
    response = client([FRIEND]).request(method, "/x", headers=headers | preflight)
    assert response.status_code == status
    assert says in response.json()["detail"]
    assert "access-control-allow-origin" not in response.headers


def test_browsers_show_answers_to_the_pages_that_were_named_and_no_others():
    for own_alone in (True, False):
        named, nobody = client([FRIEND], own_alone), client([], own_alone)
        shown = named.get("/x", headers={"Origin": FRIEND}).headers
        assert shown["access-control-allow-origin"] == FRIEND
        for browser, origin in ((named, "http://localhost:3000"), (nobody, "http://localhost:3000")):
            assert "access-control-allow-origin" not in browser.get("/x", headers={"Origin": origin}).headers
    remote = client([], own_alone=False).get("/x", headers={"Origin": FRIEND, "Host": "server.example"})
    assert remote.status_code == 200 and "access-control-allow-origin" not in remote.headers


@pytest.mark.parametrize(("remote", "status"), [(False, 421), (True, 200)])
def test_a_server_for_other_machines_has_any_name_and_shows_answers_to_the_pages_that_were_named(
    remote, status, monkeypatch
):
    monkeypatch.setattr(server, "MONAI_LABEL_CORS_ORIGINS", [AnyHttpUrl(FRIEND)])
    api = FastAPI(middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True)])
    api.add_api_route("/x", lambda: "patient")
    install(api, Settings(remote=remote))
    headers = {"Host": "server.example", "Origin": FRIEND}
    response = TestClient(api).get("/x", headers=headers)
    assert response.status_code == status
    assert response.headers.get("access-control-allow-origin") == (FRIEND if remote else None)
