"""MONAI Label's OHIF viewer in headless Chromium, on a phantom's DICOM study in Orthanc."""

from __future__ import annotations

import base64
import gzip
import json
import re
from types import SimpleNamespace
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import RunningServer
from browser import launched
from stored_segs import find_segs

from brats_clip.phantoms import draw_phantom
from brats_label.demo.orthanc import LocalOrthanc
from brats_label.demo.phantom_study import Extras, write_study
from brats_label.dicom.seg import read_seg
from brats_label.labels.naming import LABELS
from brats_label.settings import Settings
from brats_label.studies.dicomweb import DicomWebSource

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TIMEOUT_MS = 120_000
REPORT = "Ring-enhancing mass with necrosis, surrounded by oedema."
LABELMAP = """() => {
    const volume = services.segmentationService.getLabelmapVolume('1');
    const segments = services.segmentationService.getSegmentation('1').segments;
    const data = volume.voxelManager.getCompleteScalarDataArray();
    let bytes = '';
    for (let i = 0; i < data.length; i += 32768) {
        bytes += String.fromCharCode.apply(null, Array.from(data.slice(i, i + 32768)));
    }
    return {
        voxels: btoa(bytes),
        shape: volume.dimensions, origin: volume.origin,
        direction: Array.from(volume.direction), spacing: volume.spacing,
        names: Object.fromEntries(Object.values(segments).map(s => [s.label, s.segmentIndex])),
    };
}"""


@pytest.fixture(scope="module")
def study(needs_orthanc, tmp_path_factory):
    """Serve a patient with a localiser and a FLAIR of thick sagittal slices."""
    folder = tmp_path_factory.mktemp("ohif")
    extras = Extras(localiser=True, thick_flair=True)
    written = write_study(draw_phantom((3, 4)), folder / "dicom", "P1", extras, "0/120@2", (120, 120, 78), (2, 2, 2))
    with LocalOrthanc(folder / "orthanc") as orthanc:
        orthanc.upload(written.files())
        with RunningServer(orthanc.url, folder / "server", {"workspace": folder / "workspace"}) as server:
            yield SimpleNamespace(series=written.series, study_uid=written.study_uid, server=server, orthanc=orthanc)


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, study):
    return opened(browser, study, "AX T1 MPRAGE POST GD")


def opened(browser, study, description: str):
    """Open the study in the viewer, show one series and connect the panel."""
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.goto(f"{study.server.url}/ohif/monai-label?StudyInstanceUIDs={study.study_uid}")
    page.wait_for_selector("#monailabelServerURL", timeout=TIMEOUT_MS)
    page.click("text=Confirm and Hide")
    show(page, description)
    page.click(".settingsTable button")
    page.wait_for_selector("text=Auto-Segmentation", timeout=TIMEOUT_MS)
    page.wait_for_function("() => services.segmentationService.getLabelmapVolume('1')", timeout=TIMEOUT_MS)
    return page


def show(page, description: str) -> None:
    page.dblclick(f"text='{description}'")
    page.wait_for_function(
        "() => [...services.viewportGridService.getState().viewports.values()].every(v => v.isReady !== false)",
        timeout=TIMEOUT_MS,
    )
    page.wait_for_timeout(3000)


def run(page, tab: str):
    """Press Run in a tab; return the server's response once the viewer has drawn it."""
    with page.expect_response(lambda response: "/infer/" in response.url, timeout=TIMEOUT_MS) as waiting:
        page.locator(f'.tab:has(label:text-is("{tab}")) button:text-is("Run")').click()
    page.wait_for_timeout(2500)
    return waiting.value


def labelmap(page) -> tuple[np.ndarray, np.ndarray]:
    """Return the label map that the viewer shows, in values of ``LABELS`` by segment name, and its affine (RAS)."""
    shown = page.evaluate(LABELMAP)
    voxels = np.frombuffer(base64.b64decode(shown["voxels"]), np.uint8).reshape(shown["shape"], order="F")
    lookup = np.zeros(256, np.uint8)
    for name, index in shown["names"].items():
        lookup[index] = LABELS[name]
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(shown["direction"], (3, 3)).T * shown["spacing"]
    affine[:3, 3] = shown["origin"]
    return lookup[voxels], np.diag([-1, -1, 1, 1]) @ affine


def ask(study, model: str, series: str, params: str = "{}") -> nib.Nifti1Image:
    url = f"{study.server.url}/infer/{model}"
    query = {"image": study.series[series], "output": "image"}
    response = requests.post(url, params=query, data={"params": params}, timeout=120)
    assert response.status_code == 200, response.text
    return nib.Nifti1Image.from_bytes(gzip.decompress(response.content))


def tick_submit(page, model: str, on: bool) -> None:
    page.click("text=Options / Configurations")
    page.select_option('select[name="selectName"]', model)
    page.set_checked(f"#infer{model}submit", on)
    confirm(page, f"#infer{model}submit")


def set_report(page, report: str) -> None:
    page.click("text=Options / Configurations")
    page.fill("#infersegmentationreport", report)
    confirm(page, "#infersegmentationreport")


