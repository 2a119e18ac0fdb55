"""The store: one SQLite file for several threads and processes, imported once from earlier layouts."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from app_folders import tiny_case
from sqlalchemy import exc, insert, select

from brats_clip.errors import InputError
from brats_clip.evaluation import sha256_of
from brats_label import store
from brats_label.labels.store import LabelStore
from brats_label.open_store import open_store
from brats_label.settings import Settings, Workspace
from brats_label.store import Store, close_idle, notes
from brats_label.studies.open import open_studies


def rows(kept: Store, table) -> list[dict]:
    with kept.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def note(kept: Store, key: str, **content) -> None:
    with kept.write() as connection:
        connection.execute(insert(notes).values(section="s", key=key, content=content))


def test_write_is_seen_by_another_store_and_failed_write_is_rolled_back(tmp_path):
    kept = Store(tmp_path / "new" / "store.db")
    note(kept, "a", x=1)
    with pytest.raises(ZeroDivisionError), kept.write() as connection:
        connection.execute(insert(notes).values(section="s", key="b", content={}))
        1 / 0  # noqa: B018
    assert rows(Store(kept.path), notes) == [{"section": "s", "key": "a", "content": {"x": 1}}]


def test_store_uses_wal_foreign_keys_and_full_synchronisation(tmp_path):
    with Store(tmp_path / "store.db").read() as connection:
        ask = lambda name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()  # noqa: E731
        assert (ask("journal_mode"), ask("foreign_keys"), ask("synchronous")) == ("wal", 1, 2)
    with pytest.raises(exc.IntegrityError), Store(tmp_path / "store.db").write() as connection:
        connection.execute(insert(store.cases).values(place="p", case_id="c", patient="nobody"))


def test_reader_sees_committed_rows_without_waiting_for_a_writer(tmp_path):
    kept = Store(tmp_path / "store.db")
    note(kept, "a")
    with kept.write() as writing:
        writing.execute(insert(notes).values(section="s", key="b", content={}))
        assert len(rows(kept, notes)) == 1
        with kept.read() as reading:
            assert len(reading.execute(select(notes)).all()) == 1
    assert len(rows(kept, notes)) == 2


def count(path: Path, times: int) -> None:
    """Increment a counter; without a lock, concurrent increments would be lost."""
    kept = Store(path)
    for _ in range(times):
        with kept.write() as connection:
            found = connection.scalar(select(notes.c.content).where(notes.c.key == "n")) or {"n": 0}
            connection.execute(notes.delete().where(notes.c.key == "n"))
            connection.execute(insert(notes).values(section="s", key="n", content={"n": found["n"] + 1}))


def test_concurrent_threads_and_processes_lose_no_write(tmp_path):
    path = tmp_path / "store.db"
    workers = [multiprocessing.get_context("fork").Process(target=count, args=(path, 20)) for _ in range(3)]
    workers += [threading.Thread(target=count, args=(path, 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert rows(Store(path), notes)[0]["content"] == {"n": 120}


def test_store_works_in_parent_and_child_after_a_fork(tmp_path):
    kept = Store(tmp_path / "store.db")
    note(kept, "before")
    child = multiprocessing.get_context("fork").Process(target=note, args=(kept, "child"))
    child.start()
    note(kept, "parent")
    child.join(60)
    assert child.exitcode == 0 and {row["key"] for row in rows(kept, notes)} == {"before", "parent", "child"}


def write_for_ever(path: Path, pipe: int) -> None:
    kept, number = Store(path), 0
    while True:
        number += 1
        with kept.write() as connection:
            for half in "ab":
                content = {"x": str(number) * 3000}
                connection.execute(insert(notes).values(section=half, key=str(number), content=content))
        os.write(pipe, f"{number}\n".encode())


def test_committed_transactions_survive_a_kill_and_others_are_rolled_back(tmp_path):
    for delay in (0.0, 0.02, 0.05):
        path = tmp_path / f"{delay}.db"
        reading, writing = os.pipe()
        process = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(path, writing))
        process.start()
        os.close(writing)
        said = os.read(reading, 100)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        while text := os.read(reading, 2**16):
            said += text
        os.close(reading)
        acknowledged = said.decode().split("\n")[:-1]
        by_half = {half: {row["key"] for row in rows(Store(path), notes) if row["section"] == half} for half in "ab"}
        assert by_half["a"] == by_half["b"] >= set(acknowledged) > set()


def test_damaged_file_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "store.db"
    path.write_text("<html>" * 1000)
    with pytest.raises(InputError, match=r"store\.db: found a damaged file .*backup"):
        Store(path)


def test_file_of_a_later_version_is_refused_and_left_unchanged(tmp_path):
    path = tmp_path / "store.db"
    note(Store(path), "a")
    with Store(path).write() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 99")
    with pytest.raises(InputError, match=r"found records of version 99; expected 2 at most; update the app"):
        Store(path)
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT key FROM notes").fetchall() == [("a",)]


def test_file_of_an_earlier_version_is_migrated_step_by_step(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    note(Store(path), "a")
    steps = (("ALTER TABLE notes ADD COLUMN author TEXT",), ("UPDATE notes SET author = 'anna'",))
    with Store(path).write() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 1")
    monkeypatch.setattr(store, "MIGRATIONS", steps[:1])
    Store(path)
    monkeypatch.setattr(store, "MIGRATIONS", steps)
    for _ in range(2):
        with Store(path).read() as connection:
            assert connection.exec_driver_sql("SELECT key, author FROM notes").all() == [("a", "anna")]
            assert connection.exec_driver_sql("PRAGMA user_version").scalar() == 3


def test_migration_from_version_1_gives_the_current_schema(tmp_path):
    def tables(path: Path) -> dict:
        with sqlite3.connect(path) as raw:
            names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: [tuple(row[1:4]) for row in raw.execute(f"PRAGMA table_info({name})")] for name in names}

    path = tmp_path / "store.db"
    note(Store(path), "a")
    with Store(path).write() as connection:
        connection.exec_driver_sql("DROP TABLE prompts")
        connection.exec_driver_sql("CREATE TABLE scores (version TEXT, case_id TEXT, written INTEGER, content TEXT)")
        connection.exec_driver_sql("PRAGMA user_version = 1")
    assert [row["key"] for row in rows(Store(path), notes)] == ["a"]
    assert tables(path) == tables(Store(tmp_path / "new.db").path)


def test_read_only_store_raises_oserror(tmp_path):
    kept = Store(tmp_path / "store.db")
    with pytest.raises(OSError, match="Read-only file system"), kept.write() as connection:
        connection.exec_driver_sql("PRAGMA query_only = 1")
        connection.execute(insert(notes).values(section="s", key="a", content={}))


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def earlier(tmp_path) -> Path:
    """A studies folder of an earlier version of the app, with all records in JSON files."""
    studies = tmp_path / "studies"
    tiny_case(studies / "here" / "x", "CASE")
    state, versions = studies / ".brats_clip", studies / "labels" / "versions" / "first"
    write(state / "identities.json", {"here/x/CASE": {"case": "first", "patient": "alice"}})
    write(state / "split.json", {"alice": {"side": "training", "since": "2025"}, "bob": {"side": "validation"}})
    lines = [["images", "first", {"x": 1}], ["images", "first", {"y": 2}], ["images", "first", {"x": 3}]]
    lines += [["images", "first", {"strategy": {"random": {"ts": 5, "client_id": "anna"}}}]]
    for number, strategy in enumerate(([], "x", {"s": 3}, {"s": {"ts": "soon"}}, {"s": {}})):
        lines += [["images", f"odd{number}", {"strategy": strategy}]]
    write(state / "notes.jsonl", "\n".join(map(json.dumps, lines)) + '\n["images", "fir')
    write(state / "unsent" / "first.json", {"case": "first", "token": "t", "problem": "It does not answer."})
    write(state / "models" / "0002" / "version.json", "{")
    facts = {"sha256": "0", "metrics": {"mean": 0.5}, "trained_on": {}, "parent": 0, "created": "2025"}
    write(state / "models" / "0001" / "version.json", {"number": 1, "name": "0.2.0+site.1", **facts})
    write(state / "models" / "current.json", {"number": 1, "highest": 1})
    for number, record in enumerate(({"who": "anna"}, {"who": "bob"}, {"removed": True}, {"who": "carol"}), start=1):
        record = {"tag": "final", "when": "2025", **record}
        if "removed" not in record:
            image = nib.Nifti1Image(np.full((4, 5, 6), number % 3, np.uint8), np.eye(4))
            versions.mkdir(parents=True, exist_ok=True)
            nib.save(image, versions / f"{number:04d}.nii.gz")
            record["sha256"] = sha256_of(versions / f"{number:04d}.nii.gz")
        write(versions / f"{number:04d}.json", record)
    (studies / "labels" / "final").mkdir()
    shutil.copy(versions / "0004.nii.gz", studies / "labels" / "final" / "first.nii.gz")
    return studies


def test_workspace_of_an_earlier_version_is_imported_once(earlier):
    workspace = Workspace(earlier)
    kept = open_store(workspace)
    labels = LabelStore(workspace.labels, kept)
    assert [(v.number, v.record["who"]) for v in labels.history("first") if not v.removed] == [
        (1, "anna"),
        (2, "bob"),
        (4, "carol"),
    ]
    assert labels.current("first").number == 4 and labels.labelled() == ["first"] and labels.unimported_files() == []
    assert labels.current_path("first") == earlier / "labels" / "final" / "first.nii.gz"
    [(case_id, case)] = open_studies(str(earlier), Settings())[0].cases().items()
    assert (case_id, case.patient) == ("first", "alice")
    sides = {row["patient"]: row["side"] for row in rows(kept, store.patients)}
    assert sides == {"alice": "training", "bob": "validation"}
    noted = {row["key"]: row["content"] for row in rows(kept, notes)}["first"]
    assert (noted["x"], noted["y"]) == (3, 2)
    assert [(row["case_id"], row["since"], row["client_id"]) for row in rows(kept, store.leases)] == [
        ("first", 5, "anna")
    ]
    assert [(row["case_id"], row["problem"]) for row in rows(kept, store.outbox)] == [("first", "It does not answer.")]
    assert [(row["name"], row["metrics"]) for row in rows(kept, store.weights)] == [("0.2.0+site.1", {"mean": 0.5})]
    assert [row["number"] for row in rows(kept, store.weights_uses)] == [1]
    write(workspace.state / "identities.json", "{")  # the file is not read again
    assert len(rows(open_store(workspace), store.revisions)) == 4


@pytest.mark.parametrize("name", ["identities.json", "split.json", "notes.jsonl"])
def test_damaged_earlier_record_is_an_error_and_is_read_again_at_the_next_start(earlier, name):
    workspace = Workspace(earlier)
    path = workspace.state / name
    content = path.read_text()
    path.write_text("{\n")
    with pytest.raises(InputError, match=name):
        open_store(workspace)
    path.write_text(content)
    assert len(rows(open_store(workspace), store.revisions)) == 4


def test_label_files_are_kept_when_the_store_is_lost(earlier):
    workspace = Workspace(earlier)
    labels = LabelStore(workspace.labels, open_store(workspace))
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4))
    contents = [labels.save("first", image, "final", {}).path.read_bytes()]
    contents += [path.read_bytes() for path in (workspace.labels / "versions" / "first").glob("000*.nii.gz")]
    close_idle()
    shutil.rmtree(workspace.state)
    for path in (workspace.labels / "versions").rglob("*.json"):
        path.unlink()
    labels = LabelStore(workspace.labels, open_store(workspace))
    assert labels.history("first") == [] and labels.unimported_files() == [("first", "final")]
    kept = [path.read_bytes() for path in (workspace.labels / "versions" / "first").iterdir()]
    assert set(kept) == set(contents)


def test_label_files_are_kept_when_the_store_is_restored_from_a_backup(tmp_path):
    def save(number: int) -> bytes:
        image = nib.Nifti1Image(np.full((4, 5, 6), number, np.uint8), np.eye(4))
        return labels.save("CASE", image, "final", {}).path.read_bytes()

    path = tmp_path / "store.db"
    labels = LabelStore(tmp_path / "labels", Store(path))
    save(1)
    close_idle()
    backup = path.read_bytes()
    later = [save(2), save(4)]
    close_idle()
    path.write_bytes(backup)
    labels = LabelStore(tmp_path / "labels", Store(path))
    assert [revision.number for revision in labels.history("CASE")] == [1]
    found = [path.read_bytes() for path in (tmp_path / "labels" / "versions" / "CASE").glob("found_*")]
    assert set(later) == set(found) and labels.unimported_files() == [("CASE", "final")]
