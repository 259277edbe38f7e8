"""Two writers that meet, in an order that the test decides: no luck, no sleeps.

The first does its work and keeps its transaction open; the second begins beside it, and is left
alone until it has ended or waits for a lock; then the first commits. What the second did must be
right however far it came. Neither is given another try, as a store would: so a missing lock shows.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection

from agent.core.store.inline import InlineStore
from agent.core.store.port import Work
from agent.core.store.postgres import PostgresDatabase
from tests.fakes.core_backends import Backend, InProcess

T = TypeVar("T")
MEET_S_MAX = 20.0
Play = Callable[[Backend], Awaitable[Any]]

_WAITS = text("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = :pid")


class OpenStore:
    """All that is written is one transaction, which the test commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def write(self, work: Work[T]) -> T:
        return work(self._connection)

    async def read(self, work: Work[T]) -> T:
        return work(self._connection)


class Races:
    """Meetings in one database."""

    def __init__(self, url: str) -> None:
        self._engine: Engine = PostgresDatabase(url).open_engine(writes=True)

    def play(self, play: Callable[[Backend], Awaitable[T]]) -> T:
        """Alone: what comes before and after the meeting."""
        with self._engine.connect() as connection:
            return asyncio.run(_play(play, InProcess(InlineStore(connection))))

    def meet(self, first: Play, second: Play) -> tuple[Any, Any]:
        """What both came to: what they returned, or what they raised."""
        with self._engine.connect() as mine, self._engine.connect() as others:
            with mine.begin():
                one = _result(first, InProcess(OpenStore(mine)))
                ended = self._beside(others, second)
            return one, ended()

    def cross(self, held: Work[Any], other: Play, then: Play) -> tuple[Any, Any]:
        """One holds something, the other comes to wait for it, and the first goes on.

        What both came to. Where the other has by then what the first wants, it is a deadlock.
        """
        with self._engine.connect() as mine, self._engine.connect() as others:
            with mine.begin():
                held(mine)
                ended = self._beside(others, other)
                one = _result(then, InProcess(OpenStore(mine)))
            return one, ended()

    def _beside(self, connection: Connection, play: Play) -> Callable[[], Any]:
        """Begin it, and come back when it has ended or waits; the call waits for its end."""
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.rollback()
        found: list[Any] = []
        backend = InProcess(InlineStore(connection))
        thread = threading.Thread(target=lambda: found.append(_result(play, backend)))
        thread.start()
        self._until_waiting(thread, pid)

        def ended() -> Any:
            thread.join(MEET_S_MAX)
            assert found, "the second did not end"
            return found[0]

        return ended

    def _until_waiting(self, thread: threading.Thread, pid: int) -> None:
        until = time.monotonic() + MEET_S_MAX
        with self._engine.connect() as looking:
            while thread.is_alive() and not looking.execute(_WAITS, {"pid": pid}).scalar():
                looking.rollback()
                assert time.monotonic() < until, "the second neither ended nor waits"
                thread.join(0.005)


async def _play(play: Callable[[Backend], Awaitable[T]], backend: Backend) -> T:
    return await play(backend)


def _result(play: Play, backend: Backend) -> Any:
    try:
        return asyncio.run(_play(play, backend))
    except Exception as error:  # noqa: BLE001  (the test looks at it)
        return error
