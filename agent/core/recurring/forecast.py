"""What will start in the fleet, and when much of it starts at once: the nodes' own arithmetic.

The same pure functions as each node uses (agent.domain.schedule), with the zone, the anchor and the
count that the node told last, and its own jitter. Nodes for which a rule comes to the same instants
share one computation. Bounded by nodes and by instants, and it says where it stops.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import and_, select
from sqlalchemy.engine import Connection

from agent.core.nodes.selection import is_meant
from agent.core.nodes.selector import Selector
from agent.core.recurring import rows
from agent.core.recurring.backfilling import anchor_of, standing_of_row, zone_of
from agent.core.recurring.rule import Rule
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents, recurring
from agent.domain.definition import Owner
from agent.domain.instants import format_instant, maybe_format, parse_instant
from agent.domain.lifecycle import ExecutionStatus, is_final
from agent.domain.schedule.notes import notes_for
from agent.domain.schedule.recurrence import (
    Planned,
    State,
    completed,
    jitter_offset_s,
    occurrence_id,
    upcoming,
    waits_for_end,
)
from agent.domain.schedule.spec import CountFrom

FIRES_DEFAULT, FIRES_MAX = 100, 1_000
AHEAD_S_DEFAULT = 86_400.0
PAIRS_MAX = 5_000  # rules times nodes that one forecast looks at; some tenths of a second
COUNTED_MAX = 20_000  # starts that peaks are counted over
PEAKS_SHOWN = 5
_PAUSED_THERE = ("node", "both")
PEAK_S = 60  # two starts belong to one peak where they fall into one minute

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which future: after `now`, up to `until`; of one rule, one node, or nodes of a selector."""

    now: datetime
    until: datetime
    rule_id: str | None = None
    node: str | None = None
    selector: Selector | None = None
    limit: int = FIRES_DEFAULT


@dataclass(frozen=True, slots=True)
class _Same:
    """What decides a rule's instants: nodes for which it is equal have the same ones."""

    rule_id: str
    zone: str
    offset_s: float
    state: State
    held: str | None


@dataclass(slots=True)
class _Stream:
    """The instants of one rule on the nodes for which they are the same."""

    rule: Rule
    key: _Same
    since: datetime
    nodes: list[str]


def forecast_view(connection: Connection, question: Question) -> dict[str, Any]:
    """As `GET /v1/forecast`."""
    pairs = _pairs(connection, question)
    left_out = len(pairs) > PAIRS_MAX
    streams = _streams(connection, pairs[:PAIRS_MAX])
    fires = list(islice(_fires(streams, question), question.limit + 1))
    truncated = len(fires) > question.limit
    peaks, counted_all = _peaks(streams, question)
    return {
        "from": format_instant(question.now),
        "until": format_instant(question.until),
        "fires": fires[: question.limit],
        "truncated": truncated,
        "peaks": peaks,
        "counted_all": counted_all and not left_out,
        "all_nodes": not left_out,
        "next_at": _next_at(streams, question) if not fires else fires[0]["starts_at"],
    }


def _pairs(connection: Connection, question: Question) -> list[AnyRow]:
    """Each rule with each node that has it, bounded; by rule, then node."""
    held = and_(
        actions.c.id == recurring.c.id,
        actions.c.owner == Owner.CORE.value,
        actions.c.wanted.is_(True),
        actions.c.lost_at.is_(None),
    )
    query = (
        select(
            recurring, actions.c.agent_id, actions.c.standing,
            actions.c.created_at.label("placed_at"), agents.c.silent_at,
        )
        .select_from(
            recurring.join(actions, held).join(agents, agents.c.id == actions.c.agent_id)
        )
        .where(recurring.c.deleted_at.is_(None), agents.c.decommissioned_at.is_(None))
        .order_by(recurring.c.id, actions.c.agent_id)
        .limit(PAIRS_MAX + 1)
    )  # fmt: skip
    if question.rule_id is not None:
        query = query.where(recurring.c.id == question.rule_id)
    if question.node is not None:
        query = query.where(actions.c.agent_id == question.node)
    if question.selector is not None:
        query = query.where(is_meant(question.selector))
    return list(connection.execute(query).all())


def _streams(connection: Connection, pairs: Sequence[AnyRow]) -> list[_Stream]:
    rules: dict[str, Rule] = {}
    found: dict[_Same, _Stream] = {}
    for row in pairs:
        rule = rules.get(row.id) or rules.setdefault(row.id, rows.rule_of(row))
        standing = standing_of_row(row)
        if standing.get("state") == "ended":
            continue
        state = _state(connection, rule, row, standing)
        offset_s = jitter_offset_s(row.agent_id, rule.id, rule.schedule.jitter_s)
        held = _held(rule, standing)
        key = _Same(rule.id, zone_of(rule, row), offset_s, _relevant(rule, state), held)
        stream = found.get(key)
        if stream is None:
            since = _instant(standing.get("since_at")) or row.placed_at
            found[key] = _Stream(rule, key, since, [row.agent_id])
        else:
            stream.nodes.append(row.agent_id)
    return list(found.values())


