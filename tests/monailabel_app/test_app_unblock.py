"""What computes in a coroutine gets a thread; the event loop stays free."""

from __future__ import annotations

import inspect
import threading
from importlib import import_module

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient

from brats_label.server.flatten import flatten
from brats_label.server.install import install
from brats_label.server.unblock import in_a_thread, unblock
from brats_label.settings import Settings

PATIENCE_S = 5
ENDPOINTS = "activelearning batch_infer datastore infer info logs model ohif proxy scoring session train wsi_infer"
OF_MONAI_LABEL = tuple(import_module(f"monailabel.endpoints.{name}") for name in ENDPOINTS.split())


def upstream(router: APIRouter, path: str, endpoint) -> None:
    """Add an endpoint as if MONAI Label had."""
    endpoint.__module__ = "monailabel.endpoints.anything"
    router.add_api_route(path, endpoint)


@pytest.mark.parametrize("mended", [True, False])
def test_the_event_loop_answers_another_request_meanwhile(mended):
    begun, freed = threading.Event(), threading.Event()

    async def slow(seconds: float) -> bool:
        begun.set()
        return freed.wait(seconds)

    async def quick() -> bool:
        freed.set()
        return True

    api, router = FastAPI(), APIRouter()
    upstream(router, "/slow", slow)
    api.add_api_route("/quick", quick)
    api.include_router(router)
    if mended:
        flatten(api)
        unblock(api)
    answers = []
    with TestClient(api) as client:
        seconds = PATIENCE_S if mended else 0.3
        asking = threading.Thread(target=lambda: answers.append(client.get(f"/slow?seconds={seconds}").json()))
        asking.start()
        assert begun.wait(PATIENCE_S)
        assert client.get("/quick").json() is True
        asking.join(2 * PATIENCE_S)
    assert answers == [mended]  # as it is upstream, nobody is answered meanwhile


def test_an_endpoint_that_really_waits_is_told_of():
    async def inner():
        return 1

    class Later:
        def __await__(self):
            yield "the loop"

    async def waits():
        await Later()

    async def awaits_what_is_ready():
        return await inner()

    with pytest.raises(RuntimeError, match="waits for the event loop"):
        in_a_thread(waits)()
    assert in_a_thread(awaits_what_is_ready)() == 1


def test_parameters_and_errors_stay_as_they_were():
    async def endpoint(number: int, text: str = "x") -> str:
        """Says it."""
        if number < 0:
            raise ValueError("below zero")
        return text * number

    mended = in_a_thread(endpoint)
    assert inspect.signature(mended) == inspect.signature(endpoint) and mended.__doc__ == "Says it."
    assert not inspect.iscoroutinefunction(mended) and mended(2, text="ab") == "abab"
    with pytest.raises(ValueError, match="below zero"):
        mended(-1)


@pytest.fixture(scope="module")
def installed() -> FastAPI:
    """MONAI Label's routers, included as it includes them, with ours put in their place."""
    api = FastAPI()
    for module in OF_MONAI_LABEL:
        api.include_router(module.router)
    install(api, Settings())
    return api


def routes(api: FastAPI) -> list:
    return [r for r in iter_route_contexts(api.router.routes) if isinstance(r.original_route, APIRoute)]


def test_no_route_of_monai_label_is_left_in_the_event_loop(installed):
    theirs = [r for r in routes(installed) if r.endpoint.__module__.startswith("monailabel.endpoints")]
    assert len(theirs) > 10
    assert not [r.path for r in theirs if inspect.iscoroutinefunction(r.endpoint)]


def test_each_address_has_one_route_and_what_has_no_place_here_is_gone(installed):
    pairs = [(method, r.path) for r in routes(installed) for method in r.methods]
    assert len(pairs) == len(set(pairs))
    assert not [path for _, path in pairs if "wsi" in path or path == "/reload"]
    owners = {(method, r.path): r.endpoint.__module__ for r in routes(installed) for method in r.methods}
    assert owners["POST", "/infer/{model}"] == "brats_label.server.infer_route"
    assert owners["PUT", "/datastore/label"] == "brats_label.server.label_routes"
    assert owners["GET", "/proxy/dicom/{path:path}"] == "brats_label.server.proxy"
    assert owners["POST", "/activelearning/{strategy}"] == "monailabel.endpoints.activelearning"


def test_installing_twice_changes_nothing_more_and_the_description_can_be_made(installed):
    before = list(installed.router.routes)
    install(installed, Settings())
    assert installed.router.routes == before
    assert "/infer/{model}" in installed.openapi()["paths"]
