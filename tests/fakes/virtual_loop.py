"""An asyncio event loop whose time is virtual: when nothing is ready, it jumps to the next timer.

No thread, no socket, no selector. Callbacks run in the order in which they became ready, so one
seed gives one run, whatever the machine does meanwhile.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

RESOLUTION_S = 1e-9


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set: everything waits for everything."""


class Life:
    """One incarnation of a process. Killed, it has no further effect on anything.

    Ports call `require` before they do anything; tasks started inside are cancelled by `kill`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.died = asyncio.Event()

    def require(self) -> None:
        """Raise `CancelledError` in whoever acts for a process that is gone."""
        if self.dead:
            raise asyncio.CancelledError

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as a part of this process, with everything that it starts."""
        token = CURRENT_LIFE.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            CURRENT_LIFE.reset(token)

    def kill(self) -> None:
        """kill -9: from this instant on nothing of it happens."""
        self.dead = True
        self.died.set()
        for task in self.tasks:
            task.cancel()
        self.tasks.clear()


CURRENT_LIFE: ContextVar[Life | None] = ContextVar("CURRENT_LIFE", default=None)


class _Jump:
    """Stands where a loop has its selector: "waiting" is moving the time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout_s: float | None) -> list[Any]:
        """Nothing ever becomes readable; the time passes at once."""
        if timeout_s is None:
            raise Deadlock("nothing is ready and no timer is set")
        if timeout_s > 0:
            self._loop.advance(timeout_s)
        return []


class VirtualLoop(base_events.BaseEventLoop):
    """The loop; `time()` starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._clock_resolution = RESOLUTION_S
        self._selector = _Jump(self)
        self.set_task_factory(_task_of_a_life)
        self.set_exception_handler(_say_nothing)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def advance(self, by_s: float) -> None:
        """Let time pass."""
        self._now_s += by_s

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody is woken."""


def _task_of_a_life(
    loop: asyncio.AbstractEventLoop, work: Any, **options: Any
) -> asyncio.Task[Any]:
    task = asyncio.Task(work, loop=loop, **options)
    life = CURRENT_LIFE.get()
    if life is not None:
        if len(life.tasks) > 256:
            life.tasks = [known for known in life.tasks if not known.done()]
        life.tasks.append(task)
    return task


def _say_nothing(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Tasks of killed processes are dropped where they stand; that is no news."""


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a loop of its own to its end."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def wait_any(*waited: asyncio.Future[Any]) -> None:
    """Until one of them is done; none of them is cancelled by it."""
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
