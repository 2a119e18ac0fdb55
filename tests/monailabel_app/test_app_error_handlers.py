"""Error handlers: a client error becomes a 4xx with a message, a server error a 500 with the id of its log entry."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)

from brats_clip.errors import CaseError, InputError, LabelError, ReportError, WeightsError
from brats_label.errors import Busy, ClientError, NotFound, Refused, TooLarge, Unreachable
from brats_label.server import add_error_handlers
from brats_label.server.middleware import RequestLog

SECRET = "/home/doe_john/scan.nii.gz"


def decode_error() -> Exception:
    try:
        json.loads("{")
    except json.JSONDecodeError as error:
        return error


def ask(error: Exception):
    api = FastAPI()

    @api.get("/fails/{number}")
    def fails(number: int) -> None:
        raise error

    add_error_handlers(api)
    api.add_middleware(RequestLog)
    return TestClient(api, raise_server_exceptions=False).get("/fails/1")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ClientError("a"), 400),
        (ClientError("a", 409), 409),
        (NotFound("a"), 404),
        (Refused("a"), 422),
        (TooLarge("a"), 413),
        (Busy("a"), 429),
        (Unreachable("a"), 424),
        (InputError("x", "y", "z"), 422),
        (CaseError("x", "y", "z"), 422),
        (LabelError("x", "y", "z"), 422),
        (ReportError("x", "y", "z"), 422),
        (ImageNotFoundException("a"), 404),
        (LabelNotFoundException("a"), 404),
        (MONAILabelException(MONAILabelError.INVALID_INPUT, "a"), 404),
        (HTTPException(418, "a"), 418),
        (decode_error(), 400),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_client_error_is_a_4xx_with_its_message(error, status):
    response = ask(error)
    assert response.status_code == response.json()["status"] == status
    said = getattr(error, "detail", None) or getattr(error, "sentence", None) or getattr(error, "msg", "") or str(error)
    assert said in response.json()["detail"] or "JSON" in response.json()["detail"]
    assert response.json()["request_id"] == response.headers["x-request-id"] != ""


def test_busy_sets_retry_after():
    assert int(ask(Busy("a")).headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(SECRET),
        WeightsError(SECRET, "no file", "weights"),
        MONAILabelException(MONAILabelError.SERVER_ERROR, SECRET),
        HTTPException(500, SECRET),
        HTTPException(503, SECRET),
        KeyError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_server_error_is_a_500_with_the_logged_id_and_no_details(error, caplog):
    caplog.set_level(logging.ERROR, "brats_clip.server")
    response = ask(error)
    assert response.status_code == response.json()["status"] == 500
    number = response.json()["request_id"]
    assert number and number in response.json()["detail"] and SECRET not in response.text
    records = [record for record in caplog.records if record.name == "brats_clip.server"]
    assert number in records[0].getMessage() and records[0].exc_info


def test_invalid_parameter_is_named_without_its_value():
    api = FastAPI()

    @api.get("/train/{number}")
    def train(number: int) -> None:
        """Never called."""

    add_error_handlers(api)
    client = TestClient(api)
    response = client.get("/train/glioma-of-john-doe")
    assert response.status_code == 422
    assert "number" in response.json()["detail"] and "doe" not in response.text


def test_unknown_path_and_wrong_method_are_named():
    api = FastAPI()
    api.get("/here")(lambda: 1)
    add_error_handlers(api)
    client = TestClient(api)
    assert client.get("/there").json()["detail"] == "GET /there: not found."
    assert client.patch("/here").status_code == 405 and "PATCH /here" in client.patch("/here").json()["detail"]
