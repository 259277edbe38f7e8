"""A schedule as a rule that can be asked for its instants: next, previous, how many.

Three kinds: an interval (exact elapsed time from an anchor), one instant, and wall-clock times in
a zone. The last follow Debian's cron at clock changes: a rule whose hours or minutes are a `*`
follows the clock (what the gap skips does not happen, what is repeated happens twice); one that
names times of day happens once for each of them: in a gap right after it, in a repeated hour the
first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from agent.domain.schedule.at_text import read_at
from agent.domain.schedule.cron import read_cron
from agent.domain.schedule.local import LocalRule
from agent.domain.schedule.spans import read_every_s
from agent.domain.schedule.spec import Schedule
from agent.domain.schedule.zones import YEAR_MAX, YEAR_MIN, Piece, offset_at, piece_at, zone_of

_TICK = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_FIRST = datetime(YEAR_MIN, 1, 1)  # noqa: DTZ001
_LAST = datetime(YEAR_MAX, 1, 1)  # noqa: DTZ001
CALENDAR_BEGIN = datetime.min.replace(tzinfo=UTC)
CALENDAR_END = datetime.max.replace(tzinfo=UTC)
_EARLIEST, _LATEST = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001 — any zone has them


class Rule(Protocol):
    """Instants in rising order, all aware UTC."""

    def at_or_after(self, moment: datetime) -> datetime | None:
        """The first instant from this one on."""

    def before(self, moment: datetime) -> datetime | None:
        """The last instant before this one."""

    def count(self, begin: datetime, end: datetime) -> int:
        """How many in [begin, end)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Every `step` from `first` on; `both_ways` also before it (backfill)."""

    first: datetime
    step: timedelta
    both_ways: bool = False

    def at_or_after(self, moment: datetime) -> datetime | None:
        """The first instant from this one on."""
        steps = -((self.first - moment) // self.step)
        return self._nth(steps if self.both_ways else max(steps, 0))

    def before(self, moment: datetime) -> datetime | None:
        """The last instant before this one."""
        steps = (moment - self.first - _TICK) // self.step
        return None if steps < 0 and not self.both_ways else self._nth(steps)

    def count(self, begin: datetime, end: datetime) -> int:
        """How many in [begin, end)."""
        low = -((self.first - begin) // self.step)
        high = -((self.first - end) // self.step)
        return max(0, high - (low if self.both_ways else max(low, 0)))

    def _nth(self, steps: int) -> datetime | None:
        try:
            return self.first + steps * self.step
        except OverflowError:
            return None  # beyond the year 9999


@dataclass(frozen=True, slots=True)
class Once:
    """One instant; None: never by the clock (`after` waits for an end)."""

    at: datetime | None

    def at_or_after(self, moment: datetime) -> datetime | None:
        """The first instant from this one on."""
        return self.at if self.at is not None and self.at >= moment else None

    def before(self, moment: datetime) -> datetime | None:
        """The last instant before this one."""
        return self.at if self.at is not None and self.at < moment else None

    def count(self, begin: datetime, end: datetime) -> int:
        """How many in [begin, end)."""
        return int(self.at is not None and begin <= self.at < end)


@dataclass(frozen=True, slots=True)
class OnTheClock:
    """Wall-clock times in a zone."""

    local: LocalRule
    zone: tzinfo

    def at_or_after(self, moment: datetime) -> datetime | None:
        """The first instant from this one on."""
        at = max(moment.astimezone(UTC).replace(tzinfo=None), _FIRST)
        if at > _LAST:
            return None
        found = self._fixed_from(at) if self.local.fixed else self._following_from(at)
        return None if found is None else found.replace(tzinfo=UTC)

    def before(self, moment: datetime) -> datetime | None:
        """The last instant before this one."""
        at = min(moment.astimezone(UTC).replace(tzinfo=None), _LAST)
        if at <= _FIRST:
            return None
        found = self._fixed_before(at) if self.local.fixed else self._following_before(at)
        return None if found is None or found < _FIRST else found.replace(tzinfo=UTC)

    def count(self, begin: datetime, end: datetime) -> int:
        """How many in [begin, end)."""
        low = max(begin.astimezone(UTC).replace(tzinfo=None), _FIRST)
        high = min(end.astimezone(UTC).replace(tzinfo=None), _LAST)
        if low >= high:
            return 0
        return (
            self._fixed_count(low, high) if self.local.fixed else self._following_count(low, high)
        )

    def _following_from(self, at: datetime) -> datetime | None:
        piece = piece_at(self.zone, at)
        since = at + piece.offset
        wall = self.local.at_or_after(since)
        while wall is not None and wall >= piece.end + piece.offset:
            if piece.end > _LAST:
                return None
            then = piece_at(self.zone, piece.end)
            start = piece.end + then.offset
            if wall < start or start < since:  # skipped by the gap, or the hour comes again
                since, wall = start, self.local.at_or_after(start)
            piece = then
        return None if wall is None else wall - piece.offset

    def _following_before(self, at: datetime) -> datetime | None:
        piece = piece_at(self.zone, at - _TICK)
        wall = self.local.before(at + piece.offset)
        while wall is not None and wall < piece.start + piece.offset:
            if piece.start <= _FIRST:
                return None
            if piece.before != piece.offset:
                wall = self.local.before(piece.start + piece.before)
            piece = piece_at(self.zone, piece.start - _TICK)
        return None if wall is None else wall - piece.offset

    def _following_count(self, low: datetime, high: datetime) -> int:
        number = 0
        while low < high:
            piece = piece_at(self.zone, low)
            until = min(piece.end, high)
            number += self.local.count(low + piece.offset, until + piece.offset)
            low = until
        return number

    def _wall_from(self, at: datetime, piece: Piece) -> datetime:
        """The first wall-clock time whose instant is not before `at`, for fixed times.

        At the change itself it is the start of the gap, or the end of the repeated hour.
        """
        if at == piece.start:
            return at + piece.before
        return max(at + piece.offset, piece.start + piece.before)

    def _fixed_from(self, at: datetime) -> datetime | None:
        piece = piece_at(self.zone, at)
        wall = self.local.at_or_after(self._wall_from(at, piece))
        if wall is None:
            return None
        if wall < piece.start + piece.offset:
            return piece.start
        while wall >= piece.end + piece.offset:
            if piece.end > _LAST:
                return None
            then = piece_at(self.zone, piece.end)
            if wall < piece.end + then.offset:
                return piece.end
            piece = then
        return wall - piece.offset

    def _fixed_before(self, at: datetime) -> datetime | None:
        piece = piece_at(self.zone, at - _TICK)
        wall = self.local.before(self._wall_from(at, piece))
        while wall is not None and piece.start > _FIRST:
            if wall >= piece.start + max(piece.before, piece.offset):
                return wall - piece.offset
            if wall >= piece.start + piece.before:
                return piece.start
            piece = piece_at(self.zone, piece.start - _TICK)
        return None if wall is None else wall - piece.offset

    def _fixed_count(self, low: datetime, high: datetime) -> int:
        """Named times between the two, those that a gap folds into one instant counted once."""
        first = self._wall_from(low, piece_at(self.zone, low))
        number = self.local.count(first, self._wall_from(high, piece_at(self.zone, high)))
        while low < high:
            piece = piece_at(self.zone, low)
            if piece.start == low:
                gap_end = piece.start + piece.offset
                skipped = self.local.count(piece.start + piece.before, gap_end)
                if skipped:
                    number -= skipped + self.local.count(gap_end, gap_end + _SECOND) - 1
            low = piece.end
        return number


def ceil_second(moment: datetime) -> datetime:
    """The next whole second: ids of occurrences and intervals are told in whole seconds."""
    if not moment.microsecond:
        return moment
    return shifted(moment.replace(microsecond=0), _SECOND)


def shifted(moment: datetime, by: timedelta) -> datetime:
    """The instant that much later; the calendar's first or last one where it has no such.

    `9999-12-31` is how people write "never", and it has to bear a window behind it.
    """
    try:
        return moment + by
    except OverflowError:
        return CALENDAR_END if by > timedelta(0) else CALENDAR_BEGIN


def rule_of(
    schedule: Schedule, anchor_at: datetime, *, zone: str, first_at_anchor: bool = False
) -> Rule:
    """The rule of a schedule. `first_at_anchor`: an interval's first instant is the anchor itself.

    Raises `UnknownZone` where the zone database lost the zone since the rule was accepted.
    """
    delay = timedelta(seconds=schedule.delay_s or 0)
    if schedule.every is not None:
        step = timedelta(seconds=read_every_s(schedule.every))
        after = delay if first_at_anchor or schedule.delay_s is not None else step
        first = shifted(anchor_at, after)
        return Interval(schedule.date or first, step)
    if schedule.cron is not None or schedule.at is not None:
        where = zone_of(schedule.timezone or zone)
        if schedule.cron is not None:
            return OnTheClock(read_cron(schedule.cron), where)
        naive = min(max(anchor_at.astimezone(UTC).replace(tzinfo=None), _EARLIEST), _LATEST)
        origin = (naive + offset_at(where, naive)).date()
        return OnTheClock(read_at(schedule.at or "").local_rule(origin), where)
    if schedule.date is not None:
        return Once(schedule.date)
    if schedule.after is None and schedule.delay_s is not None:
        return Once(shifted(anchor_at, delay))
    return Once(None)
