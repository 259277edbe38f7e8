"""The one loop that fires timers: sleeps until the next is due, or until one is set.

Each `cored` has one; which of them fires a timer is settled by the row's lock. Whatever a process
sets it fires itself, so nobody is told of the timers of others; it looks for those of one that was
killed every `LOOK_S` while a clock may be running somewhere. Alone, with no timer set, it sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from agent.core import timers
from agent.core.occasion import Occasion
from agent.core.store.port import Store, StoreUnavailable
from agent.core.wakeups import TIMERS, Wakeups
from agent.domain.ids import RandomBits
from agent.infra.clock import Clock

LOOK_S = 60.0  # also how late a timer may be after the wall clock was set forward
GATHER_S = 0.02  # timers are set by the thousand; that is no reason to look a thousand times
HELD_ELSEWHERE_S = 0.25  # what is due is being fired by another process
RETRY_S_MIN, RETRY_S_MAX = 0.5, 15.0
PUT_OFF_S = 60.0  # a timer whose handler fails waits so long, and the others go on
OnFailure = Callable[[str, BaseException], None]


class TimerLoop:
    """`run` until cancelled. `shared`: other processes may set timers in the same database."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        handlers: timers.Handlers,
        *,
        shared: bool,
        on_failure: OnFailure,
    ) -> None:
        """`on_failure` is told which timer (kind:ref) could not be fired, and why."""
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._handlers = handlers
        self._shared = shared
        self._on_failure = on_failure

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def run(self) -> None:
        """Fire, for ever."""
        retry_s = RETRY_S_MIN
        with self._wakeups.subscribed(TIMERS) as waiter:
            while not self._wakeups.closing:
                try:
                    wait_s = await self._fire()
                    retry_s = RETRY_S_MIN
                except StoreUnavailable:  # the store says so itself, to who looks after it
                    await asyncio.sleep(retry_s)
                    retry_s = min(retry_s * 2, RETRY_S_MAX)
                    continue
                until = asyncio.get_running_loop().time() + wait_s
                if wait_s > 0 and await waiter.wait_until(until):
                    await asyncio.sleep(GATHER_S)

    async def _fire(self) -> float:
        """One turn; how long there is nothing to do then."""
        due_at = await self._store.read(partial(timers.next_due, kinds=self._handlers))
        now = self._clock.now()
        if due_at is None:
            return LOOK_S if self._shared else float("inf")
        if due_at > now:
            return min((due_at - now).total_seconds(), LOOK_S)
        try:
            count = await self._fire_some(timers.FIRED_AT_ONCE_MAX)
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001  (one of many: which one, the next step finds)
            count = await self._fire_one()
        return 0.0 if count else HELD_ELSEWHERE_S

    async def _fire_some(self, count_max: int) -> int:
        occasion = self._occasion()
        fired = await self._store.write(
            lambda c: timers.fire_some(c, occasion, self._handlers, count_max)
        )
        self._wakeups.notify(fired.topics)
        return fired.count

    async def _fire_one(self) -> int:
        """The oldest alone; if it is the one that fails it waits, and somebody is told."""
        try:
            return await self._fire_some(1)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  (told below, whatever a handler raised)
            occasion = self._occasion()
            later = occasion.now + timedelta(seconds=PUT_OFF_S)
            which = await self._store.write(
                lambda c: timers.put_off(c, occasion, self._handlers, later)
            )
            if which is not None:
                self._on_failure(":".join(which), error)
            return 1
