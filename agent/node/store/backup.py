"""Copies of `agent.db` that are known to be good: made beside the writer, verified, then named.

A file with a backup's name has been verified: it is written under another name, checked, made
durable and only then renamed, so that whatever is killed in between leaves no half backup. The copy
is one snapshot held by a reader of its own: the writer goes on and its log grows meanwhile.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.domain.errors import AgentError
from agent.node.store import events
from agent.node.store.connection import immutable_uri, open_for_reading
from agent.node.store.damage import find_damage
from agent.node.store.meta import read_meta

BACKUPS_DIR = "backups"
PART_SUFFIX = ".part"
SLICE_PAGES = 256  # 1 MiB: the pause after each leaves the disk and a processor to the others
SLICE_PAUSE_S = 0.01
SYNC_SLICES = 8  # a disk that is given a gigabyte at once makes every commit wait behind it
SPARE_BYTES = 8 * 1024 * 1024  # left free: for what runs, and for the log
NICE = 10
_NAME = re.compile(r"agent-(\d{6,})-(\d{8}T\d{6})Z\.db\Z", re.ASCII)


class BackupImpossible(AgentError):
    """There is no backup now; the message says why. What was there before is untouched."""


@dataclass(frozen=True, slots=True, order=True)
class Backup:
    """A verified copy. Its number orders them, whatever the clock was when they were made."""

    number: int
    made_at: datetime
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was read from a copy: it can be opened, it is whole, and it reaches that far."""

    newest_seq: int
    actions: int


def list_backups(state_dir: Path) -> list[Backup]:
    """Those that are there, newest first."""
    folder = state_dir / BACKUPS_DIR
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        named = _NAME.match(path.name)
        if named:
            made_at = datetime.strptime(named[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
            found.append(Backup(int(named[1]), made_at, path))
    return sorted(found, reverse=True)


def make_backup(
    database: Path, now: datetime, kept: int, stop: threading.Event
) -> tuple[Backup, Verified]:
    """Copy, verify, name, and remove what is beyond `kept`. For a thread of its own.

    Raises `BackupImpossible`, `sqlite3.Error` or `OSError`; then nothing has changed.
    """
    state_dir = database.parent
    folder = state_dir / BACKUPS_DIR
    folder.mkdir(mode=0o700, exist_ok=True)
    sweep(state_dir)
    require_space(database)
    _be_nice()
    known = list_backups(state_dir)
    number = known[0].number + 1 if known else 1
    path = folder / f"agent-{number:06}-{now.astimezone(UTC):%Y%m%dT%H%M%S}Z.db"
    part = path.with_name(path.name + PART_SUFFIX)
    try:
        _copy(database, part, stop)
        verified = verify(part, stop)
        _make_durable(part)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.rename(path)
    make_directory_durable(folder)
    for old in list_backups(state_dir)[kept:]:
        old.path.unlink(missing_ok=True)
    return Backup(number, now, path), verified


def sweep(state_dir: Path) -> None:
    """Remove what a backup that was killed left behind."""
    folder = state_dir / BACKUPS_DIR
    for path in folder.glob(f"*{PART_SUFFIX}*") if folder.is_dir() else ():
        path.unlink(missing_ok=True)


def require_space(database: Path) -> None:
    """Raises `BackupImpossible` where the copy would fill the disk."""
    log = database.with_name(database.name + "-wal")
    size = sum(path.stat().st_size for path in (database, log) if path.exists())
    disk = os.statvfs(database.parent)
    free = disk.f_bavail * disk.f_frsize
    needed = size + max(SPARE_BYTES, size // 4)
    if free < needed:
        raise BackupImpossible(
            f"the disk has {free // 2**20} MiB free and a backup needs {needed // 2**20} MiB; "
            "make room, or lower keep_finished"
        )


def verify(path: Path, stop: threading.Event | None = None) -> Verified:
    """Read a copy from its first to its last page. Raises `BackupImpossible`, `sqlite3.Error`."""
    with closing(sqlite3.connect(immutable_uri(path), uri=True, isolation_level=None)) as copy:
        copy.row_factory = sqlite3.Row
        if stop is not None:
            copy.set_progress_handler(stop.is_set, 1_000_000)
        damage = find_damage(copy, thorough=True)
        if damage is not None:
            raise BackupImpossible(f"the copy {path.name} is damaged: {damage}")
        read_meta(copy)
        counted = copy.execute("SELECT coalesce(sum(number), 0) FROM counts").fetchone()[0]
        return Verified(newest_seq=events.next_seq(copy) - 1, actions=int(counted))


def _copy(database: Path, part: Path, stop: threading.Event) -> None:
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    slices = 0

    def pause(_status: int, _remaining: int, _total: int) -> None:
        nonlocal slices
        slices += 1
        if slices % SYNC_SLICES == 0:
            os.fdatasync(descriptor)
        if stop.wait(SLICE_PAUSE_S):
            raise BackupImpossible("agentd is stopping")

    try:
        with closing(open_for_reading(database)) as source, closing(_target(part)) as target:
            source.execute("BEGIN")  # one snapshot: or each commit would begin the copy anew
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(target, pages=SLICE_PAGES, progress=pause)
            source.execute("ROLLBACK")
            target.execute("PRAGMA journal_mode = DELETE")  # one file, readable as it stands
    finally:
        os.close(descriptor)


def _target(part: Path) -> sqlite3.Connection:
    target = sqlite3.connect(part, isolation_level=None)
    target.execute("PRAGMA synchronous = OFF")  # made durable as a whole, before it has its name
    return target


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory_durable(folder: Path) -> None:
    """Names that were given or taken in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _be_nice() -> None:
    """Of this thread only: Linux counts niceness per thread."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
