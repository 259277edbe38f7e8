"""Lengths of time in words, for `every` and its like: `15m`, `5 minutes`, `3 days and 4 hours`.

A day is 24 hours of elapsed time and a week seven of them, across clock changes too; months and
years have no length and are refused. Whole seconds: instants are named by them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from agent.domain.errors import shown
from agent.domain.instants import SPAN_S_MAX

EVERY_S_MIN = 1.0
TEXT_CHARS_MAX = 128
_KEPT = 256
_UNIT_S = {
    "ms": 0.001, "msec": 0.001, "msecs": 0.001, "millisecond": 0.001, "milliseconds": 0.001,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "wk": 604800.0, "week": 604800.0, "weeks": 604800.0,
    "fortnight": 1209600.0, "fortnights": 1209600.0,
}  # fmt: skip
_CALENDAR = {"mo", "month", "months", "quarter", "quarters", "y", "yr", "yrs", "year", "years"}
_NUMBERS = {
    "a": 1.0, "an": 1.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0,
    "six": 6.0, "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0, "eleven": 11.0,
    "twelve": 12.0, "fifteen": 15.0, "twenty": 20.0, "thirty": 30.0, "forty": 40.0,
    "fifty": 50.0, "sixty": 60.0, "half": 0.5, "other": 2.0,
}  # fmt: skip
_ISO = re.compile(
    r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII
)
_ISO_S = (604800.0, 86400.0, 3600.0, 60.0, 1.0)
_TOKEN = re.compile(r"(\d+(?:\.\d+)?)|([a-z]+)|([,&+])|\s+", re.ASCII)
_UNDERSTOOD = "write 15m, 5 minutes, 3 days and 4 hours, 2 days or a number of seconds"


def read_span_s(text: str) -> float:
    """Words → seconds. ValueError names what was not understood and what is.

    >>> read_span_s("3 days and 4 hours")
    273600.0
    """
    words = text.strip()
    if len(words) > TEXT_CHARS_MAX:
        raise ValueError(f"is {len(words)} characters long; at most {TEXT_CHARS_MAX} are read")
    iso = _ISO.fullmatch(words.upper())
    if iso is not None and any(iso.groups()):
        return _bounded(
            text, sum(float(n or 0) * s for n, s in zip(iso.groups(), _ISO_S, strict=True))
        )
    total, number, parts = 0.0, None, 0
    for kind, token in _tokens(text, words.lower()):
        if kind == "number":
            if number is not None:
                raise ValueError(f"{shown(text)}: a number without a unit; {_UNDERSTOOD}")
            number = float(token)
        elif token in _UNIT_S:
            total += (1.0 if number is None and parts == 0 else _need(text, number)) * _UNIT_S[
                token
            ]
            number, parts = None, parts + 1
        elif token in _CALENDAR:
            raise ValueError(
                f"{shown(text)}: months and years differ in length; write a cron line such as "
                "'0 3 1 * *' (the first of every month at 03:00)"
            )
        elif token in _NUMBERS and number is None:
            number = _NUMBERS[token]
        elif token not in {"and", ",", "&", "+", "of", "an", "a"}:
            raise ValueError(f"{shown(text)}: {token!r} is not understood; {_UNDERSTOOD}")
    if number is not None and parts == 0:
        total, parts = number, 1  # a bare number is seconds
    elif number is not None:
        raise ValueError(f"{shown(text)}: a number without a unit; {_UNDERSTOOD}")
    if parts == 0:
        raise ValueError(f"{shown(text)} is not a length of time; {_UNDERSTOOD}")
    return _bounded(text, total)


@lru_cache(_KEPT)
def read_every_s(text: str) -> float:
    """An interval: at least a second, in whole seconds; `every` may stand before it."""
    words = text.strip()
    if words.lower().startswith("every "):
        words = words[6:]
    seconds = read_span_s(words)
    if seconds < EVERY_S_MIN:
        raise ValueError(f"{shown(text)} is shorter than a second, the shortest interval")
    if seconds != int(seconds):
        raise ValueError(f"{shown(text)} is not a whole number of seconds")
    return seconds


def _tokens(text: str, words: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(words):
        match = _TOKEN.match(words, at)
        if match is None:
            raise ValueError(f"{shown(text)}: {words[at]!r} is not understood; {_UNDERSTOOD}")
        at = match.end()
        if match[1]:
            found.append(("number", match[1]))
        elif match[2] or match[3]:
            found.append(("word", match[2] or match[3]))
    return found


def _need(text: str, number: float | None) -> float:
    if number is None:
        raise ValueError(f"{shown(text)}: a unit without a number; {_UNDERSTOOD}")
    return number


def _bounded(text: str, seconds: float) -> float:
    if not 0 <= seconds <= SPAN_S_MAX:
        raise ValueError(f"{shown(text)} is outside 0 s to a century")
    return round(seconds, 6)
