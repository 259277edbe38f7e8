"""`agent.node.ports.Store` on the caller's own thread, with the writer's manners of the real one.

Operations wait a seeded while, are committed as a group in the order in which they were asked for,
and are told a while after the commit: so a kill can fall before, between and behind. Committing is
the real store's own code.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from agent.node.store.damage import StoreUnavailable
from agent.node.store.schema import migrate
from agent.node.store.threaded import GROUP_MAX, Job, commit_group
from tests.fakes.virtual_loop import Life

T = TypeVar("T")
STEP_S = 1e-7  # what comes after something else has a later time, however close

_template: bytes | None = None


def open_database(content: bytes | None = None) -> sqlite3.Connection:
    """A node database in memory, fresh or as `content` has it (`serialize`).

    The schema of a fresh one is made once and copied: it takes 20 ms.
    """
    global _template  # noqa: PLW0603
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if content is not None:
        connection.deserialize(content)
    elif _template is None:
        migrate(connection)
        _template = connection.serialize()
    else:
        connection.deserialize(_template)
    connection.row_factory = sqlite3.Row
    return connection


def at_once() -> float:
    """No delay: for tests that are about something else."""
    return 0.0


class InlineNodeStore:
    """The store of one life of `agentd`; the connection outlives it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        pause_s: Callable[[], float] = at_once,
        life: Life | None = None,
    ) -> None:
        self._connection = connection
        self._pause_s = pause_s
        self._life = life
        self._loop = asyncio.get_running_loop()
        self._jobs: list[Job] = []
        self._writer_set = False
        self._told_s = 0.0
        self._read_s = 0.0
        self._closed = False
        self.disk_full = False

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run in a transaction; returns after the commit."""
        self._require_life()
        if self._closed:
            raise StoreUnavailable("the database is closed")
        job = Job(operation, self._loop.create_future())
        self._jobs.append(job)
        if not self._writer_set:
            self._set_writer()
        result: T = await job.future
        return result

    async def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run on committed state, after the reads that were asked for before."""
        self._require_life()
        future: asyncio.Future[T] = self._loop.create_future()
        self._read_s = max(self._loop.time() + self._pause_s(), self._read_s + STEP_S)
        self._loop.call_at(self._read_s, self._read, operation, future)
        return await future

    async def close(self) -> None:
        """Finish what was asked, then refuse."""
        self._closed = True
        if self._jobs:
            self._commit()

    def _require_life(self) -> None:
        if self._life is not None:
            self._life.require()

    def _is_dead(self) -> bool:
        return self._life is not None and self._life.dead

    def _set_writer(self) -> None:
        self._writer_set = True
        self._loop.call_later(self._pause_s(), self._commit)

    def _commit(self) -> None:
        self._writer_set = False
        if self._is_dead() or not self._jobs:
            return
        group, self._jobs = self._jobs[:GROUP_MAX], self._jobs[GROUP_MAX:]
        commit_group(_full(self._connection) if self.disk_full else self._connection, group)
        self._told_s = max(self._loop.time() + self._pause_s(), self._told_s + STEP_S)
        self._loop.call_at(self._told_s, self._tell, group)
        if self._jobs:
            self._set_writer()

    def _tell(self, group: list[Job]) -> None:
        if self._is_dead():
            return
        for job in group:
            _resolve(job.future, job.result, job.error)

    def _read(self, operation: Callable[[sqlite3.Connection], Any], future: Any) -> None:
        if self._is_dead():
            return
        try:
            _resolve(future, operation(self._connection), None)
        except Exception as error:  # noqa: BLE001  (it belongs to who asked)
            _resolve(future, None, error)


def _resolve(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class _FullDisk:
    """A connection whose every commit fails, as on a full disk: operations run, then roll back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *values: Any) -> Any:
        """As the connection, but for COMMIT."""
        if statement == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _full(connection: sqlite3.Connection) -> Any:
    return _FullDisk(connection)
