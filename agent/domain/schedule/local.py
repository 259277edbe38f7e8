"""Which wall-clock times a rule names, as if no clock were ever changed: days × times of day.

Both directions and the number between two moments are computed, never walked second by second:
a month of missed every-second instants is counted in a few microseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol

DAY_S = 86_400
SEARCH_YEARS = (
    50  # a rule that names no day for so long never will (the calendar's longest gap is 40)
)
_DAY = timedelta(days=1)


class Times(Protocol):
    """Seconds of the day, in order."""

    def total(self) -> int:
        """How many there are."""

    def nth(self, index: int) -> int:
        """The second of the day at that place."""

    def below(self, second: int) -> int:
        """How many lie before that second."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination of hours, minutes and seconds (cron)."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]

    def total(self) -> int:
        """How many there are."""
        return len(self.hours) * len(self.minutes) * len(self.seconds)

    def nth(self, index: int) -> int:
        """The second of the day at that place."""
        rest, second = divmod(index, len(self.seconds))
        hour, minute = divmod(rest, len(self.minutes))
        return self.hours[hour] * 3600 + self.minutes[minute] * 60 + self.seconds[second]

    def below(self, second: int) -> int:
        """How many lie before that second."""
        rest, s = divmod(second, 60)
        h, m = divmod(rest, 60)
        i = bisect_left(self.hours, h)
        count = i * len(self.minutes) * len(self.seconds)
        if i == len(self.hours) or self.hours[i] != h:
            return count
        j = bisect_left(self.minutes, m)
        count += j * len(self.seconds)
        if j == len(self.minutes) or self.minutes[j] != m:
            return count
        return count + bisect_left(self.seconds, s)


@dataclass(frozen=True, slots=True)
class Listed:
    """Times of day one by one, sorted."""

    times: tuple[int, ...]

    def total(self) -> int:
        """How many there are."""
        return len(self.times)

    def nth(self, index: int) -> int:
        """The second of the day at that place."""
        return self.times[index]

    def below(self, second: int) -> int:
        """How many lie before that second."""
        return bisect_left(self.times, second)


@dataclass(frozen=True, slots=True)
class Days:
    """Which days: `matches` decides, in these months only (so that whole months are leapt over)."""

    matches: Callable[[date], bool]
    months: frozenset[int] = frozenset(range(1, 13))
    every_day: bool = False

    def at_or_after(self, day: date) -> date | None:
        """The first day from this one on."""
        last = _years_away(day, SEARCH_YEARS)
        while day <= last:
            if day.month not in self.months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            elif self.matches(day):
                return day
            else:
                day += _DAY
        return None

    def at_or_before(self, day: date) -> date | None:
        """The last day up to this one."""
        first = _years_away(day, -SEARCH_YEARS)
        while day >= first:
            if day.month not in self.months:
                day = day.replace(day=1) - _DAY
            elif self.matches(day):
                return day
            else:
                day -= _DAY
        return None

    def count(self, first: date, end: date) -> int:
        """How many in [first, end)."""
        if self.every_day:
            return max(0, (end - first).days)
        number, day = 0, self.at_or_after(first)
        while day is not None and day < end:
            number += 1
            day = self.at_or_after(day + _DAY)
        return number


def _years_away(day: date, years: int) -> date:
    return date(min(max(day.year + years, 2), 9998), 1, 1)


@dataclass(frozen=True, slots=True)
class LocalRule:
    """Days × times of day. `fixed`: names times of day, as against following the clock all day."""

    days: Days
    times: Times
    fixed: bool

    def at_or_after(self, moment: datetime) -> datetime | None:
        """The first named time from this one on, or None within half a century."""
        day = self.days.at_or_after(moment.date())
        if day == moment.date():
            index = self.times.below(_second(moment))
            if index < self.times.total():
                return _at(day, self.times.nth(index))
            day = self.days.at_or_after(day + _DAY)
        return None if day is None else _at(day, self.times.nth(0))

    def before(self, moment: datetime) -> datetime | None:
        """The last named time before this one."""
        day = self.days.at_or_before(moment.date())
        if day == moment.date():
            index = self.times.below(_second(moment))
            if index > 0:
                return _at(day, self.times.nth(index - 1))
            day = self.days.at_or_before(day - _DAY)
        return None if day is None else _at(day, self.times.nth(self.times.total() - 1))

    def count(self, begin: datetime, end: datetime) -> int:
        """How many in [begin, end)."""
        if begin >= end:
            return 0
        number = self.days.count(begin.date(), end.date()) * self.times.total()
        for moment, sign in ((begin, -1), (end, 1)):
            if self.days.count(moment.date(), moment.date() + _DAY):
                number += sign * self.times.below(_second(moment))
        return number


def _second(moment: datetime) -> int:
    """The second of the day, a started one counted as over (named times are whole seconds)."""
    second = moment.hour * 3600 + moment.minute * 60 + moment.second
    return second + (1 if moment.microsecond else 0)


def _at(day: date, second: int) -> datetime:
    return datetime.combine(day, time()) + timedelta(seconds=second)
