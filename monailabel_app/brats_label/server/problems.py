"""Every error as a status and a sentence: 4xx for what a client can mend, 5xx with an id for what is ours."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from fastapi import FastAPI, HTTPException, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from starlette.exceptions import HTTPException as StarletteHTTPException

from brats_clip.errors import InputError, WeightsError

from ..errors import Busy, ClientError

logger = logging.getLogger("brats_clip.server")

# MONAI Label answers 500 to these, though the client alone can mend them.
MENDED = {
    "Neither Image nor File not Session ID input is provided": 400,
    "DICOM SEG format is not supported in a non-DICOM datastore": 422,
}


def answer(status: int, sentence: str, request: Request, headers: dict[str, str] | None = None) -> JSONResponse:
    """What every client gets: the sentence, the status, and the request's id, which is in the log."""
    body = {"detail": sentence, "status": status, "request_id": getattr(request.state, "request_id", "")}
    return JSONResponse(body, status_code=status, headers=headers)


def speak_plainly(api: FastAPI) -> None:
    """Register handlers for all errors. MONAI Label's own way is a bare 500."""
    api.add_exception_handler(ClientError, _client)
    api.add_exception_handler(InputError, _input)
    api.add_exception_handler(WeightsError, _ours)  # the weights are the server's, not the client's
    api.add_exception_handler(MONAILabelException, _monailabel)
    api.add_exception_handler(RequestValidationError, _validation)
    api.add_exception_handler(json.JSONDecodeError, _json)
    api.add_exception_handler(StarletteHTTPException, _http)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _ours)


async def _client(request: Request, error: ClientError) -> JSONResponse:
    headers = {"Retry-After": "5"} if isinstance(error, Busy) else None
    return answer(error.status, error.sentence, request, headers)


async def _input(request: Request, error: InputError) -> JSONResponse:
    return answer(422, str(error), request)


async def _monailabel(request: Request, error: MONAILabelException) -> JSONResponse:
    if isinstance(error, (ImageNotFoundException, LabelNotFoundException)):
        return answer(404, error.msg, request)
    if error.error == MONAILabelError.INVALID_INPUT or "no such" in error.msg or "There is no" in error.msg:
        return answer(404, error.msg, request)
    return await _ours(request, error)


async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
    # Not the values: they may hold a report.
    wrong = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in jsonable_encoder(error.errors())]
    return answer(422, "; ".join(wrong), request)


async def _json(request: Request, error: json.JSONDecodeError) -> JSONResponse:
    return answer(400, f"params: found no JSON ({error.msg} at character {error.pos}); expected an object.", request)


async def _http(request: Request, error: StarletteHTTPException) -> JSONResponse:
    detail = error.detail if isinstance(error.detail, str) else json.dumps(error.detail)
    status = MENDED.get(detail, error.status_code)
    if status >= 500:
        return await _ours(request, error)
    if detail == HTTPStatus(status).phrase:
        detail = f"{request.method} {request.url.path}: {detail.lower()}."
    return answer(status, detail, request, dict(error.headers) if error.headers else None)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    number = getattr(request.state, "request_id", "")
    logger.error("request %s failed: %s", number, type(error).__name__, exc_info=error)
    sentence = f"The server failed; its log says why under request {number}."
    return answer(500, sentence, request)
