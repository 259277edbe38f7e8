"""Clock and alarm over a loop's time: wall time is a start plus virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START_AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class VirtualClock:
    """A wall clock that is `skew_s` ahead of the others, and a monotonic one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew_s: float = 0.0) -> None:
        self._loop = loop
        self._start = START_AT + timedelta(seconds=skew_s)

    def now(self) -> datetime:
        """The wall clock, to the microsecond."""
        return self.at(self._loop.time())

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def at(self, loop_s: float) -> datetime:
        """What the wall clock shows at a loop time."""
        return self._start + timedelta(microseconds=round(loop_s * 1_000_000))

    def loop_time(self, at: datetime) -> float:
        """When the wall clock shows `at`, in loop time."""
        return (at - self._start) / timedelta(seconds=1)

    def alarm(self, ring: Callable[[], None]) -> VirtualAlarm:
        """An alarm that follows this clock."""
        return VirtualAlarm(self, self._loop, ring)


class VirtualAlarm:
    """`agent.infra.clock.Alarm` over `call_at`."""

    def __init__(
        self, clock: VirtualClock, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: datetime | None) -> None:
        """Ring once the clock shows `at`; None: not at all."""
        self.close()
        if at is not None:
            self._handle = self._loop.call_at(self._clock.loop_time(at), self._ring)

    def close(self) -> None:
        """Never ring again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
