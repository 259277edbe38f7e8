"""Lengths of time and instants as a sentence has them: short enough to read, exact enough to act.

Only for people; programs get seconds and full instants beside the sentence.
"""

from __future__ import annotations

from datetime import datetime

from agent.domain.instants import format_instant

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span_text(seconds: float) -> str:
    """A length of time, two units at most.

    >>> span_text(5400), span_text(0.25), span_text(93784)
    ('1 h 30 min', '0.25 s', '1 d 2 h')
    """
    seconds = abs(seconds)
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole, parts = round(seconds), []
    for size, unit in _UNITS:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break  # `1 d 0 h 5 min` would pretend to a precision that nobody needs
        if len(parts) == 2:
            break
    return " ".join(parts)


def between_text(begin: datetime, end: datetime) -> str:
    """How much time lies between two instants."""
    return span_text((end - begin).total_seconds())


def instant_text(moment: datetime) -> str:
    """An instant to the second, UTC.

    >>> from datetime import UTC
    >>> instant_text(datetime(2026, 1, 15, 12, 0, 0, 250_000, tzinfo=UTC))
    '2026-01-15T12:00:00Z'
    """
    return format_instant(moment.replace(microsecond=0))
