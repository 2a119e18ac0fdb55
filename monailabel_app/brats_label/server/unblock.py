"""Keep the event loop free: MONAI Label computes inside it, and every other request waits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from .flatten import again

WAITS = ("monailabel.endpoints.proxy",)  # these really await, and are replaced as a whole


def in_a_thread(endpoint: Callable[..., Coroutine]) -> Callable[..., Any]:
    """The same endpoint as a plain function, which FastAPI runs in a thread.

    MONAI Label's endpoints are coroutines by name only: they never wait for anything.
    """

    @functools.wraps(endpoint)
    def run(*args, **kwargs):
        coroutine = endpoint(*args, **kwargs)
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        coroutine.close()
        raise RuntimeError(f"{endpoint.__qualname__} waits for the event loop; serve it from there")

    # What wraps() copies still says coroutine to those who look for the marker.
    run.__wrapped__ = None
    del run.__wrapped__
    run.__signature__ = inspect.signature(endpoint)
    return run


def unblock(api: FastAPI) -> None:
    """Give every endpoint of MONAI Label that computes a thread."""
    for position, route in enumerate(api.router.routes):
        if not isinstance(route, APIRoute) or not inspect.iscoroutinefunction(route.endpoint):
            continue
        module = route.endpoint.__module__
        if module.startswith("monailabel.endpoints") and not module.startswith(WAITS):
            api.router.routes[position] = again(api, route, in_a_thread(route.endpoint))
