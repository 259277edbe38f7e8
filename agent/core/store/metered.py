"""A store that counts what goes through another one, for `/metrics`. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from agent.core.store.port import Store, StoreUnavailable, Work

T = TypeVar("T")
Observe = Callable[[str, float], None]
"""(read or write, seconds)"""

READ, WRITE = "read", "write"


class MeteredStore:
    """The same store, observed: how long each piece of work took, waiting included."""

    def __init__(self, store: Store, monotonic: Callable[[], float], observe: Observe) -> None:
        self._store = store
        self._monotonic = monotonic
        self._observe = observe
        self.waiting = {READ: 0, WRITE: 0}
        self.failures = 0

    async def write(self, work: Work[T]) -> T:
        """Run in the next commit; returns when it is durable."""
        return await self._measured(WRITE, work)

    async def read(self, work: Work[T]) -> T:
        """Run on a snapshot."""
        return await self._measured(READ, work)

    async def _measured(self, what: str, work: Work[T]) -> T:
        began_s = self._monotonic()
        self.waiting[what] += 1
        try:
            return await (self._store.write(work) if what == WRITE else self._store.read(work))
        except StoreUnavailable:
            self.failures += 1
            raise
        finally:
            self.waiting[what] -= 1
            self._observe(what, self._monotonic() - began_s)
