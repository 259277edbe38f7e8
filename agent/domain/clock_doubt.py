"""Whether the wall clock may be believed (DESIGN §3, "Time"). Pure.

A clock that stands below a time that was believed before, or that has gained more than an hour
which the machine did not spend (asleep or awake), is in doubt: until the kernel calls it
synchronised, or the core's date confirms it, or ten minutes have passed. Meanwhile nothing starts
and nothing ends by wall time. Elapsed time is the boot clock's, which nobody sets and which counts
suspend; after a reboot nobody knows how long the machine was off, so any later time is possible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from agent.domain.instants import format_instant, parse_instant

BEHIND_S_MAX = 5.0  # time daemons step by fractions of a second, a fresh one by a few; no alarm
AHEAD_S_MAX = 3600.0
DOUBT_S_MAX = 600.0  # long enough for a time daemon to find its servers; then work must go on
STEP_S_MIN = 1.0  # less is no step: the two clocks of a reading are not read at one instant
CORE_AGREES_S_MAX = 60.0  # the core's date has whole seconds, and an answer may have been slow


class Settled(StrEnum):
    """How a doubt ended."""

    PLAUSIBLE = "plausible"
    SYNCHRONISED = "synchronised"
    CORE = "core"
    TIME_PASSED = "time_passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All that the machine says of the time at one moment.

    `boottime_s` counts from boot, suspend included; `boot_id` tells one boot from another.
    `synchronised` is the kernel's word: some time daemon keeps the clock right, since it was set.
    """

    wall: datetime
    boottime_s: float
    boot_id: str
    synchronised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A wall time that was believed, and when in which boot that was. Durable: see `encode_mark`"""

    wall: datetime
    boottime_s: float
    boot_id: str

    def expects(self, reading: Reading) -> datetime | None:
        """What the wall clock should show now, or None after a reboot."""
        if reading.boot_id != self.boot_id:
            return None
        return self.wall + timedelta(seconds=reading.boottime_s - self.boottime_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreDate:
    """A date that the core sent, and when by the boot clock it came."""

    wall: datetime
    boottime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What time it is for recurring actions: see `moment`. `doubted`: it is only counted on."""

    at: datetime
    doubted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Since when (by the doubtful clock, and by the boot clock) and why."""

    since: datetime
    since_s: float
    why: str

    def left_s(self, reading: Reading) -> float:
        """How long it lasts at most from here on."""
        return max(0.0, self.since_s + DOUBT_S_MAX - reading.boottime_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What is held true of the clock.

    `mark` is the newest time that was believed, `last` the newest that was read. `stepped_s`: by
    how much the clock was set between the last two readings, or at the least over a reboot.
    `settled`: how a doubt ended just now.
    """

    mark: Mark | None = None
    doubt: Doubt | None = None
    last: Mark | None = None
    stepped_s: float = 0.0
    settled: Settled | None = None


def judge(belief: Belief, reading: Reading, core: CoreDate | None = None) -> Belief:
    """What to believe after another look at the clock."""
    belief = _stepped(belief, reading)
    why = suspicion(belief.mark, reading)
    if why is None:
        return _believed(belief, Settled.PLAUSIBLE)
    if reading.synchronised:
        return _believed(belief, Settled.SYNCHRONISED)
    if core is not None and _agrees(core, reading):
        return _believed(belief, Settled.CORE)
    doubt = belief.doubt or Doubt(since=reading.wall, since_s=reading.boottime_s, why=why)
    if belief.stepped_s:
        doubt = replace(doubt, why=why)  # set once more: the words are of what it shows now
    if doubt.left_s(reading) <= 0:
        return _believed(belief, Settled.TIME_PASSED)
    return replace(belief, doubt=doubt, settled=None)


def moment(belief: Belief, reading: Reading, core: CoreDate | None = None) -> Moment:
    """The time to plan by, without taking note of the reading.

    In doubt it is what the machine has counted on since the last believed time: what is written
    down as planned can never be taken back, so it must not be written by a clock that is far ahead.
    """
    if belief.mark is None or judge(belief, reading, core).doubt is None:
        return Moment(at=reading.wall)
    return Moment(at=counted_on(belief.mark, reading), doubted=True)


def counted_on(mark: Mark, reading: Reading) -> datetime:
    """What time it is by the boot clock; after a reboot, at the least."""
    known = mark.expects(reading)
    return known if known is not None else mark.wall + timedelta(seconds=reading.boottime_s)


def suspicion(mark: Mark | None, reading: Reading) -> str | None:
    """Why this reading is hard to believe after that mark, in words; None where it is not."""
    if mark is None:
        return None
    behind_s = (mark.wall - reading.wall).total_seconds()
    if behind_s > BEHIND_S_MAX:
        return (
            f"the clock shows {format_instant(reading.wall)}, and it had been "
            f"{format_instant(mark.wall)} already"
        )
    expected = mark.expects(reading)
    if expected is None:
        return None
    ahead_s = (reading.wall - expected).total_seconds()
    if ahead_s > AHEAD_S_MAX:
        return (
            f"the clock shows {format_instant(reading.wall)}, {ahead_s / 3600:.1f} h more than the "
            f"machine has spent since {format_instant(mark.wall)}"
        )
    return None


def encode_mark(mark: Mark) -> str:
    """As it is kept."""
    return f"{format_instant(mark.wall)} {mark.boottime_s:.6f} {mark.boot_id}"


def decode_mark(text: str) -> Mark | None:
    """As it was kept; None where nothing was, or nothing that this version can read."""
    parts = text.split()
    if len(parts) != 3:
        return None
    try:
        wall, boottime_s = parse_instant(parts[0]), float(parts[1])
    except ValueError:
        return None
    if not math.isfinite(boottime_s):
        return None
    return Mark(wall=wall, boottime_s=boottime_s, boot_id=parts[2])


def _believed(belief: Belief, how: Settled) -> Belief:
    return replace(belief, mark=belief.last, doubt=None, settled=how if belief.doubt else None)


def _stepped(belief: Belief, reading: Reading) -> Belief:
    expected = _expected(belief, reading)
    stepped_s = 0.0 if expected is None else (reading.wall - expected).total_seconds()
    last = Mark(wall=reading.wall, boottime_s=reading.boottime_s, boot_id=reading.boot_id)
    return replace(belief, last=last, stepped_s=stepped_s if abs(stepped_s) >= STEP_S_MIN else 0.0)


def _expected(belief: Belief, reading: Reading) -> datetime | None:
    """What the clock would show had nobody set it since the last look; None where nobody knows.

    A clock that stands below the mark after a reboot was set back at least so far: what was written
    down by the old one moves along, or it would be moved by years when the clock is put right.
    """
    if belief.last is not None:
        return belief.last.expects(reading)
    mark = belief.mark
    if mark is None or mark.boot_id == reading.boot_id or reading.wall >= mark.wall:
        return None
    return mark.wall


def _agrees(core: CoreDate, reading: Reading) -> bool:
    since_s = reading.boottime_s - core.boottime_s
    there = core.wall + timedelta(seconds=since_s)
    return abs((reading.wall - there).total_seconds()) <= CORE_AGREES_S_MAX