def _held(rule: Rule, standing: Mapping[str, Any]) -> str | None:
    """Why nothing of it will start there: paused for all nodes, or by that node itself."""
    if rule.paused is not None:
        return f"paused: {rule.paused}"
    if standing.get("paused_by") in _PAUSED_THERE:
        return f"paused on the node: {standing.get('paused')}"
    return None


def _state(connection: Connection, rule: Rule, row: AnyRow, standing: Mapping[str, Any]) -> State:
    """As the node has it, as far as it has told."""
    count = standing.get("run_count")
    state = State(
        anchor_at=anchor_of(rule, _as_held(row)),
        last_nominal_at=_instant(standing.get("last_nominal_at")),
        run_count=count if isinstance(count, int) else 0,
    )
    if not waits_for_end(rule.schedule, state) or state.last_nominal_at is None:
        return state
    latest = (
        select(actions.c.status, actions.c.execution)
        .where(
            actions.c.agent_id == row.agent_id,
            actions.c.id == occurrence_id(rule.id, state.last_nominal_at),
        )
        .limit(1)
    )
    last = connection.execute(latest).first()
    if last is None or not is_final(ExecutionStatus(last.status)) or not last.execution:
        return state
    ended_at = _instant(_decode(last.execution).get("ended_at"))
    return state if ended_at is None else completed(rule.schedule, state, ended_at)


def _as_held(row: AnyRow) -> Any:
    return _Held(row.standing, row.placed_at)


@dataclass(frozen=True, slots=True)
class _Held:
    standing: str | None
    created_at: datetime


def _instant(told: Any) -> datetime | None:
    """A node may report anything; what cannot be read is not known."""
    try:
        return parse_instant(told) if isinstance(told, str) else None
    except ValueError:
        return None


def _relevant(rule: Rule, state: State) -> State:
    """Without what does not decide the instants to come, so that more nodes share them."""
    schedule = rule.schedule
    by_anchor = schedule.every is not None or schedule.delay_s is not None
    by_end = schedule.count_from is CountFrom.COMPLETION
    return replace(
        state,
        anchor_at=state.anchor_at if by_anchor else rule.created_at,
        last_nominal_at=state.last_nominal_at if by_end or schedule.date else None,
        run_count=state.run_count if schedule.max_runs is not None else 0,
    )


def _planned(stream: _Stream, after: datetime, until: datetime) -> Iterator[Planned]:
    rule = stream.rule
    return upcoming(
        rule.schedule, stream.key.state, after, until,
        zone=stream.key.zone, offset_s=stream.key.offset_s,
        not_before=rule.definition.from_date, not_after=rule.definition.to_date,
        since=stream.since,
    )  # fmt: skip


def _fires(streams: Iterable[_Stream], question: Question) -> Iterator[dict[str, Any]]:
    merged = heapq.merge(
        *(_of_stream(stream, question) for stream in streams),
        key=lambda fire: (fire[0], fire[1]),
    )
    return (fire for _, _, fire in merged)


def _of_stream(
    stream: _Stream, question: Question
) -> Iterator[tuple[datetime, str, dict[str, Any]]]:
    rule, previous = stream.rule, None
    for planned in _planned(stream, question.now, question.until):
        notes = list(notes_for(rule.schedule, planned, previous, zone=stream.key.zone))
        if stream.key.held is not None:
            notes.append(stream.key.held)
        for node in stream.nodes:
            yield (
                planned.starts_at,
                f"{rule.id}\0{node}",
                {
                    "id": rule.id,
                    "node": node,
                    "kind": rule.definition.kind,
                    "nominal_at": format_instant(planned.nominal_at),
                    "starts_at": format_instant(planned.starts_at),
                    "ends_at": maybe_format(planned.ends_at),
                    "zone": stream.key.zone,
                    "notes": notes,
                },
            )
        previous = planned


def _peaks(streams: Iterable[_Stream], question: Question) -> tuple[list[dict[str, Any]], bool]:
    """The minutes in which most starts; and whether all starts were counted. Paused ones are not"""
    minutes: Counter[int] = Counter()
    left = COUNTED_MAX
    merged = heapq.merge(
        *(_starts(stream, question) for stream in streams if stream.key.held is None),
        key=lambda one: one[0],
    )
    for starts_at, nodes in merged:
        if left <= 0:
            break
        left -= 1
        minutes[int(starts_at.timestamp()) // PEAK_S] += nodes
    busiest = sorted(minutes.items(), key=lambda one: (-one[1], one[0]))[:PEAKS_SHOWN]
    shown = [
        {"at": format_instant(_minute(question.now, minute)), "starts": count}
        for minute, count in busiest
        if count > 1
    ]
    return shown, left > 0


def _starts(stream: _Stream, question: Question) -> Iterator[tuple[datetime, int]]:
    for planned in _planned(stream, question.now, question.until):
        yield planned.starts_at, len(stream.nodes)


def _minute(now: datetime, minute: int) -> datetime:
    return now.fromtimestamp(minute * PEAK_S, tz=now.tzinfo)


def _next_at(streams: Iterable[_Stream], question: Question) -> str | None:
    """Of one rule that starts nothing until then: when it does; as far as a year."""
    if question.rule_id is None:
        return None
    far = question.now + timedelta(days=366)
    firsts = [next(iter(_planned(one, question.now, far)), None) for one in streams]
    return maybe_format(min((one.starts_at for one in firsts if one is not None), default=None))
