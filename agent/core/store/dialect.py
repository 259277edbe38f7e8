"""Everything that is SQLite's own: how to open it, what a transaction begins with, what is durable.

WAL with `synchronous=FULL`, because NORMAL lost half of what was acknowledged in power-cut tests
(docs/decisions). There is one writing connection per database, held by the lock on the directory:
SQLite 3.7.0–3.51.2 can corrupt a WAL that two connections write and checkpoint.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from agent.domain.errors import Fault, InvalidDocument, shown

BUSY_TIMEOUT_MS = 10_000
WAL_PAGES_CHECKPOINT = 4000
CACHE_KIB = 8 * 1024


def require_supported(url: str) -> None:
    """Raise `InvalidDocument` unless this version can use the database."""
    if url.startswith(("postgresql", "postgres:")):
        raise InvalidDocument(
            [Fault("database", "PostgreSQL is not supported by this version yet; use sqlite:///…")]
        )
    if not url.startswith("sqlite:///"):
        raise InvalidDocument(
            [Fault("database", f"{shown(url)} is not a database; write sqlite:////path/core.db")]
        )


def open_engine(url: str, *, writes: bool) -> Engine:
    """An engine whose one connection is used by one thread at a time."""
    # The pool keeps the one connection that a worker thread checks out for its whole life.
    engine = create_engine(url, connect_args={"check_same_thread": False}, poolclass=StaticPool)
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
