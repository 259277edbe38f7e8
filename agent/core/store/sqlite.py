"""Everything that is SQLite's own: how to open it, what a transaction begins with, what is durable.

WAL with `synchronous=FULL`, because NORMAL lost half of what was acknowledged in power-cut tests
(docs/decisions). There is one writing connection per database, held by the locks of `state_dir`:
SQLite 3.7.0–3.51.2 can corrupt a WAL that two connections write and checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, ProgrammingError
from sqlalchemy.pool import StaticPool

from agent.core.store.database import Failure

BUSY_TIMEOUT_MS = 10_000
WAL_PAGES_CHECKPOINT = 4000
CACHE_KIB = 8 * 1024
READERS = 2
SCHEME = "sqlite:///"
IN_MEMORY = ":memory:"
_OF_THE_WORK = (IntegrityError, DataError, ProgrammingError)  # its own fault, not the database's
_NO_COLUMN_HOLDS = (OverflowError, UnicodeEncodeError)  # beyond 64 bits; half of a surrogate pair


class SqliteDatabase:
    """A file, opened by one process at a time."""

    writers = 1
    readers = READERS

    def __init__(self, url: str) -> None:
        self.shown = url
        self.file = file_of(url)

    def open_engine(self, *, writes: bool) -> Engine:
        """An engine whose one connection is used by one thread at a time."""
        return open_engine(self.shown, writes=writes)

    def open_for_schema(self) -> Engine:
        """The same as a writer's."""
        return open_engine(self.shown, writes=True)

    def lock_schema(self, connection: Connection) -> None:
        """The lock of the state directory has seen to that."""

    def failure_of(self, error: BaseException) -> Failure:
        """What is not the work's own fault may have rolled everything back."""
        if isinstance(error, _NO_COLUMN_HOLDS):
            return Failure.BAD_VALUE
        if isinstance(error, DatabaseError) and not isinstance(error, _OF_THE_WORK):
            return Failure.UNAVAILABLE
        return Failure.OF_THE_WORK


def file_of(url: str) -> Path:
    """Where the database is: what follows the scheme is a path as it stands, `?` and `%` too."""
    return Path(url.removeprefix(SCHEME))


def open_engine(url: str, *, writes: bool) -> Engine:
    """An engine whose one connection is used by one thread at a time."""
    # The pool keeps the one connection that a worker thread checks out for its whole life.
    engine = create_engine(
        URL.create("sqlite", database=url.removeprefix(SCHEME)),
        connect_args={"check_same_thread": False},
        poolclass=StaticPool,
        hide_parameters=True,  # an error's text goes to the log, payloads and digests do not
    )
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling begins too late and never for SELECT.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
            f"wal_autocheckpoint={WAL_PAGES_CHECKPOINT}",
            f"cache_size=-{CACHE_KIB}",
            *([] if writes else ["query_only=ON"]),
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
