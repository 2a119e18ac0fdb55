"""A thousand cases in a real studies folder: handing one out stays quick however many were noted before."""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path

import pytest
from sqlalchemy import insert

from brats_clip.cases import SEQUENCES
from brats_label.case_info import Leases, Notes
from brats_label.errors import Refused
from brats_label.review.strategies import DESCRIPTIONS
from brats_label.store import Store, leases, notes, revisions

ROOT = Path(__file__).parents[2]
CASES = 1200


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The app on 1200 cases, all pre-annotated and handed out long ago. Listing opens no image of theirs."""
    studies = tmp_path_factory.mktemp("studies")
    for number in range(CASES):
        folder = studies / f"C{number:04d}"
        folder.mkdir()
        for sequence in SEQUENCES:
            (folder / f"{folder.name}_{sequence}.nii.gz").touch()
    main = importlib.import_module("main")
    app = main.BrainTumourApp(str(ROOT / "monailabel_app"), str(studies), {})
    cases = app.datastore().list_images()
    with app.store.write() as connection:  # one by one they would wait for the disk
        content = {"StudyDescription": "x"}
        connection.execute(insert(notes), [{"section": "images", "key": c, "content": content} for c in cases])
        lease = {"since": 5, "until": 6, "client_id": "a" * 20}
        connection.execute(
            insert(leases), [{"case_id": c, "strategy": name, **lease} for c in cases for name in DESCRIPTIONS]
        )
        record = {"tag": "original", "who": "unknown", "look_here": [{"region": "ET", "ml": 1.0}] * 3}
        rows = [
            {"case_id": c, "number": 1, "tag": "original", "sha256": "0"}
            | {"record": record | {"expected_dice": dict.fromkeys(("WT", "TC", "ET"), number / CASES)}}
            for number, c in enumerate(cases)
        ]
        connection.execute(insert(revisions), rows)
    return app


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_one_of_a_thousand_noted_cases_is_handed_out_at_once(app, name):
    logging.disable(logging.INFO)
    app.next_sample({"strategy": name})
    times = []
    for _ in range(5):
        started = time.perf_counter()
        found = app.next_sample({"strategy": name, "client_id": "anna"})
        # MONAI Label's route then notes the same once more.
        app.datastore().update_image_info(
            found["id"], {"strategy": app.datastore().get_image_info(found["id"])["strategy"]}
        )
        times.append(time.perf_counter() - started)
    logging.disable(logging.NOTSET)
    assert sorted(times)[2] < 1.0
    assert Leases(Store(app.store.path)).by_strategy(found["id"])[name]["client_id"] == "anna"


def test_notes_of_another_process_are_seen_and_equal_names_replaced(tmp_path):
    one, other = Notes(Store(tmp_path / "store.db")), Notes(Store(tmp_path / "store.db"))
    one.update("images", "a", {"x": 1, "y": "\u2028é"})
    other.update("images", "a", {"x": 2})
    assert one.get("images", "a") == {"x": 2, "y": "\u2028é"} == Notes(Store(tmp_path / "store.db")).get("images", "a")
    one.update("images", "b", {"z": 4})
    for kept in (one, other):
        assert kept.get("images", "a")["x"] == 2 and kept.get("images", "b") == {"z": 4}


@pytest.mark.parametrize("note", [{"x": {1}}, {"x": float("nan")}, {"x": "\ud800"}])
def test_what_is_no_plain_json_is_not_noted(tmp_path, note):
    with pytest.raises(Refused, match="JSON"):
        Notes(Store(tmp_path / "store.db")).update("images", "a", note)
