"""Instants and lengths of time, both ways: as people write them on a command line and read them.

The current time is passed in; the commands read it once, in their entry point.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.domain.instants import parse_instant, parse_span_s
from agent.domain.spans import span_text


def read_when(text: str, now: datetime) -> datetime:
    """RFC 3339 with a zone, `now`, or `+10m` from now → aware UTC. ValueError with a hint.

    >>> from datetime import UTC
    >>> read_when("+1h30m", datetime(2026, 1, 15, 12, tzinfo=UTC)).isoformat()
    '2026-01-15T13:30:00+00:00'
    """
    given = text.strip()
    if given == "now":
        return now
    if given.startswith("+"):
        return now + timedelta(seconds=parse_span_s(given[1:]))
    try:
        return parse_instant(given)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}{_hint(given)}") from None


def _hint(given: str) -> str:
    """For a date without a zone: the same date with this machine's, ready to be copied."""
    try:
        local = datetime.fromisoformat(given)
    except ValueError:
        return "; or +10m for ten minutes from now"
    if local.tzinfo is not None:
        return ""
    return f"; if local time was meant: {local.astimezone().isoformat(timespec='seconds')}"


def span(seconds: float) -> str:
    """A length of time as the domain's sentences have it, with its sign."""
    return f"-{span_text(seconds)}" if seconds < 0 else span_text(seconds)


def relative(instant: str | None, now: datetime) -> str:
    """An instant of the API, seen from now: `in 5 min`, `12 s ago`, `-` for none."""
    if instant is None:
        return "-"
    seconds = -age_s(instant, now)
    if abs(seconds) < 0.5:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def age_s(instant: str | None, now: datetime) -> float:
    """Seconds since an instant of the API; negative for one to come, 0 for none."""
    return 0.0 if instant is None else (now - parse_instant(instant)).total_seconds()


def clock_time(instant: str | None) -> str:
    """An instant to the millisecond, UTC, always of the same width."""
    if instant is None:
        return "-"
    moment = parse_instant(instant)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def duration(start: str | None, end: str | None) -> float | None:
    """Seconds from one instant of the API to another."""
    if start is None or end is None:
        return None
    return (parse_instant(end) - parse_instant(start)).total_seconds()
