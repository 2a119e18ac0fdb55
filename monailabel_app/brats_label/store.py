"""The app's records: one SQLite file in the workspace.

Images, label files, weights and caches are separate files. Each is written atomically before the row that refers to it,
so that a row never refers to a missing file. Several threads and processes (server, training) use the database at once;
SQLite's write lock is its only lock. https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    exc,
)

from brats_clip.errors import InputError

_metadata = MetaData()

patients = Table(
    "patients",
    _metadata,
    Column("patient", Text, primary_key=True),
    Column("side", Text),  # "training" or "validation"; NULL until the patient has a label
    Column("since", Text),
)
# ``place`` identifies a case across restarts: folder and name below the studies, or the StudyInstanceUID.
cases = Table(
    "cases",
    _metadata,
    Column("place", Text, primary_key=True),
    Column("case_id", Text, nullable=False),
    Column("patient", Text, ForeignKey("patients.patient"), nullable=False),
)
# No foreign key to cases: labels are kept when their case is removed from the studies folder.
revisions = Table(
    "revisions",
    _metadata,
    Column("case_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("tag", Text, nullable=False),
    Column("sha256", Text),  # of the file; NULL where the label was removed
    Column("record", JSON, nullable=False),
)
outbox = Table(
    "outbox",
    _metadata,
    Column("case_id", Text, primary_key=True),
    Column("token", Text, nullable=False),  # a new one for each change of the label
    Column("attempts", Integer, nullable=False, default=0),
    Column("problem", Text, nullable=False, default=""),
)
leases = Table(
    "leases",
    _metadata,
    Column("case_id", Text, primary_key=True),
    Column("strategy", Text, primary_key=True),
    Column("since", Float, nullable=False),  # seconds since 1970
    Column("until", Float, nullable=False),
    Column("client_id", Text, nullable=False),
)
notes = Table(
    "notes",
    _metadata,
    Column("section", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("content", JSON, nullable=False),
)
# Answers that a user got for a case, in order; ``current`` marks the one that undo and redo start from.
prompts = Table(
    "prompts",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("case_id", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("current", Integer, nullable=False),
    Column("since", Float, nullable=False),  # seconds since 1970
    Column("answer", JSON, nullable=False),
    Column("label", LargeBinary, nullable=False),
)
Index("prompts_of", prompts.c.case_id, prompts.c.who)
weights = Table(
    "weights",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("trained_on", JSON, nullable=False),
    Column("parent", Integer),
    Column("created", Text, nullable=False),
)
# Which version was selected for use, and when; the last row is the version in use.
weights_uses = Table(
    "weights_uses",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("since", Text, nullable=False),
)

# Statements that migrate schema version 1, 2, ... to the next. A new file gets the tables above.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "DROP TABLE IF EXISTS scores",
        "CREATE TABLE prompts (id INTEGER NOT NULL PRIMARY KEY, case_id TEXT NOT NULL, who TEXT NOT NULL, "
        "current INTEGER NOT NULL, since FLOAT NOT NULL, answer JSON NOT NULL, "
        "label BLOB NOT NULL)",
        "CREATE INDEX prompts_of ON prompts (case_id, who)",
    ),
)
_EXPECTED = "the app's records; bring the file back from a backup"
_WAIT_S = 60
_ERRORS = {"full": errno.ENOSPC, "readonly": errno.EROFS, "locked": errno.EBUSY, "unable to open": errno.EACCES}
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Store:
    """Connections to the SQLite file. Safe to use from several threads and processes, also after a fork.

    Args:
        path: the file; created if it is missing, with its folder.
        fill: called once, in the transaction that creates the tables.

    Raises:
        InputError: if the file is not a database, damaged, or written by a later version of the app.
        OSError: if it cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike, fill: Callable[[Connection], None] | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(f"sqlite:///{self.path}", connect_args={"timeout": _WAIT_S})
        event.listen(self._engine, "connect", _on_connect)
        event.listen(self._engine, "begin", _on_begin)
        _engines.add(self._engine)
        with self.read() as connection:
            version = _version(connection)
        if version != 1 + len(MIGRATIONS):
            with self.write() as connection:
                self._migrate(connection, fill)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction: a consistent snapshot that concurrent writes do not change.

        Raises:
            InputError, OSError: as the class.
        """
        with self._plain_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a write transaction, one at a time: committed to disk if the block succeeds, rolled back if it raises.

        Raises:
            InputError, OSError: as the class.
        """
        immediate = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        with self._plain_errors(), immediate.begin() as connection:
            yield connection

    def _migrate(self, connection: Connection, fill: Callable[[Connection], None] | None) -> None:
        version, latest = _version(connection), 1 + len(MIGRATIONS)
        if version > latest:
            raise InputError(self.path, f"records of version {version}", f"{latest} at most; update the app")
        if version == 0:
            _metadata.create_all(connection)
            if fill is not None:
                fill(connection)
        else:
            for statement in (statement for step in MIGRATIONS[version - 1 :] for statement in step):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {latest}")

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except exc.OperationalError as error:
            says = str(error.orig)
            number = next((number for words, number in _ERRORS.items() if words in says), errno.EIO)
            raise OSError(number, os.strerror(number), str(self.path)) from error
        except exc.DatabaseError as error:
            if isinstance(error, exc.IntegrityError):
                raise
            raise InputError(self.path, f"a damaged file ({error.orig})", _EXPECTED) from error


def _version(connection: Connection) -> int:
    return connection.exec_driver_sql("PRAGMA user_version").scalar_one()


def _on_connect(connection, _) -> None:
    connection.isolation_level = None  # _on_begin starts transactions, not the driver
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # committed rows survive a power failure
    connection.execute("PRAGMA foreign_keys = ON")


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def close_idle() -> None:
    """Close idle connections; once none is open, SQLite merges its write-ahead log into the database file."""
    for engine in list(_engines):
        engine.dispose()


if hasattr(os, "register_at_fork"):  # a fork must not inherit a connection: https://www.sqlite.org/howtocorrupt.html
    os.register_at_fork(before=close_idle)
