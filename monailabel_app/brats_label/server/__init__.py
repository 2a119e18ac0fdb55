"""The server: one ASGI application with all routes that clients use, its middleware, and a handler for every error."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from monailabel.config import settings as server
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware

from brats_clip.errors import InputError, WeightsError

from ..errors import Busy, ClientError
from . import (
    authentication,
    case_routes,
    dicomweb_proxy,
    inference_routes,
    pages,
    review_routes,
    training_routes,
    viewer,
)
from .middleware import AllowedHosts, ClientFilter, RequestLog, SizeLimit

logger = logging.getLogger("brats_clip.server")

ROUTERS: tuple[APIRouter, ...] = (
    authentication.router,
    pages.router,
    training_routes.model_router,
    inference_routes.router,
    inference_routes.batch_router,
    training_routes.router,
    case_routes.sample_router,
    case_routes.router,
    review_routes.router,
    viewer.router,
    dicomweb_proxy.router,
    inference_routes.session_router,
)


def build_server(app: Any) -> FastAPI:
    """Build the application that serves ``app``, a ``BrainTumourApp``. Its middleware is listed outermost first."""
    settings = app.settings
    # As browsers send them; pydantic appends a slash.
    allowed = [str(origin).rstrip("/") for origin in server.MONAI_LABEL_CORS_ORIGINS]
    cors = {"allow_origins": allowed, "allow_credentials": True, "allow_methods": ["*"], "allow_headers": ["*"]}
    api = FastAPI(
        title=server.MONAI_LABEL_PROJECT_NAME,
        docs_url=None,
        redoc_url="/docs",
        middleware=[
            Middleware(RequestLog),
            Middleware(ClientFilter, remote=settings.remote),
            *([] if settings.remote else [Middleware(AllowedHosts, allowed=allowed)]),
            Middleware(SizeLimit, limit=settings.max_upload_mb * 2**20),
            *([Middleware(CORSMiddleware, **cors)] if allowed else []),
        ],
    )
    api.state.app = app
    for router in ROUTERS:
        api.include_router(router)
    api.mount("/static", StaticFiles(directory=pages.STATIC))
    add_error_handlers(api)
    logger.info("clients on other machines: %s", "allowed" if settings.remote else "refused")
    return api


def add_error_handlers(api: FastAPI) -> None:
    """Register a handler for each kind of error that a route may raise."""
    api.add_exception_handler(ClientError, _client_error)
    api.add_exception_handler(InputError, _input_error)
    api.add_exception_handler(WeightsError, _server_error)  # the weights are the server's: not a client error
    api.add_exception_handler(MONAILabelException, _monailabel_error)
    api.add_exception_handler(RequestValidationError, _validation_error)
    api.add_exception_handler(json.JSONDecodeError, _json_error)
    api.add_exception_handler(StarletteHTTPException, _http_error)
    api.add_exception_handler(Exception, _server_error)


def _response(status: int, sentence: str, request: Request, headers: dict[str, str] | None = None) -> JSONResponse:
    """Build an error response: the message, the status, and the request ID, which is also in the log."""
    body = {"detail": sentence, "status": status, "request_id": getattr(request.state, "request_id", "")}
    return JSONResponse(body, status_code=status, headers=headers)


async def _client_error(request: Request, error: ClientError) -> JSONResponse:
    headers = {"Retry-After": "5"} if isinstance(error, Busy) else None
    return _response(error.status, error.sentence, request, headers)


async def _input_error(request: Request, error: InputError) -> JSONResponse:
    return _response(422, str(error), request)


async def _monailabel_error(request: Request, error: MONAILabelException) -> JSONResponse:
    not_found = isinstance(error, (ImageNotFoundException, LabelNotFoundException))
    if not_found or error.error == MONAILabelError.INVALID_INPUT:
        return _response(404, error.msg, request)
    return await _server_error(request, error)


async def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    # Leave out the values: they may contain a report.
    wrong = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
    return _response(422, "; ".join(wrong), request)


async def _json_error(request: Request, error: json.JSONDecodeError) -> JSONResponse:
    return _response(400, f"params: found no JSON ({error.msg} at character {error.pos}); expected an object.", request)


async def _http_error(request: Request, error: StarletteHTTPException) -> JSONResponse:
    if error.status_code >= 500:
        return await _server_error(request, error)
    detail = error.detail if isinstance(error.detail, str) else json.dumps(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:
        detail = f"{request.method} {request.url.path}: {detail.lower()}."
    return _response(error.status_code, detail, request, dict(error.headers) if error.headers else None)


async def _server_error(request: Request, error: Exception) -> JSONResponse:
    request_id = getattr(request.state, "request_id", "")
    logger.error("request %s failed: %s", request_id, type(error).__name__, exc_info=error)
    return _response(500, f"The server failed; its log says why under request {request_id}.", request)
