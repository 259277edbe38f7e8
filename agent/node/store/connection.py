"""Opening `agent.db`: the pragmas, each with its reason.

One connection writes; another only reads. Python's SQLite may be one of the versions with the
WAL-reset bug, which needs two connections that write and checkpoint, so there is never a second.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

WAL_BYTES_KEPT = 16 * 1024 * 1024
BUSY_MS = 5_000


def open_for_writing(path: Path | str) -> sqlite3.Connection:
    """The one connection that writes. May be used from another thread than the one opening it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # acknowledged means durable; NORMAL loses commits at a power cut
        f"journal_size_limit = {WAL_BYTES_KEPT}",
        f"busy_timeout = {BUSY_MS}",
        "foreign_keys = ON",
        "secure_delete = FAST",  # Debian's ON writes zeros over all that is pruned, through the log
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.row_factory = sqlite3.Row
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that can only read, for queries beside the writer."""
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.row_factory = sqlite3.Row
    return connection


def immutable_uri(path: Path) -> str:
    """For a file that nobody writes: read as it stands, without lock, log or shared memory."""
    return f"file:{_quoted(path)}?mode=ro&immutable=1"


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
