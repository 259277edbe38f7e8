"""What will happen on this node: upcoming occurrences and planned actions, merged in time order.

The same pure arithmetic as the turn's (agent.domain.schedule.recurrence), so what is shown is what
will be. Read only; bounded by the number of fires that are asked for, not by the number of rules.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from agent.domain.action import Action
from agent.domain.brake import Brake, find_brake
from agent.domain.definition import Definition
from agent.domain.instants import format_instant, maybe_format
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.recurring import Place, Recurring
from agent.domain.schedule.notes import gaps_of, notes_for
from agent.domain.schedule.recurrence import Planned, upcoming
from agent.domain.schedule.spec import CountFrom, Overlap
from agent.domain.spans import span_text
from agent.node.store import actions, recurring

FIRES_DEFAULT = 100
FIRES_MAX = 1_000
AHEAD_S_DEFAULT = 86_400.0
GAPS_AHEAD_S_MAX = 400 * 86_400.0  # a year: every zone's next clock changes, and few look-ups
GAP_RULES_S = 8 * 86_400.0  # a weekly rule whose instant a gap swallowed is next a week later
DURATIONS_LOOKED_AT = 5  # of the newest occurrences: the last that finished says how long it takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which future: after `now`, up to `until`; of one id where it is given.

    `stretch`: nobody said how far, so of one id as far as its next fire.
    """

    now: datetime
    until: datetime
    id: str | None = None
    limit: int = FIRES_DEFAULT
    stretch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """One thing that will happen, unless something changes."""

    definition: Definition
    nominal_at: datetime
    starts_at: datetime
    ends_at: datetime | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What of the node bears upon all of it."""

    place: Place
    paused: str | None = None
    brakes: Sequence[Brake] = ()


@dataclass(slots=True)
class _Previous:
    """The fire before of the same rule, and how long one takes."""

    takes_s: float | None
    planned: Planned | None = field(default=None)


def forecast_view(
    connection: sqlite3.Connection, question: Question, given: Circumstances
) -> dict[str, Any]:
    """As `GET /v1/forecast`."""
    next_at = _next_at(connection, question)
    if question.stretch and next_at is not None and next_at > question.until:
        question = replace(question, until=next_at)
    fires = list(islice(_merged(connection, question, given), question.limit + 1))
    truncated = len(fires) > question.limit
    known_until = fires[question.limit].starts_at if truncated else question.until
    return {
        "from": format_instant(question.now),
        "until": format_instant(question.until),
        "zone": given.place.zone,
        "paused": given.paused is not None,
        "fires": [_fire_view(fire) for fire in fires[: question.limit]],
        "gaps": _gaps(connection, question, known_until, given.place),
        "next_at": maybe_format(next_at),
        "truncated": truncated,
    }


def _next_at(connection: sqlite3.Connection, question: Question) -> datetime | None:
    """When the one that is asked about starts next, also beyond `until`; None if nobody knows."""
    if question.id is None:
        return None
    rule = recurring.by_id(connection, question.id)
    if rule is not None:
        return None if rule.held is not None else rule.next_at
    action = actions.by_id(connection, question.id)
    waits = action is not None and action.execution_status is ExecutionStatus.NULL
    return action.due_at if action is not None and waits else None


def _gaps(
    connection: sqlite3.Connection, question: Question, until: datetime, place: Place
) -> list[dict[str, Any]]:
    """The clock changes that leave out instants of a rule, which no fire would tell."""
    end = min(until, question.now + timedelta(seconds=GAPS_AHEAD_S_MAX))
    beyond = end + timedelta(seconds=GAP_RULES_S)
    found = [
        (at, rule.definition, note)
        for rule in _rules(connection, replace(question, until=beyond))
        if rule.held is None
        for at, note in gaps_of(rule.schedule, question.now, end, zone=place.zone)
        if at <= min(rule.schedule.ends_at or at, rule.definition.to_date or at)
    ]
    found.sort(key=lambda one: (one[0], one[1].id))
    return [
        {"id": definition.id, "kind": definition.kind, "at": format_instant(at), "note": note}
        for at, definition, note in found[: question.limit]
    ]


def _fire_view(fire: Fire) -> dict[str, Any]:
    return {
        "id": fire.definition.id,
        "kind": fire.definition.kind,
        "nominal_at": format_instant(fire.nominal_at),
        "starts_at": format_instant(fire.starts_at),
        "ends_at": maybe_format(fire.ends_at),
        "notes": list(fire.notes),
    }


def _merged(
    connection: sqlite3.Connection, question: Question, given: Circumstances
) -> Iterator[Fire]:
    """Only the rules that are next can have one of the first fires: the rest is not looked at."""
    rules = _rules(connection, question)
    streams = [_of_rule(connection, rule, question, given) for rule in rules]
    streams.append(_of_actions(connection, question, given))
    return heapq.merge(*streams, key=lambda fire: (fire.starts_at, fire.definition.id))


def _rules(connection: sqlite3.Connection, question: Question) -> list[Recurring]:
    if question.id is None:
        rules = recurring.by_next(connection, question.now, question.until, question.limit + 1)
    else:
        one = recurring.by_id(connection, question.id)
        rules = [one] if one is not None and one.next_at is not None else []
    return [rule for rule in rules if not rule.parked]


def _of_actions(
    connection: sqlite3.Connection, question: Question, given: Circumstances
) -> Iterator[Fire]:
    """What waits for its time and is no occurrence that its rule tells already."""
    for action in _planned_actions(connection, question):
        due_at = action.due_at or question.now
        yield Fire(
            definition=action.definition,
            nominal_at=action.definition.nominal_at or due_at,
            starts_at=due_at,
            ends_at=action.definition.to_date,
            notes=_notes_of_node(action.definition, due_at, given),
        )


def _planned_actions(connection: sqlite3.Connection, question: Question) -> list[Action]:
    if question.id is None:
        return actions.planned(connection, question.now, question.until, question.limit + 1)
    one = actions.by_id(connection, question.id)
    waits = one is not None and one.execution_status is ExecutionStatus.NULL
    if one is None or not waits or one.due_at is None:
        return []
    return [one] if question.now < one.due_at <= question.until else []


def _of_rule(
    connection: sqlite3.Connection, rule: Recurring, question: Question, given: Circumstances
) -> Iterator[Fire]:
    previous = _Previous(takes_s=_takes_s(connection, rule))
    place = given.place
    for planned in upcoming(
        rule.schedule, rule.state, question.now, question.until,
        zone=place.zone, offset_s=rule.offset_s(place),
        not_before=rule.definition.from_date, not_after=rule.definition.to_date,
        since=rule.since_at,
    ):  # fmt: skip
        before = previous.planned
        notes = notes_for(rule.schedule, planned, before, zone=place.zone)
        yield Fire(
            definition=rule.definition,
            nominal_at=planned.nominal_at,
            starts_at=planned.starts_at,
            ends_at=planned.ends_at,
            notes=(
                *notes,
                *_expected_overlap(rule, planned, previous),
                *((f"paused: {rule.held}",) if rule.held is not None else ()),
                *_notes_of_node(rule.definition, planned.starts_at, given),
            ),
        )
        previous.planned = planned


def _takes_s(connection: sqlite3.Connection, rule: Recurring) -> float | None:
    """How long one takes: as the last that finished, else at most its timeout."""
    for action in recurring.latest(connection, rule.id, DURATIONS_LOOKED_AT):
        finished = action.execution_status is ExecutionStatus.FINISHED
        if finished and action.started_at and action.ended_at:
            return max(0.0, (action.ended_at - action.started_at).total_seconds())
    return rule.definition.timeout_s


def _expected_overlap(rule: Recurring, planned: Planned, previous: _Previous) -> tuple[str, ...]:
    before, takes_s = previous.planned, previous.takes_s
    if before is None or takes_s is None or rule.schedule.count_from is CountFrom.COMPLETION:
        return ()
    if before.starts_at + timedelta(seconds=takes_s) <= planned.starts_at:
        return ()
    then = {
        Overlap.SKIP: "it would be skipped",
        Overlap.QUEUE: "it would wait",
        Overlap.CANCEL_RUNNING: "that one would be stopped",
        Overlap.ALLOW: "both would run",
    }[rule.schedule.overlap]
    return (f"the one before may still run (it takes {span_text(takes_s)}): {then}",)


def _notes_of_node(definition: Definition, at: datetime, given: Circumstances) -> tuple[str, ...]:
    notes = []
    if given.paused is not None:
        why = f": {given.paused}" if given.paused else ""
        notes.append(f"the node is paused{why}")
    brake = find_brake(given.brakes, definition.kind, definition.labels)
    if brake is not None and (brake.expires_at is None or brake.expires_at > at):
        notes.append(f"held by a brake: {brake.reason}" if brake.reason else "held by a brake")
    return tuple(notes)
