"""Occurrences that the core itself asks for: instants of the past again, or one now.

Each is an action like any other, `<id>@<instant>.b<n>`, and shares its rule's lock on the node. A
node counts what it makes by hand from 1 and never as far as `NUMBERS_FROM`, so that the two never
meet under one name, whatever the one does not know of the other yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.actions.placing import place_all
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.recurring import rows
from agent.core.recurring.changing import require_feature
from agent.core.recurring.rule import Rule, Sending, bound
from agent.core.store.locks import lock_agents
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.definition import Definition
from agent.domain.errors import Fault, InvalidDocument, NotFound, Refused, shown
from agent.domain.instants import format_instant, parse_instant
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.recurring import Recurring, by_hand
from agent.domain.schedule.recurrence import (
    State,
    first_state,
    occurrence_id,
    occurrences_between,
)
from agent.wire.definition import BACKFILL

NUMBERS_FROM = 10_000  # the node's own end below: agent.node.occurrences
PER_NODE_MAX = 1_000  # as many as a node itself lets wait
ALL_MAX = 10_000  # of one call on all nodes: one transaction; and so many may wait at once
LOOKED_AT_MAX = 20_000  # newest occurrences, to see how many of them wait
COUNTED_MAX = 20_000  # how far a range that is too long is counted, for the message

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """[begin, end) of every node that has it, or of one. Without a range: once, now."""

    begin: datetime | None = None
    end: datetime | None = None
    node: str | None = None


def backfill(
    connection: Connection, occasion: Occasion, rule_id: str, asked: Backfill, by: str
) -> list[Definition]:
    """Place the occurrences; what was placed. Raises `NotFound`, `Refused`, `InvalidDocument`."""
    rule = rows.standing_rule(connection, rule_id)
    _require_past(occasion, asked)
    among = None if asked.node is None else [asked.node]
    lock_agents(connection, rows.holders(connection, rule_id, among))
    held = _holders(connection, rule, asked)
    nodes = [row.agent_id for row in held]
    require_feature(connection, nodes, BACKFILL, "run occurrences that the core asks for")
    instants = [(row, _instants(occasion, rule, row, asked)) for row in held]
    _require_room(connection, rule, sum(len(found) for _, found in instants))
    number = NUMBERS_FROM + rule.backfills + 1
    sending = Sending(rule)
    made = [
        _occurrence(occasion, rule, sending, row, nominal_at, number)
        for row, found in instants
        for nominal_at in found
    ]
    if not made:
        return []
    rows.save(connection, replace(rule, backfills=rule.backfills + 1))
    place_all(connection, occasion, made, by)
    detail = {
        "from": format_instant(asked.begin) if asked.begin else None,
        "to": format_instant(asked.end) if asked.end else None,
        "node": asked.node,
        "count": len(made),
        "number": number,
    }
    journal.append(
        connection, occasion, "", journal.BACKFILLED, rule_id, {"requested_by": by, **detail}
    )
    verb = "recurring_backfill" if asked.begin is not None else "recurring_run"
    audit.record(connection, occasion, by, verb, rule_id, detail)
    return made


def _require_past(occasion: Occasion, asked: Backfill) -> None:
    if asked.begin is None or asked.end is None:
        return
    if not asked.begin < asked.end <= occasion.now:
        now = format_instant(occasion.now)
        text = f"a backfill is of the past: from < to, and to not after now ({now})"
        raise InvalidDocument([Fault("to", text)])


def _holders(connection: Connection, rule: Rule, asked: Backfill) -> list[AnyRow]:
    """The nodes' rows of it. Raises `Refused` where it is in force nowhere, `NotFound`."""
    if rule.waits:
        raise Refused(
            "not_approved", f"the recurring action {rule.id!r} is {rule.word}; it runs nowhere"
        )
    among = None if asked.node is None else [asked.node]
    held = [row for row in rows.rows_on(connection, rule.id, among) if row.wanted]
    if asked.node is not None and not held:
        raise NotFound(f"the node {shown(asked.node)} does not have {rule.id!r}")
    return held


def _instants(occasion: Occasion, rule: Rule, row: AnyRow, asked: Backfill) -> Sequence[datetime]:
    if asked.begin is None or asked.end is None:
        return [occasion.now.replace(microsecond=0)]
    found = occurrences_between(
        rule.schedule, anchor_of(rule, row), asked.begin, asked.end, zone=zone_of(rule, row)
    )
    instants = list(islice(found, COUNTED_MAX))
    if len(instants) > PER_NODE_MAX:
        least = "at least " if len(instants) == COUNTED_MAX else ""
        raise Refused(
            "too_many",
            f"that range has {least}{len(instants)} instants on {row.agent_id!r}; at most "
            f"{PER_NODE_MAX} may be asked for at once. Ask for a shorter range.",
        )
    return instants


def _require_room(connection: Connection, rule: Rule, count: int) -> None:
    newest = (
        select(actions.c.status, actions.c.delivered_seq)
        .where(actions.c.recurring_id == rule.id)
        .order_by(actions.c.row.desc())
        .limit(LOOKED_AT_MAX)
        .subquery()
    )
    query = select(func.count()).where(
        newest.c.status == ExecutionStatus.NULL.value, newest.c.delivered_seq.is_not(None)
    )
    waiting = connection.execute(query).scalar_one()
    if count + waiting > ALL_MAX:
        raise Refused(
            "too_many",
            f"that would be {count} occurrences on all nodes, and {waiting} that were asked for "
            f"wait already; at most {ALL_MAX} may. Ask for a shorter range, or for one node.",
        )


def _occurrence(
    occasion: Occasion,
    rule: Rule,
    sending: Sending,
    row: AnyRow,
    nominal_at: datetime,
    number: int,
) -> Definition:
    """As the node itself would make one by hand."""
    there = Recurring(
        definition=sending.on(row.agent_id, row.revision),
        accepted_at=occasion.now,
        since_at=occasion.now,
        state=State(anchor_at=nominal_at),
    )
    action_id = occurrence_id(rule.id, nominal_at, number)
    made = by_hand(there, nominal_at, action_id, occasion.now)
    made = replace(made, revision=1, created_at=occasion.now)
    return replace(made, approval=bound(rule.definition.approval, made))


def standing_of_row(row: AnyRow) -> Mapping[str, Any]:
    """How its node said that it stands; empty until it has."""
    return _decode(row.standing) if row.standing else {}


def zone_of(rule: Rule, row: AnyRow) -> str:
    """Where wall-clock times are read on that node, as far as it has told."""
    return rule.schedule.timezone or str(standing_of_row(row).get("zone") or "UTC")


def anchor_of(rule: Rule, row: AnyRow) -> datetime:
    """What intervals are counted from there; until the node has told, as if it had it at once."""
    told = standing_of_row(row).get("anchor_at")
    if isinstance(told, str):
        try:
            return parse_instant(told)
        except ValueError:
            pass  # a node may report anything; what cannot be read is not known
    return first_state(rule.schedule, row.created_at, rule.definition.from_date).anchor_at
