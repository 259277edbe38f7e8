"""Telling everyone who waits that something was committed, without losing anybody.

Read `version` before looking, then wait for `after(version)`: what is committed between the look
and the wait is not missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """A counter of commits that many can wait on."""

    def __init__(self) -> None:
        self.version = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._listeners: list[Callable[[], None]] = []
        self.closed = False
        """The daemon stops: whoever waits answers now with what there is."""

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` at each change, for as long as this lives."""
        self._listeners.append(listener)

    def notify(self) -> None:
        """Something was committed."""
        self.version += 1
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)
        for listener in self._listeners:
            listener()

    def close(self) -> None:
        """End all waiting, now and later."""
        self.closed = True
        self.notify()

    async def after(self, version: int, timeout_s: float) -> bool:
        """Whether something changed since `version`, waiting up to `timeout_s` for it."""
        if self.version != version or self.closed:
            return self.version != version
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True
