"""The state of the training can be requested before any training."""

from __future__ import annotations

from types import SimpleNamespace

from fastapi import FastAPI
from fastapi.testclient import TestClient

from brats_label.server import add_error_handlers, training_routes


def test_state_is_idle_before_any_training(monkeypatch):
    app = SimpleNamespace(train_progress=lambda: {"status": "idle"})
    monkeypatch.setattr(training_routes.AsyncTask, "status", lambda *_: (None, "no such task"))
    api = FastAPI()
    api.state.app = app
    api.include_router(training_routes.router)
    add_error_handlers(api)
    client = TestClient(api)
    assert client.get("/train/").json() == {"status": "IDLE", "progress": {"status": "idle"}}
    assert client.get("/train/?all=true").json() == []
    assert client.get("/train/?check_if_running=true").status_code == 404
