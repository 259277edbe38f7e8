"""The store of the running daemon: one writer thread with group commit, one reader thread.

Whatever waits when the writer comes around is one transaction and one fsync. Each operation has a
savepoint of its own, so a failing one takes nobody with it; no result is told before the commit.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent.node.store.connection import open_for_reading, open_for_writing
from agent.node.store.damage import StoreDamaged, StoreUnavailable, understand
from agent.node.store.versions import bring_up_to_date

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

GROUP_MAX = 256  # operations in one transaction; bounds how long the first of them waits


@dataclass(slots=True)
class Job:
    """One operation, and what became of it."""

    operation: Operation[Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class ThreadedStore:
    """Opens and migrates the database at construction; `close` waits for what was asked."""

    def __init__(self, path: Path) -> None:
        self._writer = open_for_writing(path)
        try:
            bring_up_to_date(self._writer)
            self._reader = open_for_reading(path)
        except BaseException:
            self._writer.close()
            raise
        self._damage: StoreDamaged | None = None
        self.on_damage: Callable[[str], None] = lambda _why: None
        """Told once, on the loop: nothing is read or written any more."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._thread.start()
        self._readers = ThreadPoolExecutor(1, "store-reader")
        self._closed = False

    async def write(self, operation: Operation[T]) -> T:
        """Run `operation` in a transaction; returns after the commit. Its exception rolls it back.

        Raises `StoreUnavailable` if the commit itself fails.
        """
        if self._closed:
            raise StoreUnavailable("the database is closed")
        if self._damage is not None:
            raise self._damage
        job = Job(operation, self._loop.create_future())
        self._jobs.put(job)
        result: T = await job.future
        return result

    async def read(self, operation: Operation[T]) -> T:
        """Run `operation` on a read-only connection beside the writer; sees committed state.

        Raises `StoreUnavailable` where the file or the disk, not the question, is at fault.
        """
        if self._damage is not None:
            raise self._damage
        try:
            return await self._loop.run_in_executor(self._readers, operation, self._reader)
        except sqlite3.Error as error:
            failure = understand(error)
            if failure is None:
                raise
            if isinstance(failure, StoreDamaged):
                self.report_damage(failure)
            raise failure from error

    def report_damage(self, damage: StoreDamaged) -> None:
        """Somebody found the file damaged: from now on nobody gets anything from it."""
        if self._damage is None:
            self._damage = damage
            self.on_damage(damage.cause)

    async def close(self) -> None:
        """Finish what was asked, then close."""
        self._closed = True
        self._jobs.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        self._readers.shutdown()
        self._reader.close()
        self._writer.close()

    def _write_loop(self) -> None:
        while True:
            first = self._jobs.get()
            if first is None:
                return
            group, closing = self._gather(first)
            commit_group(self._writer, group)
            self._loop.call_soon_threadsafe(self._tell, group)
            if closing:
                return

    def _gather(self, first: Job) -> tuple[list[Job], bool]:
        group = [first]
        while len(group) < GROUP_MAX:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return group, True
            group.append(job)
        return group, False

    def _tell(self, group: list[Job]) -> None:
        for job in group:
            if isinstance(job.error, StoreDamaged):
                self.report_damage(job.error)
            if job.future.cancelled():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)


def commit_group(connection: sqlite3.Connection, group: list[Job]) -> None:
    """Run the operations in one transaction; each job gets its result or its own error."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in group:
            _run_in_savepoint(connection, job)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(connection)
        failure = understand(error) or StoreUnavailable(
            f"the database could not be written: {error}"
        )
        for job in group:
            job.error = job.error or failure


def _run_in_savepoint(connection: sqlite3.Connection, job: Job) -> None:
    connection.execute("SAVEPOINT operation")
    try:
        job.result = job.operation(connection)
    except sqlite3.OperationalError:
        raise  # the disk or the file: the whole group fails, told as StoreUnavailable
    except sqlite3.DatabaseError as error:
        if understand(error) is not None:
            raise
        _fail(connection, job, error)
    except Exception as error:  # noqa: BLE001  (handed to whoever asked, not swallowed)
        _fail(connection, job, error)
    connection.execute("RELEASE operation")


def _fail(connection: sqlite3.Connection, job: Job, error: Exception) -> None:
    connection.execute("ROLLBACK TO operation")
    job.error = error


def _roll_back(connection: sqlite3.Connection) -> None:
    """What fails here fails again at the next BEGIN, and is told there: the writer must live."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
