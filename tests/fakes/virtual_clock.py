"""Clock and alarm over a loop's time: wall time is a start plus virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from agent.domain.clock_doubt import Reading

START_AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class VirtualClock:
    """A wall clock that is `skew_s` ahead of the others, and a monotonic one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew_s: float = 0.0) -> None:
        self._loop = loop
        self._start = START_AT + timedelta(seconds=skew_s)
        self._alarms: list[VirtualAlarm] = []
        self.boot_id = "virtual"
        self.synchronised = True

    def now(self) -> datetime:
        """The wall clock, to the microsecond."""
        return self.at(self._loop.time())

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def reading(self) -> Reading:
        """A clock that nobody doubts, unless it is set with `synchronised` false."""
        return Reading(
            wall=self.now(), boottime_s=self._loop.time(), boot_id=self.boot_id,
            synchronised=self.synchronised,
        )  # fmt: skip

    def set(self, by_s: float, *, synchronised: bool = True) -> None:
        """Set the wall clock forward, or back; alarms are told, as a timerfd tells."""
        self._start += timedelta(seconds=by_s)
        self.synchronised = synchronised
        for alarm in list(self._alarms):
            alarm.clock_was_set()

    def at(self, loop_s: float) -> datetime:
        """What the wall clock shows at a loop time."""
        return self._start + timedelta(microseconds=round(loop_s * 1_000_000))

    def loop_time(self, at: datetime) -> float:
        """When the wall clock shows `at`, in loop time."""
        return (at - self._start) / timedelta(seconds=1)

    def alarm(self, ring: Callable[[], None]) -> VirtualAlarm:
        """An alarm that follows this clock."""
        alarm = VirtualAlarm(self, self._loop, ring)
        self._alarms = [known for known in self._alarms if not known.closed] + [alarm]
        return alarm


class VirtualAlarm:
    """`agent.infra.clock.Alarm` over `call_at`."""

    def __init__(
        self, clock: VirtualClock, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self.closed = False

    def set(self, at: datetime | None) -> None:
        """Ring once the clock shows `at`; None: only when the clock is set."""
        self._cancel()
        if at is not None:
            self._handle = self._loop.call_at(self._clock.loop_time(at), self._ring)

    def clock_was_set(self) -> None:
        """Ring, whatever instant it waits for."""
        self._cancel()
        self._loop.call_soon(self._ring)

    def close(self) -> None:
        """Never ring again."""
        self.closed = True
        self._cancel()

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
