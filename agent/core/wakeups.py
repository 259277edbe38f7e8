"""Who waits for what: long polls and `wait=` sleep here until a commit concerns them.

Subscribe first, read then, wait last: what commits in between is not missed. Waiting uses the
event loop's time only, so a virtual-time loop drives it. What is notified here is relayed to other
processes on the same database, except for nodes: those are announced by the transaction itself
(`store.notices`), so that a process which dies after its commit has told them all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

EVENTS = ("events", "")
WEBHOOKS = ("webhooks", "")  # one was made, changed or taken away
TIMERS = ("timers", "")
EVERYBODY = ("*", "")
_AGENT = "agent"
CREDENTIAL = "credential"

Topic = tuple[str, str]


def agent_topic(agent_id: str) -> Topic:
    """Something new for this node."""
    return (_AGENT, agent_id)


def credential_topic(agent_id: str) -> Topic:
    """Which credential is this node's has changed: what was believed must be looked up again."""
    return (CREDENTIAL, agent_id)


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
        self._listeners: dict[str, Callable[[str | None], None]] = {}
        self.closing = False
        self.relay: Callable[[list[Topic]], None] | None = None

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
        found = list(topics)
        self.hear(found)
        if self.relay is not None:
            self.relay([topic for topic in found if topic[0] != _AGENT])

    def hear(self, topics: Iterable[Topic]) -> None:
        """Wake who waits in this process."""
        for topic in topics:
            if topic == EVERYBODY:
                self._ring_everybody()
                for listener in self._listeners.values():
                    listener(None)
            elif topic[0] in self._listeners:
                self._listeners[topic[0]](topic[1])
            for waiter in self._waiters.get(topic, ()):
                waiter.ring()

    def listen(self, kind: str, listener: Callable[[str | None], None]) -> None:
        """Call it with what each topic of this kind is about; with None when any may be meant."""
        self._listeners[kind] = listener

    def waiting(self, kind: str) -> int:
        """How many wait for topics of this kind (`agent`: long polls of nodes)."""
        return sum(len(waiters) for topic, waiters in self._waiters.items() if topic[0] == kind)

    def close(self) -> None:
        """Wake everybody: the core goes down, and nobody is to wait for it."""
        self.closing = True
        self._ring_everybody()

    def _ring_everybody(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.ring()
