"""The store that runs everything at once on the caller's own thread: for tests and simulations.

The same functions, the same transactions; no threads, no waiting. It passes the same contract
suite as the threaded one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from sqlalchemy.engine import Connection

from agent.core.store import notices
from agent.core.store.port import Work
from agent.core.store.schema import metadata
from agent.core.store.sqlite import open_engine
from agent.core.wakeups import Topic

T = TypeVar("T")


class InlineStore:
    """A store over one connection."""

    def __init__(self, connection: Connection) -> None:
        self.on_announced: Callable[[Iterable[Topic]], None] | None = None
        self._connection = connection

    @classmethod
    def in_memory(cls) -> InlineStore:
        """An empty database that vanishes with the object."""
        engine = open_engine("sqlite:///:memory:", writes=True)
        with engine.begin() as connection:
            metadata.create_all(connection)
        return cls(engine.connect())

    async def write(self, work: Work[T]) -> T:
        """Run and commit, then wake whom it announced."""
        notices.taken_from(self._connection)
        with self._connection.begin():
            result = work(self._connection)
        announced = notices.taken_from(self._connection)
        if self.on_announced is not None:
            self.on_announced(announced)
        return result

    async def read(self, work: Work[T]) -> T:
        """Run."""
        with self._connection.begin():
            return work(self._connection)

    async def close(self) -> None:
        """Forget everything."""
        self._connection.close()
