"""The store as its users see it: a function over a connection, run in one transaction.

`write` returns after the commit; whatever the function raises rolls its own changes back and
nobody else's. Functions are plain and synchronous, so that the daemon runs them on the writer
thread and a simulation runs the same ones inline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy.engine import Connection, Row

from agent.domain.errors import Refused

T = TypeVar("T")
AnyRow: TypeAlias = Row[*tuple[Any, ...]]
Work = Callable[[Connection], T]


class StoreUnavailable(Refused):
    """The database cannot take it now (full disk, lock, overload). Nothing was changed.

    Except where it says so: a connection that is lost during the commit leaves that open.
    """

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


class Store(Protocol):
    """Where the core's truth is kept."""

    async def write(self, work: Work[T]) -> T:
        """Run in a write transaction; returns when it is durable."""
        ...

    async def read(self, work: Work[T]) -> T:
        """Run on a consistent snapshot of everything committed."""
        ...
