"""Who asks how the training goes gets an answer, also before the first."""

from __future__ import annotations

from types import SimpleNamespace

from fastapi import FastAPI
from fastapi.testclient import TestClient

from brats_label.server import train_routes
from brats_label.server.problems import speak_plainly


def test_before_any_training_its_state_is_idle_and_none_runs(monkeypatch):
    app = SimpleNamespace(train_progress=lambda: {"status": "idle"})
    monkeypatch.setattr(train_routes, "app_instance", lambda: app)
    monkeypatch.setattr(train_routes.AsyncTask, "status", lambda *_: (None, "no such task"))
    api = FastAPI()
    api.include_router(train_routes.router)
    speak_plainly(api)
    client = TestClient(api)
    assert client.get("/train/").json() == {"status": "IDLE", "progress": {"status": "idle"}}
    assert client.get("/train/?all=true").json() == []
    assert client.get("/train/?check_if_running=true").status_code == 404
