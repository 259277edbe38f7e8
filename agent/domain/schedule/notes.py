"""What a forecast says beside an instant: clock changes that touch it, windows that overlap.

Pure; the texts are for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from agent.domain.instants import format_instant
from agent.domain.schedule.planned import Planned
from agent.domain.schedule.rules import OnTheClock, rule_of
from agent.domain.schedule.spec import Schedule
from agent.domain.schedule.zones import Piece, piece_at


def notes_for(
    schedule: Schedule, planned: Planned, previous: Planned | None, *, zone: str
) -> tuple[str, ...]:
    """Notes on one planned occurrence; `previous` is the one before it, of the same rule."""
    notes = []
    until = None if previous is None else previous.ends_at
    if until is not None and planned.starts_at < until:
        lasts = format_instant(until)
        notes.append(f"the window of the previous one lasts until {lasts}: they overlap")
    if schedule.cron is not None or schedule.at is not None:
        rule = rule_of(schedule, planned.nominal_at, zone=zone)
        if isinstance(rule, OnTheClock):
            notes += _clock_notes(rule, planned.nominal_at, schedule.timezone or zone)
    return tuple(notes)


def gaps_of(
    schedule: Schedule, begin: datetime, end: datetime, *, zone: str
) -> Iterator[tuple[datetime, str]]:
    """Clock changes in (begin, end] that leave out instants of the rule: when, and which hour.

    Only of a rule that follows the clock: one that names a time of day has its instant all the
    same, right after the gap, where `notes_for` says so.
    """
    if schedule.cron is None and schedule.at is None:
        return
    rule = rule_of(schedule, begin, zone=zone)
    if not isinstance(rule, OnTheClock) or rule.local.fixed:
        return
    piece = piece_at(rule.zone, begin.astimezone(UTC).replace(tzinfo=None))
    last = end.astimezone(UTC).replace(tzinfo=None)
    while piece.end <= last:
        change, piece = piece.end, piece_at(rule.zone, piece.end)
        low, high = piece.start + piece.before, piece.start + piece.offset
        if piece.start == change and rule.local.count(low, high):  # else: only another year
            missing = f"{low:%H:%M}–{high:%H:%M} does not exist on {low:%Y-%m-%d}"
            where = schedule.timezone or zone
            yield piece.start.replace(tzinfo=UTC), f"no instant: {missing} ({where})"


def _clock_notes(rule: OnTheClock, nominal_at: datetime, zone: str) -> list[str]:
    at = nominal_at.astimezone(UTC).replace(tzinfo=None)
    piece = piece_at(rule.zone, at)
    gap_begin, gap_end = piece.start + piece.before, piece.start + piece.offset
    if at == piece.start and gap_begin < gap_end and rule.local.fixed:
        skipped = rule.local.at_or_after(gap_begin)
        if skipped is not None and skipped < gap_end:
            where = f"{skipped:%H:%M} does not exist on {skipped:%Y-%m-%d} in {zone}"
            return [f"moved by a clock change: {where}; happens at {gap_end:%H:%M}"]
    if gap_end <= at + piece.offset < gap_begin:
        return [_repeated(piece, at, zone, "second")]
    later = piece_at(rule.zone, piece.end)
    if piece.end + later.offset <= at + piece.offset < piece.end + later.before:
        return [_repeated(later, at, zone, "first", once=rule.local.fixed)]
    return []


def _repeated(piece: Piece, at: datetime, zone: str, turn: str, *, once: bool = False) -> str:
    wall = at + (piece.before if turn == "first" else piece.offset)
    rest = "; happens this time only" if once else ""
    return (
        f"in an hour that a clock change repeats: {wall:%H:%M} comes twice on "
        f"{wall:%Y-%m-%d} in {zone}; this is the {turn} time{rest}"
    )
