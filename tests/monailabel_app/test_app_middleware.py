"""Middleware: the size limit, the client filter and the request log."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient

from brats_label.server.middleware import ClientFilter, RequestLog, SizeLimit

LIMIT = 1000


@pytest.fixture
def client():
    api, router = FastAPI(), APIRouter(prefix="/infer")

    @router.post("/{model}")
    async def swallow(model: str, request: Request) -> dict:
        return {"bytes": len(await request.body()), "id": request.state.request_id}

    api.include_router(router)
    api.add_middleware(SizeLimit, limit=LIMIT)
    api.add_middleware(ClientFilter, remote=False)
    api.add_middleware(RequestLog)
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


def chunks(total: int):
    for _ in range(total // 100):
        yield bytes(100)


def test_body_within_the_limit_arrives_complete(client):
    assert client.post("/infer/x", content=bytes(LIMIT)).json()["bytes"] == LIMIT
    assert client.post("/infer/x", content=chunks(LIMIT)).json()["bytes"] == LIMIT


@pytest.mark.parametrize("body", [lambda: bytes(LIMIT + 1), lambda: chunks(LIMIT + 100)], ids=["declared", "chunked"])
def test_body_beyond_the_limit_is_refused_naming_the_setting(client, body):
    response = client.post("/infer/x", content=body())
    assert response.status_code == 413
    assert "max_upload_mb" in response.json()["detail"]
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_declared_size_beyond_the_limit_is_refused_before_reading():
    async def never(*_):
        raise AssertionError("was read")

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", b"5000")], "path": "/", "state": {}}
    asyncio.run(SizeLimit(never, LIMIT)(scope, never, send))
    assert sent[0]["status"] == 413


@pytest.mark.parametrize(
    ("client_address", "status"),
    [
        (("127.0.0.1", 1), 200),
        (("::1", 1), 200),
        (("::ffff:127.0.0.1", 1), 200),
        (("10.0.0.1", 1), 403),
        (("::ffff:10.0.0.1", 1), 403),
        (("2001:db8::1", 1), 403),
        (None, 200),
    ],
)
def test_only_this_machine_is_answered_unless_remote(client_address, status):
    assert request_from(client_address, remote=False)["status"] == status
    assert request_from(client_address, remote=True)["status"] == 200


def request_from(client_address, remote: bool) -> dict:
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "client": client_address, "path": "/info/", "headers": [], "state": {}}
    asyncio.run(ClientFilter(app, remote)(scope, None, send))
    return sent[0]


def test_the_log_has_a_line_per_request_without_query_ids_or_names(client, caplog):
    caplog.set_level(logging.INFO, "brats_clip.requests")
    first = client.post("/infer/secret_model?image=DOE_JOHN")
    client.get("/DOE_JOHN/1.2.3?name=DOE_JOHN")
    client.get("/nothing?x=DOE_JOHN")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "brats_clip.requests"]
    assert [line["route"] for line in lines] == ["/infer/{model}", "?", "/nothing"]
    assert [line["status"] for line in lines] == [200, 404, 404]
    assert lines[0]["method"] == "POST" and lines[0]["ms"] >= 0
    assert lines[0]["id"] == first.headers["x-request-id"] == first.json()["id"]
    assert not [line for line in lines if "DOE" in str(line)]
    assert len({line["id"] for line in lines}) == 3
