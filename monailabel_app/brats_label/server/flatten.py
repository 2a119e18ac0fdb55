"""FastAPI keeps an included router as one entry; MONAI Label's routes are changed one by one."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts


def flatten(api: FastAPI) -> None:
    """Put the routes of included routers into the app's own list, in their order."""
    flat = []
    for entry in api.router.routes:
        if hasattr(entry, "original_router"):
            flat += [again(api, route, route.endpoint) for route in iter_route_contexts([entry])]
        else:
            flat.append(entry)
    api.router.routes[:] = flat


def again(api: FastAPI, route, endpoint) -> APIRoute:
    """The same route with this endpoint; what it returns is sent as it is."""
    return APIRoute(
        route.path,
        endpoint,
        methods=route.methods,
        name=route.name,
        summary=route.summary,
        tags=route.tags,
        responses=route.responses,
        response_model=None,
        include_in_schema=route.include_in_schema,
        deprecated=route.deprecated,
        dependency_overrides_provider=api,
    )
