"""What differs between the databases, and nothing else does: how one is opened, and what its errors
mean. Everything above speaks SQLAlchemy Core, the same to both.

SQLite has one writer, whose commits are shared by whoever waits; PostgreSQL has several, shares
their commits itself, and may ask for a transaction to be run again.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from agent.domain.errors import Fault, InvalidDocument, shown


class Failure(StrEnum):
    """Whose fault an error is, and so what is done about it. None of them has changed anything."""

    OF_THE_WORK = "of_the_work"  # its caller gets it as it is
    BAD_VALUE = "bad_value"  # a value that no column can hold: the caller's caller sent it
    AGAIN = "again"  # it met another writer: run it again
    LOST = "lost"  # the connection is gone: open another, and run it again
    UNAVAILABLE = "unavailable"  # the database cannot take it now


class Database(Protocol):
    """One database, by its URL."""

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        ...

    @property
    def file(self) -> Path | None:
        """Where it lies, if it is a file that one process at a time may have."""
        ...

    @property
    def writers(self) -> int:
        """How many connections write; a single one shares its commits among who waits."""
        ...

    @property
    def readers(self) -> int:
        """How many connections read."""
        ...

    def open_engine(self, *, writes: bool) -> Engine:
        """An engine for one thread's connection; a reader's transactions are snapshots."""
        ...

    def open_for_schema(self) -> Engine:
        """An engine for migrations, which may take long."""
        ...

    def lock_schema(self, connection: Connection) -> None:
        """Be the only one who changes the schema, until the connection is closed."""
        ...

    def failure_of(self, error: BaseException) -> Failure:
        """What an error of a transaction means."""
        ...


def database_of(url: str) -> Database:
    """The database of a URL. Raises `InvalidDocument` for what this version cannot use."""
    # Only the one that is used is imported: each brings its driver along.
    if url.startswith(("postgresql:", "postgres:")):
        from agent.core.store.postgres import PostgresDatabase  # noqa: PLC0415

        return PostgresDatabase(url)
    from agent.core.store import sqlite  # noqa: PLC0415

    if not url.startswith(sqlite.SCHEME) or sqlite.file_of(url).name in ("", sqlite.IN_MEMORY):
        raise InvalidDocument(
            [
                Fault(
                    "database",
                    f"{shown(url)} is not a database; write sqlite:////path/core.db or "
                    "postgresql://user@host/name",
                )
            ]
        )
    return sqlite.SqliteDatabase(url)
