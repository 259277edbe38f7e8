"""Recurring actions as the operator API shows them, one by one and in pages. Rows in, JSON out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import and_, exists, select
from sqlalchemy.engine import Connection

from agent.core.actions.documents import action_summary
from agent.core.actions.listing import Filter, list_actions
from agent.core.approvals.requests import QuestionState
from agent.core.recurring import rows
from agent.core.recurring.backfilling import standing_of_row
from agent.core.recurring.rule import Rule
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents, approvals, recurring
from agent.domain.definition import Owner
from agent.domain.instants import format_instant, maybe_format, parse_instant
from agent.domain.schedule.recurrence import occurrence_id
from agent.wire.definition import encode_definition

_decode = msgspec.json.Decoder().decode
NODES_COUNTED_MAX = 1_000  # in a list; a page of rules shall not count a fleet for each of them
NODES_LOOKED_AT = 20  # in a list, for the next instant
NODES_SHOWN = 100
_OF_THE_NODE = ("node", "revision", "should_be_executed", "owner")
_STANDING = (
    "state", "paused", "paused_by", "next_at", "next_nominal_at", "last_nominal_at", "run_count",
    "ended_at", "ended_reason", "parked", "zone", "offset_s", "reported_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFilter:
    """Which recurring actions of a list."""

    node: str | None = None
    deleted: bool = False
    limit: int = 100
    after: str = ""


def rule_document(rule: Rule) -> dict[str, Any]:
    """The rule itself: its definition, its target and what the core keeps of it, on one level."""
    document = encode_definition(rule.definition)
    for name in _OF_THE_NODE:
        document.pop(name, None)
    return document | {
        "node": rule.node,
        "selector": None if rule.selector is None else str(rule.selector),
        "revision": rule.revision,
        "state": rule.word,
        "paused": rule.paused,
        "paused_at": maybe_format(rule.paused_at),
        "backfills": rule.backfills,
        "created_at": document.get("created_at") or format_instant(rule.created_at),
        "created_by": rule.created_by,
        "updated_at": format_instant(rule.updated_at),
        "deleted_at": maybe_format(rule.deleted_at),
    }


def whole(
    connection: Connection, rule: Rule, now: datetime, after: str = "", limit: int = NODES_SHOWN
) -> dict[str, Any]:
    """One, with how it stands on its nodes, a page of them by name."""
    found = rows.page_on(connection, rule.id, after, limit + 1)
    page = found[:limit]
    last = _last_occurrences(connection, rule, page)
    count = rows.count_on(connection, rule.id, NODES_COUNTED_MAX + 1)
    return rule_document(rule) | {
        "nodes": _counted(count),
        "next_at": _next_at(page),
        "question": _question(connection, rule),
        "on": [_on(row, last.get(row.agent_id), now) for row in page],
        "next": page[-1].agent_id if len(found) > limit else None,
    }


def _counted(count: int) -> dict[str, Any]:
    return {"count": min(count, NODES_COUNTED_MAX), "counted_all": count <= NODES_COUNTED_MAX}


def _next_at(page: Iterable[AnyRow]) -> str | None:
    """The earliest start that one of these nodes told."""
    told = [
        standing.get("next_at")
        for row in page
        if row.wanted and (standing := standing_of_row(row)).get("state") == "active"
    ]
    return min((at for at in told if isinstance(at, str)), default=None)


def _question(connection: Connection, rule: Rule) -> dict[str, Any] | None:
    """What people are asked about it now: the whole, an edit, or nodes that came later."""
    query = (
        select(approvals)
        .where(approvals.c.action_id == rule.id)  # whichever node it was meant for then
        .order_by(approvals.c.row.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None or row.state != QuestionState.PENDING.value:
        return None
    return {
        "approval_id": row.id,
        "why": row.why,
        "risk_level": row.risk,
        "is_edit": row.is_edit,
        "requested_by": row.requested_by,
        "expires_at": maybe_format(row.expires_at),
    }


def _last_occurrences(
    connection: Connection, rule: Rule, page: Iterable[AnyRow]
) -> dict[str, AnyRow]:
    """The newest planned occurrence of each node, by its name."""
    wanted: dict[str, str] = {}
    for row in page:
        told = standing_of_row(row).get("last_nominal_at")
        try:
            if isinstance(told, str):
                wanted[row.agent_id] = occurrence_id(rule.id, parse_instant(told))
        except ValueError:
            continue  # a node may report anything; what cannot be read is not known
    if not wanted:
        return {}
    query = select(actions, agents.c.acked_seq, agents.c.silent_at)
    found = connection.execute(
        query.join(agents, agents.c.id == actions.c.agent_id).where(
            actions.c.agent_id.in_(wanted),
            actions.c.id.in_(set(wanted.values())),
            actions.c.recurring_id == rule.id,
        )
    )
    return {row.agent_id: row for row in found if wanted[row.agent_id] == row.id}


def _on(row: AnyRow, last: AnyRow | None, now: datetime) -> dict[str, Any]:
    """How it stands on one node."""
    standing = standing_of_row(row)
    told: dict[str, Any] = {name: standing.get(name) for name in _STANDING}
    is_told = bool(standing)
    return told | {
        "node": row.agent_id,
        "state": standing.get("state") if is_told else None,
        "revision": row.revision,
        "revision_applied": row.revision_applied,
        "delivered": bool(row.delivered_seq is not None and row.delivered_seq <= row.acked_seq),
        "wanted": row.wanted,
        "refused": _decode(row.refused) if row.refused else None,
        "lost_at": maybe_format(row.lost_at),
        "silent": row.silent_at is not None,
        "last": None if last is None else _last(last, now),
    }


def _last(row: AnyRow, now: datetime) -> Mapping[str, Any]:
    shown = action_summary(row, now)
    names = ("id", "phase", "execution_status", "reason", "started_at", "ended_at", "exit_code")
    return {name: shown.get(name) for name in names}


def list_rules(connection: Connection, wanted: RuleFilter) -> dict[str, Any]:
    """A page by id, each with how many nodes have it and when one of the first starts next."""
    query = select(recurring).where(recurring.c.id > wanted.after)
    if not wanted.deleted:
        query = query.where(recurring.c.deleted_at.is_(None))
    if wanted.node is not None:
        held = and_(
            actions.c.agent_id == wanted.node,
            actions.c.id == recurring.c.id,
            actions.c.owner == Owner.CORE.value,
            actions.c.wanted.is_(True),
        )
        query = query.where((recurring.c.node == wanted.node) | exists().where(held))
    found = connection.execute(query.order_by(recurring.c.id).limit(wanted.limit + 1)).all()
    page = found[: wanted.limit]
    return {
        "recurring": [_summary(connection, rows.rule_of(row), wanted.node) for row in page],
        "next": page[-1].id if len(found) > wanted.limit else None,
    }


def _summary(connection: Connection, rule: Rule, node: str | None) -> dict[str, Any]:
    among = (
        rows.rows_on(connection, rule.id, [node])
        if node is not None
        else rows.page_on(connection, rule.id, "", NODES_LOOKED_AT)
    )
    document = rule_document(rule)
    for name in ("payload", "metadata", "rollback_reference"):
        document.pop(name, None)
    count = rows.count_on(connection, rule.id, NODES_COUNTED_MAX + 1)
    return document | {"nodes": _counted(count), "next_at": _next_at(among)}


def occurrences(
    connection: Connection, rule: Rule, node: str | None, after: int, limit: int, now: datetime
) -> dict[str, Any]:
    """Its occurrences, newest first, also those made by hand and of a deleted one."""
    wanted = Filter(recurring_id=rule.id, node=node, after=after, limit=limit)
    return list_actions(connection, wanted, now)
