"""Instants: aware UTC everywhere inside, RFC 3339 with a zone at the edges, microseconds on disk.

Nothing here reads a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?"
    r"([Zz]|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h|d|w)", re.ASCII)
_SPAN_S = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SPAN_S_MAX = 100 * 366 * 86400  # a century: anything longer is a slip of the hand


def parse_instant(text: str) -> datetime:
    """RFC 3339 with a zone → aware UTC. ValueError says what is missing.

    >>> parse_instant("2026-01-15T12:00:00+02:00").isoformat()
    '2026-01-15T10:00:00+00:00'
    """
    match = _RFC3339.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a date; write RFC 3339 with a zone, as 2026-01-15T12:00:00Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    if zone is None:
        raise ValueError("the zone is missing; append Z or an offset such as +01:00")
    moment = datetime(
        int(year), int(month), int(day), int(hour), int(minute), int(second or 0),
        int((fraction or "0").ljust(6, "0")[:6]), tzinfo=UTC,
    )  # fmt: skip
    try:
        return moment - _offset(zone)
    except OverflowError:
        raise ValueError("the date is outside the years 1–9999 in UTC") from None


def _offset(zone: str) -> timedelta:
    if zone in "Zz":
        return timedelta(0)
    digits = zone[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"the zone offset {zone} does not exist")
    span = timedelta(hours=hours, minutes=minutes)
    return span if zone[0] == "+" else -span


def format_instant(moment: datetime) -> str:
    """Aware UTC → RFC 3339 with Z; microseconds only where there are any."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place here")
    text = moment.astimezone(UTC).isoformat(timespec="auto")
    return text.removesuffix("+00:00") + "Z"


def maybe_format(moment: datetime | None) -> str | None:
    """`format_instant` that lets None through."""
    return None if moment is None else format_instant(moment)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970, exact (floats would lose the last digits)."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """The instant that many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def from_unix(seconds: float) -> datetime:
    """Unix seconds → aware UTC, to the microsecond."""
    return _EPOCH + timedelta(microseconds=round(seconds * 1_000_000))


def parse_span_s(text: str) -> float:
    """A human length of time → seconds: `10s`, `1h30m`, `2 d`, a bare number means seconds.

    >>> parse_span_s("1h30m")
    5400.0
    """
    compact = text.strip().lower()
    if not compact.isascii():  # `float` reads the digits of every script
        raise ValueError(f"{text!r} is not a length of time; write 10s, 5m, 1h30m or 2d")
    try:
        seconds = float(compact)
    except ValueError:
        parts = list(_SPAN.finditer(compact))
        if not parts or _SPAN.sub("", compact).strip(" ,"):
            raise ValueError(
                f"{text!r} is not a length of time; write 10s, 5m, 1h30m or 2d"
            ) from None
        seconds = sum(float(part[1]) * _SPAN_S[part[2]] for part in parts)
    if not 0 <= seconds <= SPAN_S_MAX:
        raise ValueError(f"{text!r} is outside 0 s to a century")
    return float(seconds)
