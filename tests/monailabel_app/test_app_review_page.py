"""The page of the review queue in headless Chromium: sort, open a case in OHIF, accept, and see the state change."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
import requests
import uvicorn
from app_server import RunningServer
from browser import launched
from review_archive import Archive

from brats_clip.phantoms import draw_phantom
from brats_label.demo.orthanc import LocalOrthanc, free_port
from brats_label.demo.phantom_study import write_study
from brats_label.review.strategies import make_strategies
from brats_label.server import build_server
from brats_label.settings import Settings

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def archive(tmp_path) -> Archive:
    """Five patients, all pre-annotated, three with a prediction."""
    archive = Archive(tmp_path)
    archive.add(*(f"P{number}" for number in range(5)))
    place = {"region": "ET", "kind": "missed piece", "ml": 1.2, "text": f"left temporal, slice 74: {EVIL}"}
    for number, dice in enumerate((0.9, 0.2, 0.5, None, None)):
        archive.suggest(f"P{number}", dice, look_here=[place])
    archive.now = time.time()
    return archive


@pytest.fixture
def server(archive):
    """Serve the app's own routes for the archive, without a network or images of patients."""
    strategies = make_strategies(archive.queue)

    def next_sample(request: dict) -> dict:
        return strategies[request["strategy"]](request, archive)

    app = SimpleNamespace(
        settings=Settings(),
        review=archive.queue,
        store=archive.store,
        datastore=lambda: archive,
        next_sample=next_sample,
    )
    archive.get_image_info = lambda image_id: {}
    config = uvicorn.Config(build_server(app), port=free_port(), log_level="error")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.05)
    yield SimpleNamespace(url=f"http://127.0.0.1:{config.port}")
    running.should_exit = True
    thread.join(10)


def opened(browser, server, who: str):
    page = browser.new_context().new_page()
    page.alerts = []
    page.on("dialog", lambda dialog: (page.alerts.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: page.alerts.append(str(error)))
    page.goto(f"{server.url}/review/")
    page.fill("#who", who)
    page.locator("#who").blur()
    return page


def order(page) -> list[str]:
    return page.eval_on_selector_all("#cases tbody tr", "rows => rows.map(row => row.dataset.case)")


def state(page, case_id: str) -> str:
    return page.locator(f'tr[data-case="{case_id}"] .state').inner_text()


def test_cases_are_sorted_by_expected_gain_and_by_a_clicked_column(browser, server):
    page = opened(browser, server, "anna")
    assert order(page) == ["P1", "P2", "P0", "P3", "P4"]
    assert page.inner_text("#sentence") == (
        "The 3 cases have an expected mean Dice of 0.53; 2 more have no prediction."
    )
    page.click('th:text-is("Case")')
    assert order(page) == ["P0", "P1", "P2", "P3", "P4"]
    page.click('th:text-is("Case")')
    assert order(page) == ["P4", "P3", "P2", "P1", "P0"]
    page.click('th:text-is("Expected Dice ET")')
    assert order(page)[:3] == ["P1", "P2", "P0"]  # unknown values stay last
    page.click('th:text-is("Expected Dice ET")')
    assert order(page)[:3] == ["P0", "P2", "P1"]
    assert EVIL in page.inner_text('tr[data-case="P1"]') and not page.alerts


def test_thumbnails_load_and_no_other_server_is_requested(browser, server, artefacts):
    page, asked = opened(browser, server, "anna"), []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_function("() => [...document.images].every(i => i.complete && i.naturalWidth > 20)", timeout=60_000)
    page.screenshot(path=artefacts / "review.png", full_page=True)
    assert asked and all(url.startswith(server.url) for url in asked)


def test_accept_changes_the_state_in_both_browsers(browser, server, archive):
    one, other = (opened(browser, server, who) for who in ("anna", "bob"))
    assert state(one, "P0") == "pre-annotated"
    one.click('tr[data-case="P0"] .accept')
    one.wait_for_function("() => document.querySelector('tr[data-case=P0] .state').textContent == 'accepted by anna'")
    assert one.locator('tr[data-case="P0"] .accept').is_disabled()
    assert one.inner_text("#message") == "P0: accepted."
    other.evaluate("refresh()")  # as the page does every 20 s
    other.wait_for_function("() => document.querySelector('tr[data-case=P0] .state').textContent == 'accepted by anna'")
    assert other.locator('tr[data-case="P0"] .accept').is_disabled()
    archive.leases.grant("P1", "random", "carol")
    one.click('tr[data-case="P1"] .accept')
    one.wait_for_selector("#message.bad")
    assert "being edited by carol until" in one.inner_text("#message")
    history = archive.labels.history("P0")
    assert [(v.tag, v.record["who"]) for v in history] == [("original", "unknown"), ("final", "anna")]
    assert history[1].record["accepted_from"] == 1 and not one.alerts


def test_next_gives_two_browsers_different_cases(browser, server):
    pages = [opened(browser, server, f"reader {number}") for number in range(2)]
    for _ in range(2):
        for page in pages:
            page.evaluate("document.getElementById('message').textContent = ''")
        for page in pages:  # neither waits for the other's answer
            page.evaluate("document.getElementById('next').click()")
        for page in pages:
            page.wait_for_function("() => document.getElementById('message').textContent")
    rows = requests.get(f"{server.url}/review/", headers={"Accept": "application/json"}, timeout=30).json()["cases"]
    editors = {row["case_id"]: row["editor"] for row in rows if row["state"] == "being edited"}
    assert sorted(editors.values()) == ["reader 0", "reader 0", "reader 1", "reader 1"]
    pages[0].reload()
    assert "being edited by reader" in state(pages[0], "P1")


@pytest.mark.e2e
@pytest.mark.slow
def test_case_opened_in_ohif_is_leased_to_its_reader(browser, needs_orthanc, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ohif")
    written = write_study(draw_phantom((3, 4)), folder / "dicom", "P1", None, "0/120@2", (60, 60, 40), (4, 4, 4))
    with LocalOrthanc(folder / "orthanc") as orthanc:
        orthanc.upload(written.files())
        with RunningServer(orthanc.url, folder / "server", {"workspace": folder / "workspace"}) as server:
            page = opened(browser, server, "anna")
            (case_id,) = order(page)
            with page.context.expect_page() as waiting:
                page.click("a.open")
            viewer = waiting.value
            viewer.wait_for_url(f"**/ohif/monai-label?StudyInstanceUIDs={written.study_uid}", timeout=60_000)
            viewer.wait_for_selector("#monailabelServerURL", timeout=120_000)
            assert state(page, case_id).startswith("being edited by anna until ")
