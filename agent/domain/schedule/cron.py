"""Cron lines: `cronsim` reads them and says which days match; the walk over them is `local`'s.

Five fields, or six with the seconds first; `L`, `LW`, `5L`, `MON#2`, names, ranges, steps, lists,
`?`, and `@daily` and its like. As in Debian's cron, day of month and day of week both count where
one begins with a star, else either is enough.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from agent.domain.errors import shown
from agent.domain.schedule.local import Days, Grid, LocalRule

if TYPE_CHECKING:
    from cronsim import CronSim  # at run time only once there is a line to read

CRON_CHARS_MAX = 256
_KEPT = 256
_WORDS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}  # fmt: skip
_FIELD = {
    "second": "second (0-59)", "minute": "minute (0-59)", "hour": "hour (0-23)",
    "day-of-month": "day of the month (1-31, L, LW)", "month": "month (1-12, JAN-DEC)",
    "day-of-week": "day of the week (0-7, SUN-SAT, 5L, MON#2; Sunday is 0 or 7)",
}  # fmt: skip
# A range of one with a step: cron's is that one, cronsim would go on to the field's end (`5/10`).
_RANGE_OF_ONE = re.compile(r"(?<![^,])(\w+)-\1/0*[1-9]\d*(?![^,])", re.ASCII)
_PROBE_DAY = date(2024, 1, 1)  # half a century from here has every kind of year
_START = datetime(2024, 1, 1)  # noqa: DTZ001 — only the fields are read, nothing is counted from it


def looks_like_cron(text: str) -> bool:
    """Whether the text is meant as a cron line (not whether it is a good one)."""
    if text.lstrip().startswith("@") or "*" in text:
        return True
    parts = text.split()
    return len(parts) in {5, 6} and all(re.match(r"[\d?L]", part) for part in parts[:3])


@lru_cache(_KEPT)
def read_cron(text: str) -> LocalRule:
    """The line as days and times of day. ValueError says which field is wrong and what fits."""
    fields = _fields(text)
    line = _parsed(text, fields)
    days = Days(
        line.match_day,
        frozenset(line.months),
        every_day=line.parts[3] == line.parts[5] == "*" and len(line.months) == 12,
    )
    if days.at_or_after(_PROBE_DAY) is None:
        raise ValueError(f"{shown(text)} never happens: no day fits all its fields")
    minutes, hours = fields[-5], fields[-4]
    fixed = not minutes.startswith("*") and not hours.startswith("*")
    grid = Grid(tuple(sorted(line.hours)), tuple(sorted(line.minutes)), tuple(sorted(line.seconds)))
    return LocalRule(days, grid, fixed)


def _fields(text: str) -> list[str]:
    if len(text) > CRON_CHARS_MAX:
        raise ValueError(f"is {len(text)} characters long; at most {CRON_CHARS_MAX} are read")
    word = text.strip().lower()
    if word.startswith("@"):
        if word not in _WORDS:
            known = ", ".join(_WORDS)
            raise ValueError(f"{shown(text)} is not one of {known}")
        return _WORDS[word].split()
    fields = text.upper().split()
    if len(fields) not in {5, 6}:
        raise ValueError(
            f"{shown(text)} has {len(fields)} fields; write five (minute hour day month weekday), "
            "or six with the seconds first"
        )
    fields = [_RANGE_OF_ONE.sub(r"\1", field) for field in fields]
    for place in (-3, -1):  # Quartz and bree write ? for "any" in the two fields of days
        fields[place] = "*" if fields[place] == "?" else fields[place]
    return fields


def _parsed(text: str, fields: list[str]) -> CronSim:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415

    try:
        return CronSim(" ".join(fields), _START)
    except CronSimError as error:
        named = str(error).removeprefix("Bad ")
        if named == "day-of-month" and fields[-2] != "*":
            _parsed(text, [*fields[:-2], "*", fields[-1]])  # raises if the day alone is wrong
            raise ValueError(f"{shown(text)} never happens: no such month has that day") from None
        raise ValueError(f"{shown(text)}: bad {_FIELD.get(named, named)}") from None
    except (ValueError, AssertionError):
        raise ValueError(f"{shown(text)} is not a cron line") from None
