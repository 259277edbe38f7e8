"""The one file that reads a clock, and the timer that follows the wall clock when it is set.

Everything else is handed a `Clock`. Durations come from `monotonic`, dates from `now`.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol

from agent.domain.clock_doubt import Reading
from agent.domain.instants import to_us

_CLOCK_REALTIME = 0
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_TIME_ERROR = 5
_STA_UNSYNC = 0x40
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FAR_S = 2**40  # tens of thousands of years: "no instant", but still told when the clock is set


class Clock(Protocol):
    """Where time comes from; a simulation brings its own."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never set."""
        ...


class NodeClock(Clock, Protocol):
    """A clock that also tells what speaks for and against the time it shows."""

    def reading(self) -> Reading:
        """Wall clock, boot clock and the kernel's opinion, read together."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._boot_id = ""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return time.monotonic()

    def reading(self) -> Reading:
        """CLOCK_BOOTTIME goes on during suspend, so that waking up is no step of the clock."""
        self._boot_id = self._boot_id or _BOOT_ID.read_text().strip()
        return Reading(
            wall=self.now(),
            boottime_s=time.clock_gettime(time.CLOCK_BOOTTIME),
            boot_id=self._boot_id,
            synchronised=_kernel_is_synchronised(),
        )


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2) up to `status`, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def _kernel_is_synchronised() -> bool:
    """Whether a time daemon says so, since the clock was last set. Not being told counts as no:
    a sandbox that forbids to set the clock may forbid this question too.
    """
    timex = _Timex(modes=0)
    state = _libc().adjtimex(ctypes.byref(timex))
    return 0 <= state < _TIME_ERROR and not timex.status & _STA_UNSYNC


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class Alarm(Protocol):
    """One timer for one wall-clock instant; calls back once it has passed or the clock was set."""

    def set(self, at: datetime | None) -> None:
        """Ring at `at`; None: only when the clock is set. Replaces what was set before."""
        ...

    def close(self) -> None:
        """Never ring again."""
        ...


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class WallAlarm:
    """A timerfd on the wall clock with cancel-on-set: no polling, and clock steps are noticed.

    `os.timerfd_create` is Python 3.13+, so this goes through the C library.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._libc = _libc()
        self._fd = self._libc.timerfd_create(_CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def set(self, at: datetime | None) -> None:
        """Ring at `at` (at once if it has passed); None: only when the clock is set."""
        microseconds = _FAR_S * 1_000_000 if at is None else max(1, to_us(at))
        seconds, rest = divmod(microseconds, 1_000_000)
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, rest * 1000))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if self._libc.timerfd_settime(self._fd, flags, ctypes.byref(spec), None) == 0:
            return
        if ctypes.get_errno() == errno.ECANCELED:  # set while we armed it: armed all the same
            self._ring()
            return
        raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def close(self) -> None:
        """Never ring again."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _readable(self) -> None:
        with suppress(BlockingIOError):
            try:
                os.read(self._fd, 8)
            except OSError as error:
                if error.errno != errno.ECANCELED:  # ECANCELED is how a clock step is told
                    raise
        self._ring()
