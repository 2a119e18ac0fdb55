"""Put all of it into MONAI Label's FastAPI app, however that was started."""

from __future__ import annotations

import logging

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from monailabel.config import settings as server

from ..settings import Settings
from . import (
    batch_routes,
    front_page,
    infer_route,
    kept_routes,
    label_routes,
    login_route,
    model_routes,
    proxy,
    session_routes,
    train_routes,
    viewer,
)
from .authentication import authenticate
from .flatten import flatten
from .middleware import Doorkeeper, RequestLog, SizeLimit
from .origins import OwnPages, allow_origins
from .problems import speak_plainly
from .unblock import unblock

logger = logging.getLogger("brats_clip.server")

ROUTERS: tuple[APIRouter, ...] = (
    batch_routes.router,
    front_page.router,
    infer_route.router,
    kept_routes.router,
    label_routes.router,
    login_route.router,
    model_routes.router,
    proxy.router,
    session_routes.router,
    train_routes.router,
    viewer.router,
)
# For pathology slides; and some that would start the app a second time.
DROPPED = ("/infer/wsi", "/infer/wsi_v2", "/batch", "/reload", "/scoring")


def install(api: FastAPI, settings: Settings) -> None:
    """Replace routes, handle errors, and put limits around them. Once per server.

    The app is only told of the server when that is starting already, so the middleware, which was put together for the
    start, is put together anew.
    """
    if getattr(api.state, "brats_clip", False):
        return
    flatten(api)
    ours = {(method, prefix_free(r.path)) for router in ROUTERS for r in router.routes for method in r.methods}
    api.router.routes[:] = [
        route
        for route in api.router.routes
        if not (
            isinstance(route, APIRoute)
            and (
                route.path.startswith(DROPPED)
                or route.endpoint.__module__ == "monailabel.endpoints.proxy"
                or any((method, prefix_free(route.path)) in ours for method in route.methods)
            )
        )
    ]
    unblock(api)
    mounted = len(api.router.routes)
    for router in ROUTERS:
        api.include_router(router)
    # Ours first: a pattern of MONAI Label's must not catch what is meant for them.
    api.router.routes[:] = api.router.routes[mounted:] + api.router.routes[:mounted]
    speak_plainly(api)
    authenticate(api)
    # As a browser writes them; pydantic ends them with a slash.
    allowed = [str(origin).rstrip("/") for origin in server.MONAI_LABEL_CORS_ORIGINS]
    allow_origins(api, allowed)
    for middleware, options in (
        (SizeLimit, {"limit": settings.max_upload_mb * 2**20}),
        *([] if settings.remote else [(OwnPages, {"allowed": allowed})]),
        (Doorkeeper, {"remote": settings.remote}),
        (RequestLog, {}),
    ):
        _wrap(api, middleware, options)
    api.middleware_stack = None
    api.openapi_schema = None
    api.state.brats_clip = True
    logger.info("routes of MONAI Label replaced; requests of other machines: %s", settings.remote)


def prefix_free(path: str) -> str:
    """A path with its parameters' names left out, so that two patterns compare."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def _wrap(api: FastAPI, middleware: type, options: dict) -> None:
    api.middleware_stack = None  # else FastAPI refuses to add any
    api.add_middleware(middleware, **options)
