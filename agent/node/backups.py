"""The loop that makes backups: each night, and whenever somebody needs one sooner.

One at a time, in a thread of its own; a failure is shown until the next success. What is written
into the database about it (how far the newest copy reaches) lets retention forget run records.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agent.domain.instants import format_instant
from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.ports import Store
from agent.node.store.backup import (
    Backup,
    BackupImpossible,
    Verified,
    list_backups,
    make_backup,
)
from agent.node.store.damage import StoreDamaged, StoreUnavailable
from agent.node.store.meta import read_meta, write_meta
from agent.node.store.restoring import DATABASE_FILE, check

OLD_AFTER = timedelta(hours=25)  # a night's backup and an hour: one was missed
NIGHT_FROM_MIN, NIGHT_MIN = 60, 240  # between 01:00 and 05:00 local time
T = TypeVar("T")


class DamageableStore(Store, Protocol):
    """A store that can be told that its file is damaged."""

    def report_damage(self, damage: StoreDamaged) -> None:
        """Nothing is read from it or written to it any more."""
        ...


class Backups:
    """What `status` shows of backups, and the loop that makes them."""

    def __init__(
        self, *, store: DamageableStore, state_dir: Path, kept: int, clock: Clock,
        check_first: bool, log: Any,
    ) -> None:  # fmt: skip
        self._store = store
        self._state_dir = state_dir
        self._kept = kept
        self._clock = clock
        self._check_first = check_first
        self._log = log
        self._asked = asyncio.Event()
        self._making = False
        self._stopping = threading.Event()
        self.on_made: Callable[[], None] = lambda: None
        """Something may have waited for it."""
        self.problem: str | None = None
        self.newest: Backup | None = next(iter(list_backups(state_dir)), None)

    @property
    def wanted(self) -> bool:
        """Whether this node makes backups at all."""
        return self._kept > 0

    def ask(self) -> None:
        """Make one now; if one is being made, another one after it."""
        if self.wanted:
            self._asked.set()

    def ask_if_old(self) -> None:
        """Make one unless there is one of the last day: nights may be slept through."""
        if self._making:
            return  # that will be it; should it fail, whoever looks next asks again
        now, newest = self._clock.now(), self.newest
        if newest is None or not timedelta() <= now - newest.made_at < OLD_AFTER:
            self.ask()

    async def run(self) -> None:
        """For ever. Ends by cancellation; a copy that is under way is dropped then."""
        try:
            if self._check_first:
                await self._check()
            await self._note_what_is_there()
            while True:
                await self._asked.wait()
                self._asked.clear()
                self._making = True
                await self._make()
                self._making = False
        finally:
            self._stopping.set()

    def view(self) -> dict[str, Any]:
        """For `status`."""
        newest = self.newest
        return {
            "last_verified_at": None if newest is None else format_instant(newest.made_at),
            "file": None if newest is None else newest.path.name,
            "problem": self.problem,
        }

    async def _check(self) -> None:
        """A large database that was not closed properly: read all of it, beside the work."""
        damage = await self._in_thread(
            lambda: check(self._state_dir / DATABASE_FILE, self._stopping)
        )
        if damage is not None:
            told, cause = (f"the database {verb} damaged: {damage}" for verb in ("is", "was"))
            self._store.report_damage(StoreDamaged(told, cause))

    async def _note_what_is_there(self) -> None:
        """A copy that somebody removed holds nothing any more."""
        names = {backup.path.name for backup in list_backups(self._state_dir)}

        def note(connection: sqlite3.Connection) -> None:
            if read_meta(connection).backup_file not in names:
                write_meta(connection, backup_seq=0, backup_file="")

        try:
            await self._store.write(note)
        except StoreUnavailable as error:
            self._failed(str(error))

    async def _make(self) -> None:
        database, now = self._state_dir / DATABASE_FILE, self._clock.now()
        begun_s = self._clock.monotonic()
        try:
            made, verified = await self._in_thread(
                lambda: make_backup(database, now, self._kept, self._stopping)
            )
            await self._store.write(lambda c: _note(c, made, verified))
        except BackupImpossible as error:
            self._failed(str(error))
            await self._check()  # a copy that is damaged may be the copy of a damaged database
        except (StoreUnavailable, sqlite3.Error, OSError) as error:
            self._failed(str(error))
            if isinstance(error, sqlite3.Error):
                await self._check()
        else:
            self.newest, self.problem = made, None
            self._log.info(
                log_events.BACKED_UP, file=made.path.name, actions=verified.actions,
                took_s=round(self._clock.monotonic() - begun_s, 3),
            )  # fmt: skip
            self.on_made()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, work)

    def _failed(self, problem: str) -> None:
        self.problem = problem
        self._log.error(log_events.BACKUP_FAILED, error=problem)


def night_minute(agent_id: str) -> str:
    """`HH:MM` of this node's backup: the same every night, and not that of all the others."""
    number = int.from_bytes(hashlib.sha256(agent_id.encode()).digest()[:4])
    minute = NIGHT_FROM_MIN + number % NIGHT_MIN
    return f"{minute // 60:02}:{minute % 60:02}"


def _note(connection: sqlite3.Connection, made: Backup, verified: Verified) -> None:
    write_meta(connection, backup_seq=verified.newest_seq, backup_file=made.path.name)
