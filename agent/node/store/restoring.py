"""Opening `agent.db` at a start, and putting a good copy in the place of a damaged one (P12).

The damaged file goes to `corrupt/` with its log, the newest backup that verifies takes its place,
and only where there is none the node begins empty. Every step may be cut off: a database that is
not there is restored like one that is damaged. The caller holds the directory's lock, and no
connection is open.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.node.store.backup import (
    BackupImpossible,
    list_backups,
    make_directory_durable,
    sweep,
    verify,
)
from agent.node.store.connection import open_for_reading
from agent.node.store.damage import CHECKED_BYTES_MAX, StoreDamaged, find_damage, understand
from agent.node.store.threaded import ThreadedStore
from agent.node.store.versions import newest_applied

DATABASE_FILE = "agent.db"
CORRUPT_DIR = "corrupt"
CORRUPT_KEPT = 2  # they are as large as the database; one may be needed to see what was lost
_SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was done: from which copy (None: begun empty), as of when, and where the old one is.

    `covers`: it was the newest copy, so no run record was forgotten that it knows nothing of.
    """

    why: str
    at: datetime
    source: str | None
    made_at: datetime | None
    covers: bool
    aside: str | None
    passed_over: tuple[str, ...] = ()
    """Newer copies that did not verify, and why."""

    def told(self) -> dict[str, Any]:
        """For the log."""
        return {
            "why": self.why, "source": self.source or "none: begun empty", "aside": self.aside,
            "passed_over": list(self.passed_over),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A database in use. `unchecked`: large, and not closed properly; to be read beside the work"""

    store: ThreadedStore
    restored: Restored | None = None
    unchecked: bool = False


def open_store(state_dir: Path, now: datetime, condemned: str | None = None) -> Opened:
    """The database, whole; restored first where it is damaged, gone or `condemned`. Blocks.

    Raises `sqlite3.Error` or `OSError` where the disk, not the file, is at fault.
    """
    database = state_dir / DATABASE_FILE
    sweep(state_dir)
    unclean = database.with_name(f"{DATABASE_FILE}-wal").exists()
    why = condemned or _look(state_dir, unclean=unclean)
    if why is None:
        large = database.exists() and database.stat().st_size > CHECKED_BYTES_MAX
        try:
            return Opened(store=ThreadedStore(database), unchecked=unclean and large)
        except sqlite3.Error as error:
            if not isinstance(understand(error), StoreDamaged):
                raise
            why = str(error)
    restored = restore(state_dir, why, now)
    return Opened(store=ThreadedStore(database), restored=restored)


def restore(state_dir: Path, why: str, now: datetime) -> Restored:
    """Put the damaged database aside and the newest good copy in its place."""
    aside = put_aside(state_dir, now)
    passed_over = []
    for backup in list_backups(state_dir):
        try:
            verify(backup.path)
        except (BackupImpossible, sqlite3.Error) as error:
            passed_over.append(f"{backup.path.name}: {error}")
            continue
        _put_in_place(backup.path, state_dir / DATABASE_FILE)
        return Restored(
            why=why, at=now, source=backup.path.name, made_at=backup.made_at,
            covers=not passed_over, aside=aside, passed_over=tuple(passed_over),
        )  # fmt: skip
    return Restored(
        why=why, at=now, source=None, made_at=None, covers=False, aside=aside,
        passed_over=tuple(passed_over),
    )  # fmt: skip


def put_aside(state_dir: Path, now: datetime) -> str | None:
    """Move the database with its log to `corrupt/`; the name there, None where there was none.

    The database goes first: cut off behind it, the next start finds none and restores.
    """
    folder = state_dir / CORRUPT_DIR
    name = f"{DATABASE_FILE}-{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"
    moved = False
    for suffix in _SUFFIXES:
        found = state_dir / f"{DATABASE_FILE}{suffix}"
        if found.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            found.rename(folder / f"{name}{suffix}")
            moved = True
    if not moved:
        return None
    make_directory_durable(folder)
    make_directory_durable(state_dir)
    bases = sorted(path for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm")))
    for old in bases[:-CORRUPT_KEPT]:
        for suffix in _SUFFIXES:
            old.with_name(old.name + suffix).unlink(missing_ok=True)
    return f"{CORRUPT_DIR}/{name}"


def _look(state_dir: Path, *, unclean: bool) -> str | None:
    """Why the database must be restored before it is opened, or None.

    A small one is read through; a large one would keep everybody waiting for seconds.
    """
    database = state_dir / DATABASE_FILE
    size = database.stat().st_size if database.exists() else None
    if not size:
        lost = bool(list_backups(state_dir)) or (size is None and unclean)
        return f"{DATABASE_FILE} is {'gone' if size is None else 'empty'}" if lost else None
    if size > CHECKED_BYTES_MAX:
        return None
    try:
        return check(database) or _lost_everything(database)
    except sqlite3.Error as error:
        if isinstance(understand(error), StoreDamaged):
            return str(error)
        raise


def _lost_everything(database: Path) -> str | None:
    """Without its log a young database is whole and empty: what it had was in there."""
    with closing(open_for_reading(database)) as connection:
        lost = newest_applied(connection) is None
    return (
        f"{DATABASE_FILE} has lost its tables" if lost and list_backups(database.parent) else None
    )


def check(database: Path, stop: threading.Event | None = None) -> str | None:
    """Read all of the database beside whoever writes it; what is wrong with it, or None."""
    with closing(open_for_reading(database)) as connection:
        if stop is not None:
            connection.set_progress_handler(stop.is_set, 1_000_000)
        return find_damage(connection)


def _put_in_place(source: Path, database: Path) -> None:
    part = database.with_name(f"{DATABASE_FILE}.part")
    part.unlink(missing_ok=True)
    with source.open("rb") as good, part.open("xb") as copy:
        part.chmod(0o600)
        shutil.copyfileobj(good, copy, 1024 * 1024)
        copy.flush()
        os.fsync(copy.fileno())
    part.rename(database)
    make_directory_durable(database.parent)
