"""Times of day in words, for `at`: `10:15 am`, `monday at 10:15`, `on the last day of the month`.

What is not understood is refused, with what is; nothing is guessed. A day without a time means
midnight, a time without a day every day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache

from agent.domain.errors import shown
from agent.domain.schedule.local import Days, Listed, LocalRule

TEXT_CHARS_MAX = 256
TIMES_MAX = 48  # more times a day than every half hour are better written as cron
STEP_DAYS_MAX = 366
_KEPT = 256
_LAST = -1
_WEEKDAYS = (
    ("monday", "mon"), ("tuesday", "tue", "tues"), ("wednesday", "wed"),
    ("thursday", "thu", "thur", "thurs"), ("friday", "fri"), ("saturday", "sat"), ("sunday", "sun"),
)  # fmt: skip
_DAY = {name: index for index, names in enumerate(_WEEKDAYS) for name in names}
_DAY |= {f"{names[0]}s": index for index, names in enumerate(_WEEKDAYS)}
_GROUPS = {"weekday": range(5), "weekdays": range(5), "weekend": (5, 6), "weekends": (5, 6)}
_MONTHS = (
    ("january", "jan"), ("february", "feb"), ("march", "mar"), ("april", "apr"), ("may",),
    ("june", "jun"), ("july", "jul"), ("august", "aug"), ("september", "sep", "sept"),
    ("october", "oct"), ("november", "nov"), ("december", "dec"),
)  # fmt: skip
_MONTH = {name: number for number, names in enumerate(_MONTHS, 1) for name in names}
_RANK = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": _LAST,
}  # fmt: skip
_FILLERS = {"the", "of", "in", "on", "each", "and", "also", "at", "month", "months"}
_TIME = (
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2}))?)?\s*(?P<half>[ap]\.?m\b\.?)?"
)
_TOKEN = re.compile(
    rf"(?P<ordinal>\d{{1,2}})(?:st|nd|rd|th)\b|(?P<number>\d{{3,}})|(?P<time>{_TIME})|(?P<word>[a-z]+)"
    r"|(?P<sign>[,&-])|\s+",
    re.ASCII,
)
_UNDERSTOOD = (
    "write '10:15 am', '22:15', '6:00 and 18:00', 'monday at 10:15', 'every weekday at 7 pm', "
    "'every 2 days at 10:15', 'last day of the month at 23:00', 'first monday at 4:00', "
    "'every day at 8:00 except sunday', or a cron line"
)


@dataclass(slots=True)
class AtText:
    """What the words said. Days by weekday, or of the month, or by rank, or every so many."""

    text: str
    times: list[int] = field(default_factory=list)
    weekdays: set[int] = field(default_factory=set)
    month_days: set[int] = field(default_factory=set)
    ranked: set[tuple[int, int]] = field(default_factory=set)  # (rank, weekday); 7: Monday–Friday
    months: set[int] = field(default_factory=set)
    excepted: set[int] = field(default_factory=set)
    step: int = 1

    def local_rule(self, origin: date) -> LocalRule:
        """As days and times; every so many days are counted from `origin`."""
        months = frozenset(self.months or range(1, 13))
        plain = not (self.weekdays or self.month_days or self.ranked or self.excepted)
        return LocalRule(
            Days(
                lambda day: self._matches(day, origin),
                months,
                every_day=plain and self.step == 1 and len(months) == 12,
            ),
            Listed(tuple(sorted(set(self.times)))),
            fixed=True,
        )

    def _matches(self, day: date, origin: date) -> bool:
        if day.weekday() in self.excepted:
            return False
        if self.weekdays:
            return day.weekday() in self.weekdays
        if self.month_days:
            return day.day in self.month_days or (_LAST in self.month_days and _is_last(day))
        if self.ranked:
            return any(_has_rank(day, rank, weekday) for rank, weekday in self.ranked)
        return (day - origin).days % self.step == 0


def _is_last(day: date) -> bool:
    return (day + timedelta(days=1)).day == 1


def _has_rank(day: date, rank: int, weekday: int) -> bool:
    """Whether it is the first, …, last of its month among such days (7: Monday to Friday)."""
    if weekday == 7:
        if day.weekday() >= 5:
            return False
        if rank == _LAST:
            return (day + timedelta(days=3 if day.weekday() == 4 else 1)).month != day.month
        before = (day.replace(day=n).weekday() < 5 for n in range(1, day.day))
        return day.day < 10 and sum(before) == rank - 1
    if day.weekday() != weekday:
        return False
    if rank == _LAST:
        return (day + timedelta(days=7)).month != day.month
    return (day.day + 6) // 7 == rank


@lru_cache(_KEPT)
def read_at(text: str) -> AtText:
    """The words read. ValueError says which are not understood, and what is."""
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"is {len(text)} characters long; at most {TEXT_CHARS_MAX} are read")
    found = _Reader(text).read()
    if len(found.times) > TIMES_MAX:
        raise ValueError(f"{shown(text)} names more than {TIMES_MAX} times; write a cron line")
    kinds = [bool(found.weekdays), bool(found.month_days), bool(found.ranked), found.step > 1]
    if sum(kinds) > 1:
        raise ValueError(
            f"{shown(text)} names its days in two ways; write two recurring actions, or a cron line"
        )
    found.times = found.times or [0]
    if found.local_rule(date(2024, 1, 1)).days.at_or_after(date(2024, 1, 1)) is None:
        raise ValueError(f"{shown(text)} never happens: no day fits it")
    return found


class _Reader:
    """One pass over the words; each method consumes what it understands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found = AtText(text)
        self.tokens = list(self._tokens(text.lower()))
        self.at = 0
        self.excepting = False
        self.named_days = False  # since the latest time of day

    def read(self) -> AtText:
        if not self.tokens:
            raise ValueError(f"says nothing; {_UNDERSTOOD}")
        said = False
        while self.at < len(self.tokens):
            match = self._next()
            word = match["word"]
            if match["time"]:
                self._add_time(self._time(match))
            elif match["ordinal"]:
                self._ranked(int(match["ordinal"]))
            elif match["sign"] in {",", "&"}:
                continue
            elif word == "except":
                self.excepting = True
                continue
            elif word in {"noon", "midday", "midnight"}:
                self._add_time(0 if word == "midnight" else 12 * 3600)
            elif word in _DAY or word in _GROUPS:
                self._add_weekdays(self._days(word))
            elif word in _MONTH:
                self._names_days(word)
                self.found.months.update(self._months(word))
            elif word in _RANK:
                self._ranked(_RANK[word])
            elif word == "every":
                self._every()
            elif word in {"day", "days", "daily"}:
                pass
            elif word in _FILLERS:
                continue
            else:
                raise self._refused(match[0].strip())
            said = True
        if self.excepting and not self.found.excepted:
            raise self._refused("except")
        if not said:
            raise ValueError(f"{shown(self.text)} names no time and no day; {_UNDERSTOOD}")
        return self.found

    def _tokens(self, words: str) -> list[re.Match[str]]:
        found, at = [], 0
        while at < len(words):
            match = _TOKEN.match(words, at)
            if match is None:
                raise self._refused(words[at])
            at = match.end()
            if match[0].strip():
                found.append(match)
        return found

    def _next(self) -> re.Match[str]:
        self.at += 1
        return self.tokens[self.at - 1]

    def _peek(self) -> str:
        return self.tokens[self.at][0].strip() if self.at < len(self.tokens) else ""

    def _refused(self, word: str) -> ValueError:
        return ValueError(f"{shown(self.text)}: {word!r} is not understood; {_UNDERSTOOD}")

    def _add_time(self, second: int) -> None:
        """Times belong to all the days, so a second group of them behind other days is no rule."""
        if self.excepting and not self.found.excepted:
            raise ValueError(f"{shown(self.text)}: a time cannot be excepted; leave it out")
        if self.found.times and self.named_days:
            raise ValueError(
                f"{shown(self.text)} has different times on different days; write two recurring "
                "actions, or a cron line"
            )
        self.found.times.append(second)
        self.named_days = False

    def _add_weekdays(self, days: set[int]) -> None:
        self.named_days = True
        (self.found.excepted if self.excepting else self.found.weekdays).update(days)

    def _names_days(self, word: str) -> None:
        """Days by date, rank, month or step, which `except` does not understand."""
        if self.excepting:
            raise ValueError(
                f"{shown(self.text)}: {word!r} cannot be excepted; only days of the week can"
            )
        self.named_days = True

    def _time(self, match: re.Match[str]) -> int:
        hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
        half = (match["half"] or "").replace(".", "")
        if not half and match["minute"] is None:
            raise ValueError(
                f"{shown(self.text)}: {hour} is not a time; write {hour}:00 or {hour} am"
            )
        if half:
            if not 1 <= hour <= 12:
                raise ValueError(f"{shown(self.text)}: there is no {hour} {half}")
            hour = hour % 12 + (12 if half == "pm" else 0)
        if hour > 23 or minute > 59 or second > 59:
            raise ValueError(f"{shown(self.text)}: there is no {match[0].strip()} on the clock")
        return hour * 3600 + minute * 60 + second

    def _days(self, word: str) -> set[int]:
        if word in _GROUPS:
            return set(_GROUPS[word])
        first = _DAY[word]
        last = self._range_end(_DAY)
        if last is None:
            return {first}
        return {(first + n) % 7 for n in range((last - first) % 7 + 1)}

    def _months(self, word: str) -> set[int]:
        first = _MONTH[word]
        last = self._range_end(_MONTH)
        if last is None:
            return {first}
        return {(first - 1 + n) % 12 + 1 for n in range((last - first) % 12 + 1)}

    def _range_end(self, names: dict[str, int]) -> int | None:
        if self._peek() not in {"-", "to", "through"}:
            return None
        self.at += 1
        word = self._peek()
        if word not in names:
            raise self._refused(word or "the end of a range is missing")
        self.at += 1
        return names[word]

    def _ranked(self, rank: int) -> None:
        """`last day`, `15th day`, `first monday`, `last weekday`, `15th`."""
        self._names_days(self.tokens[self.at - 1][0].strip())
        word = self._peek()
        if word in _DAY or word == "weekday":
            if rank != _LAST and not 1 <= rank <= 5:
                raise ValueError(f"{shown(self.text)}: no month has a {rank}th {word}")
            self.at += 1
            self.found.ranked.add((rank, _DAY.get(word, 7)))
            return
        if rank != _LAST and not 1 <= rank <= 31:
            raise ValueError(f"{shown(self.text)}: no month has a day {rank}")
        if word == "day":
            self.at += 1
        self.found.month_days.add(rank)

    def _every(self) -> None:
        """`every day`, `every monday`, `every 2 days`, `every other day`."""
        word = self._peek()
        number = 2 if word == "other" else int(word) if word.isdigit() and word.isascii() else None
        if number is None:
            if word == "month":
                return
            if word not in {"day", "weekday", "weekend", *_DAY}:
                raise self._refused(f"every {word}".strip())
            return
        self.at += 1
        if self._peek() not in {"day", "days"} or not 1 <= number <= STEP_DAYS_MAX:
            raise self._refused(f"every {word} {self._peek()}".strip())
        self.at += 1
        self._names_days(f"every {word} days")
        self.found.step = number
