"""Who waits for what: long polls and `wait=` sleep here until a commit concerns them.

Subscribe first, read then, wait last: what commits in between is not missed. Waiting uses the
event loop's time only, so a virtual-time loop drives it. One process; replicas add a LISTEN.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

EVENTS = ("events", "")

Topic = tuple[str, str]


def agent_topic(agent_id: str) -> Topic:
    """Something new for this node."""
    return ("agent", agent_id)


def action_topic(action_id: str) -> Topic:
    """Something new about this action."""
    return ("action", action_id)


class Waiter:
    """One subscription."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Called when the topic was notified."""
        self._rung.set()

    async def wait_until(self, loop_time: float) -> bool:
        """True when rung (and armed again), False when the time has come or the core closes."""
        left_s = loop_time - asyncio.get_running_loop().time()
        if left_s <= 0 or self._wakeups.closing:
            return False
        try:
            async with asyncio.timeout(left_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return not self._wakeups.closing


class Wakeups:
    """Topics and their waiters."""

    def __init__(self) -> None:
        # Dicts as ordered sets: who came first is woken first, in every run of a seed.
        self._waiters: dict[Topic, dict[Waiter, None]] = {}
        self.closing = False

    @contextmanager
    def subscribed(self, topic: Topic) -> Iterator[Waiter]:
        """A waiter that hears everything notified from now on."""
        waiter = Waiter(self)
        self._waiters.setdefault(topic, {})[waiter] = None
        try:
            yield waiter
        finally:
            waiters = self._waiters[topic]
            del waiters[waiter]
            if not waiters:
                del self._waiters[topic]

    def notify(self, topics: Iterable[Topic]) -> None:
        """Wake who waits for any of the topics. Call it after the commit."""
        for topic in topics:
            for waiter in self._waiters.get(topic, ()):
                waiter.ring()

    def close(self) -> None:
        """Wake everybody: the core goes down, and nobody is to wait for it."""
        self.closing = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.ring()
