"""The daemon's store: one writer thread with group commit, and reader threads beside it.

The writer takes everything that waits and commits it once; each piece of work has a savepoint, so
that one which fails takes nobody with it. Futures are resolved after the commit. Threads sleep on
a queue: an idle store wakes nobody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, ProgrammingError

from agent.core.store.dialect import open_engine
from agent.core.store.port import StoreUnavailable, Work

T = TypeVar("T")

BATCH_MAX = 256  # one commit's worth: beyond, latency grows and fsyncs are no longer what costs
WAITING_MAX = 20_000  # work that waits; more means the disk does not keep up
READERS = 2
_OF_THE_WORK = (IntegrityError, DataError, ProgrammingError)  # its own fault, not the database's


@dataclass(slots=True)
class _Job:
    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


class ThreadedStore:
    """SQLite behind threads. `open`, use from one event loop, `close`.

    `on_trouble` is told when commits begin to fail, and why; None when they work again.
    """

    def __init__(self, url: str, on_trouble: Callable[[str | None], None] | None = None) -> None:
        self._url = url
        self._on_trouble = on_trouble
        self._in_trouble = False
        self._writing: SimpleQueue[_Job | None] = SimpleQueue()
        self._reading: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._engines: list[Engine] = []
        self._closed = False

    def open(self) -> None:
        """Open the connections; raises at once where the database cannot be used."""
        self._loop = asyncio.get_running_loop()
        self._start("core-writer", self._writing, writes=True)
        for number in range(READERS):
            self._start(f"core-reader-{number}", self._reading, writes=False)

    def _start(self, name: str, queue: SimpleQueue[_Job | None], *, writes: bool) -> None:
        engine = open_engine(self._url, writes=writes)
        self._engines.append(engine)
        connection = engine.connect()
        run = _run_batch if writes else _run_alone
        thread = threading.Thread(
            target=self._serve, args=(connection, queue, run), name=name, daemon=True
        )
        thread.start()
        self._threads.append(thread)

    async def write(self, work: Work[T]) -> T:
        """Run in the next commit; returns when it is durable."""
        return await self._submit(self._writing, work)

    async def read(self, work: Work[T]) -> T:
        """Run on a reader thread."""
        return await self._submit(self._reading, work)

    async def _submit(self, queue: SimpleQueue[_Job | None], work: Work[T]) -> T:
        if self._closed:
            raise StoreUnavailable("the core is going down")
        if queue.qsize() >= WAITING_MAX:
            raise StoreUnavailable("the database does not keep up; try again shortly")
        job = _Job(work, self._loop.create_future())
        queue.put(job)
        result: T = await job.future
        return result

    async def close(self) -> None:
        """Finish what waits, then close the database."""
        self._closed = True
        for thread in self._threads:
            queue = self._writing if thread.name == "core-writer" else self._reading
            queue.put(None)
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in self._threads))
        for engine in reversed(self._engines):  # the writer last: it leaves no WAL behind
            engine.dispose()

    def _serve(
        self,
        connection: Connection,
        queue: SimpleQueue[_Job | None],
        run: Callable[[Connection, list[_Job]], None],
    ) -> None:
        most = BATCH_MAX if run is _run_batch else 1
        try:
            while True:
                batch, last = _next_batch(queue, most)
                if batch:
                    run(connection, batch)
                    with suppress(RuntimeError):  # the loop is closed: nobody is waiting
                        if run is _run_batch:
                            self._loop.call_soon_threadsafe(self._tell_trouble, batch)
                        self._loop.call_soon_threadsafe(_resolve, batch)
                if last:
                    return
        finally:
            connection.close()

    def _tell_trouble(self, batch: list[_Job]) -> None:
        """Once when it begins and once when it ends, however many are refused between."""
        failed = [job.error for job in batch if isinstance(job.error, StoreUnavailable)]
        if bool(failed) != self._in_trouble:
            self._in_trouble = bool(failed)
            if self._on_trouble is not None:
                self._on_trouble(str(failed[0]) if failed else None)


def _next_batch(queue: SimpleQueue[_Job | None], most: int) -> tuple[list[_Job], bool]:
    """Sleep for the first, take what else waits; True when the queue was closed."""
    batch: list[_Job] = []
    job = queue.get()
    while job is not None:
        batch.append(job)
        if len(batch) >= most:
            return batch, False
        try:
            job = queue.get_nowait()
        except Empty:
            return batch, False
    return batch, True


def _run_alone(connection: Connection, batch: list[_Job]) -> None:
    """Each in a transaction of its own."""
    for job in batch:
        try:
            with connection.begin():
                job.value = job.work(connection)
        except BaseException as error:  # noqa: BLE001  (it belongs to the caller, who gets it)
            job.error = _for_caller(error)


def _run_batch(connection: Connection, batch: list[_Job]) -> None:
    """All in one commit."""
    if len(batch) == 1:
        _run_alone(connection, batch)
        return
    try:
        with connection.begin():
            for job in batch:
                _run_in_savepoint(connection, job)
    except BaseException as error:  # noqa: BLE001  (every caller gets it: nothing was committed)
        failure = _for_caller(error)
        for job in batch:
            job.error = failure


def _run_in_savepoint(connection: Connection, job: _Job) -> None:
    try:
        with connection.begin_nested():
            job.value = job.work(connection)
    except BaseException as error:
        if _is_database_failure(error):
            raise  # SQLite may have rolled everything back: the whole commit has failed
        job.error = error


def _is_database_failure(error: BaseException) -> bool:
    return isinstance(error, DatabaseError) and not isinstance(error, _OF_THE_WORK)


def _for_caller(error: BaseException) -> BaseException:
    if _is_database_failure(error):
        assert isinstance(error, DatabaseError)
        return StoreUnavailable(f"the database refused: {error.orig}")
    return error


def _resolve(batch: list[_Job]) -> None:
    for job in batch:
        if job.future.done():  # its caller has gone away
            continue
        if job.error is None:
            job.future.set_result(job.value)
        else:
            job.future.set_exception(job.error)
