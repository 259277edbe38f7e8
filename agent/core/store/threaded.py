"""The daemon's store: threads that write and threads that read, one connection each.

SQLite has one writer thread, which takes everything that waits and commits it once; PostgreSQL has
several, with a transaction for each piece of work, and shares their commits itself. Futures are
resolved after the commit. Threads sleep on a queue: an idle store wakes nobody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from agent.core.store.database import Database, database_of
from agent.core.store.port import StoreUnavailable, Work
from agent.core.store.worker import Job, Worker
from agent.core.wakeups import Topic

T = TypeVar("T")
Queue = SimpleQueue[Job | None]

BATCH_MAX = 256  # one commit's worth: beyond, latency grows and fsyncs are no longer what costs
WAITING_MAX = 20_000  # work that waits; more means the disk does not keep up


class ThreadedStore:
    """A database behind threads. `open`, use from one event loop, `close`.

    `on_trouble` is told when commits begin to fail, and why; None when they work again.
    `on_announced` is told, on the loop, whom a commit wakes.
    """

    def __init__(
        self,
        database: Database | str,
        on_trouble: Callable[[str | None], None] | None = None,
    ) -> None:
        self.database = database_of(database) if isinstance(database, str) else database
        self.on_announced: Callable[[Iterable[Topic]], None] | None = None
        self._on_trouble = on_trouble
        self._in_trouble = False
        self._writing: Queue = SimpleQueue()
        self._reading: Queue = SimpleQueue()
        self._threads: list[tuple[threading.Thread, Queue]] = []
        self._workers: list[Worker] = []
        self._closed = False

    def open(self) -> None:
        """Open the connections; raises at once where the database cannot be used."""
        self._loop = asyncio.get_running_loop()
        for number in range(self.database.writers):
            self._start(f"core-writer-{number}", self._writing, writes=True)
        for number in range(self.database.readers):
            self._start(f"core-reader-{number}", self._reading, writes=False)

    def _start(self, name: str, queue: Queue, *, writes: bool) -> None:
        worker = Worker(self.database, writes=writes)
        self._workers.append(worker)
        serve = self._write_batches if writes and self.database.writers == 1 else self._serve_each
        thread = threading.Thread(target=serve, args=(worker, queue), name=name, daemon=True)
        thread.start()
        self._threads.append((thread, queue))

    async def write(self, work: Work[T]) -> T:
        """Run in the next commit; returns when it is durable."""
        return await self._submit(self._writing, work)

    async def read(self, work: Work[T]) -> T:
        """Run on a reader thread."""
        return await self._submit(self._reading, work)

    async def _submit(self, queue: Queue, work: Work[T]) -> T:
        if self._closed:
            raise StoreUnavailable("the core is going down")
        if queue.qsize() >= WAITING_MAX:
            raise StoreUnavailable("the database does not keep up; try again shortly")
        job = Job(work, self._loop.create_future())
        queue.put(job)
        result: T = await job.future
        return result

    async def close(self) -> None:
        """Finish what waits, then close the database."""
        self._closed = True
        for _, queue in self._threads:
            queue.put(None)
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread, _ in self._threads))
        for worker in reversed(self._workers):  # the writer last: it leaves no WAL behind
            worker.dispose()

    def _write_batches(self, worker: Worker, queue: Queue) -> None:
        """Everything that waits, in one commit."""
        last = False
        while not last:
            batch, last = _next_batch(queue)
            if batch:
                worker.run_batch(batch)
                self._tell(self._finish_writing, batch)
        worker.close()

    def _serve_each(self, worker: Worker, queue: Queue) -> None:
        """One after the other."""
        finish = self._finish_writing if queue is self._writing else _resolve
        while (job := queue.get()) is not None:
            worker.run_alone(job)
            self._tell(finish, [job])
        worker.close()

    def _tell(self, finish: Callable[[list[Job]], None], jobs: list[Job]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is waiting
            self._loop.call_soon_threadsafe(finish, jobs)

    def _finish_writing(self, jobs: list[Job]) -> None:
        """Trouble is told once when it begins and once when it ends, however many are refused."""
        failed = [job.error for job in jobs if isinstance(job.error, StoreUnavailable)]
        if bool(failed) != self._in_trouble:
            self._in_trouble = bool(failed)
            if self._on_trouble is not None:
                self._on_trouble(str(failed[0]) if failed else None)
        if self.on_announced is not None:
            self.on_announced(topic for job in jobs for topic in job.announced)
        _resolve(jobs)


def _next_batch(queue: Queue) -> tuple[list[Job], bool]:
    """Sleep for the first, take what else waits; True when the queue was closed."""
    batch: list[Job] = []
    job = queue.get()
    while job is not None:
        batch.append(job)
        if len(batch) >= BATCH_MAX:
            return batch, False
        try:
            job = queue.get_nowait()
        except Empty:
            return batch, False
    return batch, True


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():  # its caller has gone away
            continue
        if job.error is None:
            job.future.set_result(job.value)
        else:
            job.future.set_exception(job.error)
