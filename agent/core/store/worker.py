"""One thread's connection, and how work is run on it: alone, or many pieces in one commit.

What a piece of work raises is its caller's. What the database could not do is `StoreUnavailable`;
where the database asks for it, or the connection was lost before the commit, the work is run again:
it is a function of the connection alone and has left nothing behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from agent.core.store import notices
from agent.core.store.database import Database, Failure
from agent.core.store.port import StoreUnavailable
from agent.core.wakeups import Topic
from agent.domain.errors import Refused

ATTEMPTS_MAX = 5  # each of them met another writer; beyond, something else is wrong
PAUSE_S = 0.01  # longer each time: the other one gets what it waits for before we take it again


@dataclass(slots=True)
class Job:
    """One piece of work, and what became of it."""

    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None
    announced: list[Topic] = field(default_factory=list)


class Worker:
    """Runs jobs on a connection of its own, from one thread."""

    def __init__(self, database: Database, *, writes: bool) -> None:
        """Opens the connection; raises what the driver raises."""
        self._database = database
        self._engine: Engine = database.open_engine(writes=writes)
        self._connection: Connection | None = self._engine.connect()

    def close(self) -> None:
        """Give the connection back; from the thread that used it."""
        self._drop()

    def dispose(self) -> None:
        """Close the database, when no thread uses it any more."""
        self._engine.dispose()

    def run_alone(self, job: Job) -> None:
        """In a transaction of its own."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            failure, error = self._attempt(job)
            job.error = error
            if failure not in (Failure.AGAIN, Failure.LOST) or attempt == ATTEMPTS_MAX:
                return
            if isinstance(error, _MaybeCommitted):
                return
            time.sleep(attempt * PAUSE_S)

    def run_batch(self, jobs: list[Job]) -> None:
        """All in one commit, each in a savepoint, so that one which fails takes nobody with it."""
        if len(jobs) == 1:
            self.run_alone(jobs[0])
            return
        try:
            connection = self._open()
            with connection.begin():
                for job in jobs:
                    self._run_in_savepoint(connection, job)
        except BaseException as error:  # noqa: BLE001  (every caller gets it: nothing was committed)
            failure = self._for_caller(error, self._database.failure_of(error))
            for job in jobs:
                job.error, job.announced = failure, []

    def _attempt(self, job: Job) -> tuple[Failure | None, BaseException | None]:
        job.announced, done = [], False
        try:
            connection = self._open()
        except BaseException as error:  # noqa: BLE001  (it belongs to the caller, who gets it)
            return Failure.UNAVAILABLE, self._for_caller(error, Failure.UNAVAILABLE)
        try:
            notices.taken_from(connection)
            with connection.begin():
                job.value = job.work(connection)
                done = True
            job.announced = notices.taken_from(connection)
        except BaseException as error:  # noqa: BLE001  (it belongs to the caller, who gets it)
            failure = self._database.failure_of(error)
            if failure is Failure.LOST:
                self._drop()
                if done:
                    return failure, _MaybeCommitted()
            return failure, self._for_caller(error, failure)
        return None, None

    def _run_in_savepoint(self, connection: Connection, job: Job) -> None:
        notices.taken_from(connection)
        try:
            # In plain words: SQLAlchemy's own savepoints cost more than a small piece of work.
            connection.exec_driver_sql("SAVEPOINT job")
            job.value = job.work(connection)
            connection.exec_driver_sql("RELEASE job")
            job.announced = notices.taken_from(connection)
        except BaseException as error:
            failure = self._database.failure_of(error)
            if failure is Failure.UNAVAILABLE:
                raise  # SQLite may have rolled everything back: the whole commit has failed
            connection.exec_driver_sql("ROLLBACK TO job")
            connection.exec_driver_sql("RELEASE job")
            job.error = self._for_caller(error, failure)

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _for_caller(self, error: BaseException, failure: Failure) -> BaseException:
        if failure is Failure.BAD_VALUE:
            return Refused(
                "bad_request",
                "a text with a NUL character or half a character, or a number of more than 64 "
                "bits, cannot be stored",
            )
        if failure is Failure.OF_THE_WORK or isinstance(error, IntegrityError):
            return error
        cause = error.orig if isinstance(error, DBAPIError) else error
        return StoreUnavailable(f"the database refused: {cause}")


class _MaybeCommitted(StoreUnavailable):
    """The connection was lost while the commit was under way."""

    def __init__(self) -> None:
        super().__init__(
            "the connection to the database was lost during the commit: look whether it happened "
            "before you ask again"
        )
