"""A damaged database, told apart from a disk that fails for now and from a mistake of ours.

Damage is for the restore (agent.node.store.restoring); a failing disk is waited for.
"""

from __future__ import annotations

import sqlite3

from agent.domain.errors import Refused

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FOR_NOW = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY}
    | {sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY}
    | {sqlite3.SQLITE_PROTOCOL}
)
_OUR_TABLES = frozenset({"actions", "events", "meta", "counts", "refused", "recurring", "brakes"})
CHECKED_BYTES_MAX = 16 * 1024 * 1024  # of a start: about 50 ms; what is larger is checked beside


class StoreUnavailable(Refused):
    """The database cannot be used now (disk full, I/O error); nothing was changed."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


class StoreDamaged(StoreUnavailable):
    """The database itself is damaged; it is about to be put aside and restored.

    `cause` is for afterwards, when it has been.
    """

    def __init__(self, message: str, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause or message


def understand(error: sqlite3.Error) -> StoreUnavailable | None:
    """What an error of SQLite means for who asked; None where it is the question's own fault."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED or _lost_table(error) or _rotten_text(error):
        return StoreDamaged(
            f"the database is damaged and is being restored: {error}",
            cause=f"the database was damaged: {error}",
        )
    if code in _FOR_NOW:
        return StoreUnavailable(f"the database cannot be used now: {error}")
    return None


def find_damage(connection: sqlite3.Connection, *, thorough: bool = False) -> str | None:
    """The first thing that is wrong with the file, or None. Reads all of it.

    `thorough` compares the indexes with their tables, too.
    """
    pragma = "integrity_check" if thorough else "quick_check"
    try:
        found = connection.execute(f"PRAGMA {pragma}(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if isinstance(understand(error), StoreDamaged):
            return str(error)
        raise
    return None if found == "ok" else str(found)


def _lost_table(error: sqlite3.Error) -> bool:
    """A file that was emptied while it was open is a database without tables."""
    before, found, table = str(error).partition("no such table: ")
    return bool(found) and not before and table.removeprefix("main.") in _OUR_TABLES


def _rotten_text(error: sqlite3.Error) -> bool:
    """We store nothing but UTF-8."""
    return str(error).startswith("Could not decode to UTF-8")
