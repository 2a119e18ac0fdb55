"""More than a thousand cases in a studies folder: selecting the next one is fast however many notes there are."""

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
    """The app on 1200 cases, all pre-annotated and with expired leases. Their images are empty: listing opens none."""
    studies = tmp_path_factory.mktemp("studies")
    for number in range(CASES):
        folder = studies / f"C{number:04d}"
        folder.mkdir()
        for sequence in SEQUENCES:
            (folder / f"{folder.name}_{sequence}.nii.gz").touch()
    main = importlib.import_module("main")
    app = main.BrainTumourApp(str(ROOT / "monailabel_app"), str(studies), {})
    cases = app.datastore().list_images()
    with app.store.write() as connection:  # separate transactions would wait for the disk each time
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
def test_next_sample_is_fast_with_many_cases(app, name):
    logging.disable(logging.INFO)
    app.next_sample({"strategy": name})
    times = []
    for _ in range(5):
        started = time.perf_counter()
        found = app.next_sample({"strategy": name, "client_id": "anna"})
        # MONAI Label's route then stores the same note again.
        app.datastore().update_image_info(
            found["id"], {"strategy": app.datastore().get_image_info(found["id"])["strategy"]}
        )
        times.append(time.perf_counter() - started)
    logging.disable(logging.NOTSET)
    assert sorted(times)[2] < 1.0
    assert Leases(Store(app.store.path)).by_strategy(found["id"])[name]["client_id"] == "anna"


def test_notes_of_another_store_are_seen_and_equal_keys_are_replaced(tmp_path):
    one, other = Notes(Store(tmp_path / "store.db")), Notes(Store(tmp_path / "store.db"))
    one.update("images", "a", {"x": 1, "y": "\u2028é"})
    other.update("images", "a", {"x": 2})
    assert one.get("images", "a") == {"x": 2, "y": "\u2028é"} == Notes(Store(tmp_path / "store.db")).get("images", "a")
    one.update("images", "b", {"z": 4})
    for kept in (one, other):
        assert kept.get("images", "a")["x"] == 2 and kept.get("images", "b") == {"z": 4}


@pytest.mark.parametrize("note", [{"x": {1}}, {"x": float("nan")}, {"x": "\ud800"}])
def test_note_that_is_not_plain_json_is_refused(tmp_path, note):
    with pytest.raises(Refused, match="JSON"):
        Notes(Store(tmp_path / "store.db")).update("images", "a", note)