def confirm(page, field: str) -> None:
    """Save the options of the dialog that contains ``field``, and wait until it has closed, which may take a while."""
    page.click('button:text-is("Confirm")')
    page.wait_for_selector(field, state="detached", timeout=TIMEOUT_MS)
    page.wait_for_timeout(500)


def test_typed_report_click_and_submit_in_the_viewer(study, page, artefacts):
    set_report(page, REPORT)
    response = run(page, "Auto-Segmentation")
    assert response.status == 200 and REPORT in response.request.post_data
    done = page.locator('[data-sonner-toast][data-type="success"]', has_text="Running Segmentation - Successful. WT ")
    assert done.count() == 1
    first, affine = labelmap(page)
    page.screenshot(path=artefacts / "ohif_segmentation.png")
    answer = ask(
        study, "segmentation", "t1ce", '{"report": "Ring-enhancing mass with necrosis, surrounded by oedema."}'
    )
    np.testing.assert_allclose(affine, answer.affine, atol=1e-3)
    np.testing.assert_array_equal(first, np.asarray(answer.dataobj))
    assert {1, 2, 4} == set(np.unique(first)) - {0}

    page.click('label:text-is("Point Prompts")')
    page.click('tr.clickable-row:has(td:text-is("ET"))')
    canvas = page.locator(".cornerstone-canvas").first.bounding_box()
    page.mouse.click(canvas["x"] + 0.38 * canvas["width"], canvas["y"] + 0.5 * canvas["height"])
    page.wait_for_timeout(1000)
    response = run(page, "Point Prompts")
    assert response.status == 200
    clicked = posted_points(response.request.post_data, "ET")
    second, _ = labelmap(page)
    page.screenshot(path=artefacts / "ohif_click.png")
    assert (second != first).sum() > 10
    assert all(second[tuple(point)] == LABELS["ET"] for point in clicked)

    client = DicomWebSource(study.orthanc.url, Settings(), artefacts / "cache").client
    assert not find_segs(client, study.study_uid)
    tick_submit(page, "deepedit", True)
    response = run(page, "Point Prompts")
    tick_submit(page, "deepedit", False)
    assert response.status == 200
    submitted, _ = labelmap(page)
    np.testing.assert_array_equal(submitted, second)
    (seg,) = find_segs(client, study.study_uid)
    stored, names = read_seg(seg, affine, second.shape)
    np.testing.assert_array_equal(stored, second)
    assert {name: LABELS[name] for name in names} == names and set(names) == {"NCR/NET", "ED", "ET"}
    url, query = f"{study.server.url}/datastore/label", {"label": study.series["t1ce"], "tag": "final"}
    label = nib.Nifti1Image.from_bytes(gzip.decompress(requests.get(url, params=query, timeout=60).content))
    np.testing.assert_array_equal(np.asarray(label.dataobj), second)


def posted_points(posted: str, name: str) -> list[list[int]]:
    params = json.loads(posted[posted.index("{") : posted.rindex("}") + 1])
    assert params[name]
    return params[name]


def test_the_studies_panel_lists_the_series_of_the_patient(page):
    """The panel searches by PatientID, which in the demo once had characters that Orthanc does not decode."""
    if not page.locator('[data-cy="study-browser-thumbnail"]').count():
        page.locator('[data-cy="side-panel-header-left"]').click()
    page.wait_for_selector('[data-cy="study-browser-thumbnail"]', timeout=TIMEOUT_MS)
    shown = page.locator('[data-cy="study-browser-thumbnail"]').all_inner_texts()
    for description in ("AX T1 MPRAGE", "AX T1 MPRAGE POST GD", "AX T2 TSE", "SAG FLAIR"):
        assert any(description in text for text in shown), shown


def test_report_that_contradicts_the_image_shows_a_warning(study, page, artefacts):
    page.click('label:text-is("Auto-Segmentation")')
    set_report(page, "Mass in the left parietal lobe.")
    response = run(page, "Auto-Segmentation")
    warning = "The report was not used: The report says left; the tumour is on the right."
    assert unquote(response.headers["x-warning"]) == warning
    assert page.locator(f"text={warning}").count() == 1
    toast = page.locator('[data-sonner-toast][data-type="warning"]', has_text=warning)
    assert re.search(r"WT [0-9.]+ ml, TC [0-9.]+ ml, ET [0-9.]+ ml", toast.inner_text())
    page.wait_for_timeout(9000)
    page.screenshot(path=artefacts / "ohif_warning.png")
    assert toast.count() == 1  # it stays until it is closed
    toast.locator("button", has_text="Close").click()
    toast.wait_for(state="detached", timeout=10_000)
    set_report(page, "")


def test_thick_sagittal_sequence_gets_the_segmentation_on_its_own_grid(study, browser, artefacts):
    page = opened(browser, study, "SAG FLAIR")
    assert run(page, "Auto-Segmentation").status == 200
    page.screenshot(path=artefacts / "ohif_flair.png")
    shown, affine = labelmap(page)
    answer = ask(study, "segmentation", "flair")
    np.testing.assert_allclose(affine, answer.affine, atol=1e-3)
    np.testing.assert_array_equal(shown, np.asarray(answer.dataobj))
    assert shown.shape != ask(study, "segmentation", "t1ce").shape and shown.any()
