"""Readers of a schedule's texts: each checks by the domain's own parser and keeps the words given.

The words are kept because people read them again; what they mean is read anew from them.
"""

from __future__ import annotations

from typing import Any

from agent.domain.errors import shown
from agent.domain.instants import SPAN_S_MAX
from agent.domain.schedule.at_text import read_at
from agent.domain.schedule.cron import CRON_CHARS_MAX, looks_like_cron, read_cron
from agent.domain.schedule.spans import read_every_s, read_span_s
from agent.domain.schedule.zones import zone_of
from agent.wire import fields as f


def words(value: Any, chars_max: int) -> str:
    """A text without the blanks around it."""
    text: str = f.text(chars_max)(value)
    return text.strip()


def cron_line(value: Any) -> str:
    """A cron line that happens some day."""
    line = words(value, CRON_CHARS_MAX)
    read_cron(line)
    return line


def interval(value: Any) -> str:
    """An interval in words, or in seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{f.number(0, SPAN_S_MAX)(value):f}".rstrip("0").rstrip(".")
    text = words(value, 128)
    read_every_s(text)
    return text


def times(value: Any) -> str:
    """Times of day, with or without days."""
    text = words(value, 256)
    try:
        read_at(text)
    except ValueError as error:
        if _is_interval(text):
            raise ValueError(f"{shown(text)} is an interval; write it as every") from None
        raise ValueError(str(error)) from None
    return text


def interval_or_times(text: str) -> dict[str, str]:
    """`every` or `at`, whichever the words are; the fault is that of what they begin as."""
    try:
        return {"every": interval(text)}
    except ValueError as not_interval:
        try:
            return {"at": times(text)}
        except ValueError as not_times:
            begins = text.strip().lower().removeprefix("every ")[:1].isdigit()
            as_interval = begins and ":" not in text and " at " not in text
            raise ValueError(str(not_interval if as_interval else not_times)) from None


def plain_text(text: str) -> dict[str, Any]:
    """A whole schedule as one text: a cron line, a date, an interval or times of day."""
    if looks_like_cron(text):
        return {"cron": cron_line(text)}
    if text[:4].isdigit() and text[4:5] == "-":
        return {"date": f.instant(text)}
    return dict(interval_or_times(text))


def zone(value: Any) -> str:
    """An IANA name that this node has; bree's `local` and `system` are the empty text."""
    name = words(value, 64)
    if name in {"local", "system"}:
        return ""
    zone_of(name)
    return name


def span(low: float, high: float) -> f.Reader:
    """A length of time in words or in seconds, within bounds."""
    bounds = f.number(low, high)
    return lambda value: bounds(read_span_s(value) if isinstance(value, str) else value)


def milliseconds(value: Any) -> float:
    """A number of milliseconds as seconds."""
    number: float = f.number(0, SPAN_S_MAX * 1000)(value)
    return number / 1000


def _is_interval(text: str) -> bool:
    try:
        read_every_s(text)
    except ValueError:
        return False
    return True
