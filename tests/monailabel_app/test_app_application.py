"""The app's own application answers all requests to MONAI Label's server, and never blocks the event loop."""

from __future__ import annotations

import inspect
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.testclient import TestClient
from monailabel.config import settings as server
from pydantic import AnyHttpUrl
from starlette.middleware import Middleware

from brats_label.server import ROUTERS, build_server
from brats_label.server.patches import replace_application
from brats_label.settings import Settings

TIMEOUT_S = 5
FRIEND = "https://viewer.example"


def monai_label(app: SimpleNamespace) -> FastAPI:
    """Return a server like MONAI Label's: its lifespan starts the app, which takes over the server."""

    @asynccontextmanager
    async def lifespan(api: FastAPI):
        replace_application(api, build_server(app))
        yield

    everybody = Middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"])
    api = FastAPI(lifespan=lifespan, middleware=[everybody])
    api.add_api_route("/info/", lambda: "of MONAI Label", methods=["GET", "POST"])
    return api


def fake(remote: bool = False, **attributes) -> SimpleNamespace:
    return SimpleNamespace(settings=Settings(remote=remote), info=lambda: {"name": "patient"}, **attributes)


def test_slow_request_does_not_block_another():
    begun, freed = threading.Event(), threading.Event()

    def slow() -> dict:
        begun.set()
        return {"freed": freed.wait(TIMEOUT_S)}

    def history(image: str) -> list:
        freed.set()
        return []

    app = fake(datastore=lambda: SimpleNamespace(label_history=history))
    app.info = slow
    answers = []
    with TestClient(monai_label(app), base_url="http://127.0.0.1") as client:
        asking = threading.Thread(target=lambda: answers.append(client.get("/info/").json()))
        asking.start()
        assert begun.wait(TIMEOUT_S)
        assert client.get("/datastore/label/history?image=A").json() == []
        asking.join(2 * TIMEOUT_S)
    assert answers == [{"freed": True}]


def routes() -> list:
    return [route for router in ROUTERS for route in router.routes]


def test_only_dicomweb_proxy_routes_run_in_the_event_loop():
    waiting = {route.path for route in routes() if inspect.iscoroutinefunction(route.endpoint)}
    assert waiting == {"/proxy/dicom/{path:path}"}  # its two routes only wait for another server


def test_each_path_has_one_route_and_unsupported_routes_are_absent():
    pairs = [(method, route.path) for route in routes() for method in route.methods]
    assert len(pairs) == len(set(pairs)) > 40
    assert not [path for _, path in pairs if "wsi" in path or path == "/reload"]
    assert {route.endpoint.__module__.rpartition(".")[0] for route in routes()} == {"brats_label.server"}


def test_openapi_description_lists_the_routes():
    assert "/infer/{model}" in build_server(fake()).openapi()["paths"]


@pytest.mark.parametrize("session", ["0", "..%2F..%2Fstudies", "0a1b2c3d-1111-2222-3333-444455556666x", "%00"])
def test_malformed_session_id_is_not_found_without_a_lookup(session):
    def get_session(session_id: str, update_ts: bool) -> None:
        raise AssertionError("was looked for")

    app = fake(sessions=lambda: SimpleNamespace(get_session=get_session))
    client = TestClient(build_server(app), base_url="http://127.0.0.1")
    for method in ("GET", "DELETE"):
        assert client.request(method, f"/session/{session}").status_code == 404


@pytest.fixture
def friend(monkeypatch):
    monkeypatch.setattr(server, "MONAI_LABEL_CORS_ORIGINS", [AnyHttpUrl(FRIEND)])


def ask(method: str, headers: dict, remote: bool = False):
    with TestClient(monai_label(fake(remote)), base_url="http://127.0.0.1:8000") as client:
        return client.request(method, "/info/", headers=headers)


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
def test_local_clients_and_allowed_origins_are_answered(friend, headers):
    assert ask("GET", headers).json() == {"name": "patient"}


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
def test_other_hosts_and_origins_are_refused(friend, method, headers, status, says):
    preflight = {"Access-Control-Request-Method": "GET"} if method == "OPTIONS" else {}
    response = ask(method, headers | preflight)
    assert response.status_code == status
    assert says in response.json()["detail"]
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("remote", [False, True])
def test_cors_header_is_sent_to_configured_origins_only(friend, monkeypatch, remote):
    shown = ask("GET", {"Origin": FRIEND}, remote).headers
    assert shown["access-control-allow-origin"] == FRIEND
    local = {"Origin": "http://localhost:3000"}
    assert "access-control-allow-origin" not in ask("GET", local, remote).headers
    monkeypatch.setattr(server, "MONAI_LABEL_CORS_ORIGINS", [])
    assert "access-control-allow-origin" not in ask("GET", local, remote).headers
    other = ask("GET", {"Origin": FRIEND, "Host": "server.example"}, remote=True)
    assert other.status_code == 200 and "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(("remote", "status"), [(False, 421), (True, 200)])
def test_remote_server_accepts_any_host_and_configured_origins(friend, remote, status):
    response = ask("GET", {"Host": "server.example", "Origin": FRIEND}, remote)
    assert response.status_code == status
    assert response.headers.get("access-control-allow-origin") == (FRIEND if remote else None)
