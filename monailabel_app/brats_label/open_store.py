"""Open the store of a workspace. Records of an earlier version of the app, in JSON files, are imported once.

The JSON files stay unchanged. A record that cannot be read is an error where guessing would do harm (case ids, the
split); any other is skipped and logged.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert

from brats_clip.errors import InputError
from brats_clip.evaluation import sha256_of

from . import store
from .settings import Workspace

logger = logging.getLogger(__name__)
_NUMBER = re.compile(r"\d{4,}")
_LEASE_S = 2 * 3600.0  # duration of a lease in the earlier version


def open_store(workspace: Workspace) -> store.Store:
    """Open the store of a workspace.

    Raises:
        InputError, OSError: as ``Store``, or for a damaged file of the earlier layout.
    """
    return store.Store(workspace.store, lambda connection: _take_in(connection, workspace))


def _take_in(connection: Connection, workspace: Workspace) -> None:
    """Import the records of the earlier version into a new store."""
    state = workspace.state
    _identities(connection, _must_read(state / "identities.json"))
    _split(connection, _must_read(state / "split.json"))
    _revisions(connection, workspace.labels / "versions")
    _notes(connection, state / "notes.jsonl")
    for path in sorted((state / "unsent").glob("*.json")):
        if entry := _read(path, lambda content: {name: content[name] for name in ("token", "problem")}):
            _add(connection, store.outbox, case_id=json.loads(path.read_text("utf-8"))["case"], attempts=1, **entry)
    _weights(connection, state / "models")


def _identities(connection: Connection, content: dict[str, Any]) -> None:
    for place, entry in content.items():
        _add(connection, store.patients, patient=entry["patient"])
        _add(connection, store.cases, place=place, case_id=entry["case"], patient=entry["patient"])


def _split(connection: Connection, content: dict[str, Any]) -> None:
    for patient, entry in content.items():
        sides = {"side": entry["side"], "since": entry.get("since")}
        statement = insert(store.patients).values(patient=patient, **sides)
        connection.execute(statement.on_conflict_do_update(index_elements=["patient"], set_=sides))


def _revisions(connection: Connection, folder: Path) -> None:
    for path in folder.glob("*/[0-9]*.nii.gz"):
        number = _NUMBER.match(path.name)
        if number and not path.with_name(f"{number[0]}.json").exists():
            # Its record was lost or never written: keep the file. If it is the newest, its copy in "final" is imported.
            path.rename(path.with_name(f"found_{sha256_of(path)[:12]}.nii.gz"))
    for path in sorted(folder.glob("*/*.json")):
        if _NUMBER.fullmatch(path.stem) and (record := _read(path, lambda content: {"tag": content["tag"], **content})):
            sha256 = None if record.get("removed") else record.get("sha256")
            number = int(path.stem)
            _add(connection, store.revisions, case_id=path.parent.name, number=number, tag=record["tag"],
                 sha256=sha256, record=record)  # fmt: skip


def _notes(connection: Connection, path: Path) -> None:
    content: dict[tuple[str, str], dict] = {}
    try:
        whole = path.read_bytes().rpartition(b"\n")[0]  # a killed process may have left half a line
        for line in whole.splitlines():
            section, key, notes = json.loads(line)
            content.setdefault((section, key), {}).update(notes)
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError) as reason:
        raise InputError(path, "a damaged file", "notes as JSON; delete the file to continue without them") from reason
    for (section, key), notes in content.items():
        _add(connection, store.notes, section=section, key=key, content=notes)
        served = notes.get("strategy") if section == "images" else None
        for strategy, record in served.items() if isinstance(served, dict) else ():
            since = record.get("ts") if isinstance(record, dict) else None
            if isinstance(since, int | float) and not isinstance(since, bool):
                until, client_id = since + _LEASE_S, str(record.get("client_id") or "")
                _add(connection, store.leases, case_id=key, strategy=strategy, since=since, until=until,
                     client_id=client_id)  # fmt: skip


def _weights(connection: Connection, folder: Path) -> None:
    names = ("number", "name", "sha256", "metrics", "trained_on", "parent", "created")
    for path in sorted(folder.glob("[0-9]*/version.json")):
        if entry := _read(path, lambda content: {name: content[name] for name in names}):
            _add(connection, store.weights, **entry)
    current = folder / "current.json"
    if entry := _read(current, lambda content: {"number": int(content["number"])}):
        _add(connection, store.weights_uses, since="", **entry)


def _add(connection: Connection, table: store.Table, **values: Any) -> None:
    connection.execute(insert(table).values(**values).on_conflict_do_nothing())


def _must_read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for entry in content.values():
            if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
                raise ValueError("an entry of another kind")
        return content
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as reason:
        expected = "what was written there; bring the file back from a backup"
        raise InputError(path, f"a damaged file ({type(reason).__name__})", expected) from reason


def _read(path: Path, take: Callable[[Any], dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return take(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as reason:
        logger.warning("%s is left out: it cannot be read (%s)", path, type(reason).__name__)
        return None
