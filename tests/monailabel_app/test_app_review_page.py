"""The page of the review queue in headless Chromium: sort, open a case in OHIF, accept, and see the state change."""

from __future__ import annotations

import csv
import gzip
import io
import json

import nibabel as nib
import numpy as np
import pytest
import requests
from app_folders import as_brats
from app_server import RunningServer
from browser import launched
from sqlalchemy import select, update

from brats_clip.phantoms import draw_phantom
from brats_label.demo.orthanc import LocalOrthanc
from brats_label.demo.phantom_study import write_study
from brats_label.store import Store, revisions

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tiny_data_set, tmp_path_factory):
    """Five patients, pre-annotated; three with a prediction written beside."""
    studies = tmp_path_factory.mktemp("studies")
    for number in range(5):
        as_brats(tiny_data_set.folder / tiny_data_set.cases[number % 3], studies, f"P{number}")
    with RunningServer(studies, tmp_path_factory.mktemp("server")) as server:
        done = requests.post(f"{server.url}/batch/infer/segmentation?run_sync=true", json={}, timeout=240).json()
        assert done["finished"] == 5, done
        for case_id, dice in (("P0", 0.9), ("P1", 0.2), ("P2", 0.5)):
            predict(server, case_id, dice)
        yield server


def predict(server: RunningServer, case_id: str, dice: float) -> None:
    """As a segmenter that predicts its quality leaves it."""
    place = {"region": "ET", "kind": "missed", "ml": 1.2, "text": f"left temporal, slice 74: {EVIL}"}
    store = Store(f"{server.studies}/.brats_clip/store.db")
    with store.write() as connection:
        record = connection.scalar(select(revisions.c.record).where(revisions.c.case_id == case_id))
        record |= {"expected_dice": dict.fromkeys(("WT", "TC", "ET"), dice), "look_here": [place]}
        connection.execute(update(revisions).where(revisions.c.case_id == case_id).values(record=record))


def opened(browser, server: RunningServer, who: str):
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


def test_cases_come_by_expected_gain_and_every_column_sorts(browser, server):
    page = opened(browser, server, "anna")
    assert order(page) == ["P1", "P2", "P0", "P3", "P4"]
    assert "The 3 cases have" in (said := page.inner_text("#sentence")) or "expected mean Dice of 0.53" in said
    page.click('th:text-is("Case")')
    assert order(page) == ["P0", "P1", "P2", "P3", "P4"]
    page.click('th:text-is("Case")')
    assert order(page) == ["P4", "P3", "P2", "P1", "P0"]
    page.click('th:text-is("Expected Dice ET")')
    assert order(page)[:3] == ["P1", "P2", "P0"]  # what is not known stays last
    page.click('th:text-is("Expected Dice ET")')
    assert order(page)[:3] == ["P0", "P2", "P1"]
    assert EVIL in page.inner_text('tr[data-case="P1"]') and not page.alerts


def test_thumbnails_are_pictures_and_the_page_asks_nobody_else(browser, server, artefacts):
    page, asked = opened(browser, server, "anna"), []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_function("() => [...document.images].every(i => i.complete && i.naturalWidth > 20)", timeout=60_000)
    page.screenshot(path=artefacts / "review.png", full_page=True)
    assert asked and all(url.startswith(server.url) for url in asked)


def test_one_click_accepts_and_the_state_changes_here_and_in_another_browser(browser, server):
    one, other = (opened(browser, server, who) for who in ("anna", "bob"))
    assert state(one, "P0") == "pre-annotated"
    one.click('tr[data-case="P0"] .accept')
    one.wait_for_function("() => document.querySelector('tr[data-case=P0] .state').textContent == 'accepted by anna'")
    assert one.locator('tr[data-case="P0"] .accept').is_disabled()
    other.click('tr[data-case="P0"] .accept')  # the page is older than the label
    other.wait_for_selector("#message.bad")
    assert "accepted by anna" in other.inner_text("#message")
    history = requests.get(f"{server.url}/datastore/label/history?image=P0", timeout=30).json()
    assert [(v["tag"], v["who"]) for v in history] == [("original", "unknown"), ("final", "anna")]
    assert history[1]["accepted_from"] == 1 and not one.alerts


def test_two_browsers_at_once_never_get_the_same_case_by_next(browser, server):
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


def test_what_a_label_took_is_in_the_table(server):
    case_id = next(
        row["case_id"]
        for row in requests.get(f"{server.url}/review/?output=json", timeout=30).json()["cases"]
        if row["editor"] == "reader 1"
    )
    shape = np.array(nib.load(f"{server.studies}/{case_id}/{case_id}_t1ce.nii.gz").shape)
    params = {
        "ET": [(shape // 2).tolist()],
        "strokes": {"background": [[[2, 2, 2], [9, 2, 2]]]},
        "client_id": "reader 1",
    }
    url = f"{server.url}/infer/deepedit?image={case_id}&output=image"
    answer = requests.post(url, data={"params": json.dumps(params)}, timeout=60)
    assert not np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(answer.content)).dataobj)[2:10, 2, 2].any()
    saved = requests.put(
        f"{server.url}/datastore/label?image={case_id}",
        files={"label": ("label.nii.gz", answer.content)},
        data={"params": json.dumps({"client_id": "reader 1"})},
        timeout=60,
    )
    assert saved.status_code == 200, saved.text
    table = requests.get(f"{server.url}/review/export.csv", timeout=30)
    assert table.headers["content-type"].startswith("text/csv")
    rows = {row["case"]: row for row in csv.DictReader(io.StringIO(table.text))}
    assert (rows[case_id]["who"], rows[case_id]["clicks"]) == ("reader 1", "2") and float(rows[case_id]["seconds"]) > 0
    assert (rows["P0"]["state"], rows["P0"]["clicks"]) == ("accepted", "0")


def test_a_case_opens_in_ohif_and_is_then_with_who_opened_it(browser, needs_orthanc, tmp_path_factory):
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


def test_the_queue_works_without_weights_and_says_what_lacks_for_an_answer(tiny_data_set, tmp_path):
    as_brats(tiny_data_set.folder / tiny_data_set.cases[0], tmp_path / "studies", "P0")
    with RunningServer(tmp_path / "studies", tmp_path / "server", {"bundle": without_weights(tmp_path)}) as server:
        rows = requests.get(f"{server.url}/review/?output=json", timeout=30).json()["cases"]
        assert [(row["case_id"], row["state"]) for row in rows] == [("P0", "new")]
        assert requests.get(f"{server.url}/review/", timeout=30).text.count('<tr data-case="P0"') == 1
        took = requests.post(f"{server.url}/review/P0/lease?client_id=anna", timeout=30).json()
        assert took["editor"] == "anna"
        label = {"label": ("label.nii.gz", (tmp_path / "studies" / "P0" / "P0_seg.nii.gz").read_bytes())}
        assert requests.put(f"{server.url}/datastore/label?image=P0", files=label, timeout=60).status_code == 200
        assert requests.get(f"{server.url}/review/P0/thumbnail.png", timeout=30).content[:4] == b"\x89PNG"


def without_weights(folder):
    """The bundle's folder without ``model.pt``."""
    import brats_clip

    bundle = folder / "bundle"
    bundle.mkdir()
    for part in ("configs", "brats_clip"):
        (bundle / part).symlink_to(brats_clip.bundle_root() / part)
    (bundle / "models").mkdir()
    (bundle / "models" / "clip").symlink_to(brats_clip.bundle_root() / "models" / "clip")
    return bundle
