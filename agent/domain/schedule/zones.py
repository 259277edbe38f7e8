"""A zone's clock as pieces of constant offset: the only place that asks the zone database.

Inside, instants are naive datetimes in UTC and wall-clock times are naive too: between two clock
changes they differ by a constant, so the arithmetic needs no `fold`. Reading zone data is cached;
`zoneinfo` is imported when the first rule needs a zone, not before (memory of a node without any).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from agent.domain.errors import shown

YEAR_MIN, YEAR_MAX = 1970, 9000  # outside nobody plans; datetime itself ends at 9999
# Two changes of one zone lie at least a week apart since 2000 (a test reads all of them), so a look
# every third day finds each.
_PROBE = timedelta(days=3)
_BACK = timedelta(days=3)  # more than any clock was ever set back at once
_TICK = timedelta(microseconds=1)
_ZONES_KEPT, _YEARS_KEPT = 64, 512  # a rule looks at two or three years of one zone


@dataclass(frozen=True, slots=True)
class Piece:
    """[start, end) in UTC where the wall clock is `offset` ahead; `before` is the one before."""

    start: datetime
    end: datetime
    offset: timedelta
    before: timedelta


class UnknownZone(ValueError):
    """The zone database of this node does not have the name."""


@lru_cache(_ZONES_KEPT)
def zone_of(name: str) -> tzinfo:
    """The zone of that IANA name. Raises `UnknownZone`, which says what to do."""
    if name in {"UTC", "Etc/UTC"}:
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownZone(
            f"{shown(name)} is not in this node's zone database; write a name such as "
            f"Europe/Berlin or UTC{_similar(name)}"
        ) from None


def _similar(name: str) -> str:
    import difflib  # noqa: PLC0415
    from zoneinfo import available_timezones  # noqa: PLC0415

    known = available_timezones()
    if not known:
        return " (no zone data is installed: apt-get install tzdata)"
    lowered = {zone.lower(): zone for zone in known}
    near = difflib.get_close_matches(name.lower().replace(" ", "_"), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[near[0]]!r}?" if near else ""


def piece_at(zone: tzinfo, moment: datetime) -> Piece:
    """The piece that contains a (naive) instant."""
    pieces = _year(zone, moment.year)
    return pieces[bisect_right(pieces, moment, key=_start) - 1]


def _start(piece: Piece) -> datetime:
    return piece.start


@lru_cache(_YEARS_KEPT)
def _year(zone: tzinfo, year: int) -> tuple[Piece, ...]:
    """The pieces of one year; the first begins at the clock change shortly before it, if any."""
    begin, end = datetime(year, 1, 1), datetime(year + 1, 1, 1)  # noqa: DTZ001
    if zone is UTC:
        return (Piece(begin, end, timedelta(0), timedelta(0)),)
    changes = _changes(zone, begin - _BACK, end)
    known = offset_at(zone, begin)
    starts = [(begin, known, known)]
    for at, before, after in changes:
        if at <= begin:
            starts[0] = (at, after, before)
        else:
            starts.append((at, after, before))
    ends = [at for at, _, _ in starts[1:]] + [end]
    return tuple(
        Piece(at, until, offset, before)
        for (at, offset, before), until in zip(starts, ends, strict=True)
    )


def _changes(
    zone: tzinfo, begin: datetime, end: datetime
) -> list[tuple[datetime, timedelta, timedelta]]:
    """(instant, offset before, offset after) of every change in (begin, end)."""
    found = []
    at, offset = begin, offset_at(zone, begin)
    while at < end:
        later = min(at + _PROBE, end - _TICK)
        after = offset_at(zone, later)
        if after != offset:
            found.append((_first_second(zone, at, later, offset), offset, after))
        if later == end - _TICK:
            break
        at, offset = later, after
    return found


def _first_second(zone: tzinfo, low: datetime, high: datetime, offset: timedelta) -> datetime:
    """The first whole second after `low` with another offset than `low` has."""
    base = low.replace(microsecond=0)
    first, last = 0, int((high - base).total_seconds()) + 1
    while last - first > 1:
        middle = (first + last) // 2
        if offset_at(zone, base + timedelta(seconds=middle)) == offset:
            first = middle
        else:
            last = middle
    return base + timedelta(seconds=last)


def offset_at(zone: tzinfo, moment: datetime) -> timedelta:
    """How far the wall clock of the zone is ahead of UTC at a (naive) instant."""
    return zone.fromutc(moment.replace(tzinfo=zone)).utcoffset() or timedelta(0)
