"""Freezes as rows and as operators see them: which hold, and how far each has come where."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select
from sqlalchemy.engine import Connection

from agent.core.store.port import AnyRow
from agent.core.store.schema import freeze_nodes, freezes
from agent.domain.instants import format_instant, maybe_format

NAMED_MAX = 100  # nodes that one freeze names; the counts tell of the others


class Frozen(StrEnum):
    """How far a freeze has come on one node."""

    REQUESTED = "requested"  # on its way
    FROZEN = "frozen"  # the node said that it holds it
    LIFTED_ON_NODE = "lifted_on_node"  # it held it, and its owner lifted it there
    UNSUPPORTED = "unsupported"  # too old to know the word; gets it once it is upgraded
    UNREPORTED = "unreported"  # never said what it is; gets it when it does


_ACTIVE = (
    select(freezes)
    .where(
        freezes.c.lifted_at.is_(None),
        or_(freezes.c.expires_at.is_(None), freezes.c.expires_at > bindparam("now")),
    )
    .order_by(freezes.c.row)
)


def active(connection: Connection, now: datetime) -> list[AnyRow]:
    """Those that hold, oldest first."""
    return list(connection.execute(_ACTIVE, {"now": now}).all())


def is_over(now: datetime) -> ColumnElement[bool]:
    """The condition for those that hold nothing any more."""
    return or_(
        freezes.c.lifted_at.is_not(None),
        and_(freezes.c.expires_at.is_not(None), freezes.c.expires_at <= now),
    )


def listed(
    connection: Connection, now: datetime, *, over: bool, limit: int
) -> list[dict[str, Any]]:
    """Those that hold, oldest first; or those that are over, the latest first."""
    if not over:
        return [document(connection, row, now) for row in active(connection, now)]
    query = select(freezes).where(is_over(now)).order_by(freezes.c.row.desc()).limit(limit)
    return [document(connection, row, now) for row in connection.execute(query).all()]


def document(connection: Connection, row: AnyRow, now: datetime) -> dict[str, Any]:
    """A freeze as it is shown: what was asked for, and how far it has come."""
    counts = (
        select(freeze_nodes.c.state, func.count().label("nodes"))
        .where(freeze_nodes.c.freeze_id == row.id)
        .group_by(freeze_nodes.c.state)
    )
    states = {one.state: one.nodes for one in connection.execute(counts)}
    apart = (
        select(freeze_nodes.c.agent_id, freeze_nodes.c.state)
        .where(freeze_nodes.c.freeze_id == row.id, freeze_nodes.c.state != Frozen.FROZEN.value)
        .order_by(freeze_nodes.c.state, freeze_nodes.c.agent_id)
        .limit(NAMED_MAX)
    )
    over = row.lifted_at is not None or (row.expires_at is not None and row.expires_at <= now)
    return {
        "id": row.id,
        "selector": row.selector,
        "kind": row.kind,
        "reason": row.reason,
        "by": row.by,
        "created_at": format_instant(row.created_at),
        "expires_at": maybe_format(row.expires_at),
        "lifted_at": maybe_format(row.lifted_at),
        "lifted_by": row.lifted_by,
        "active": not over,
        "nodes": sum(states.values()),
        "states": states,
        "not_frozen": [
            {"node": agent_id, "state": state} for agent_id, state in connection.execute(apart)
        ],
    }


def held_by(
    connection: Connection, ids: Sequence[str], now: datetime
) -> dict[str, list[dict[str, Any]]]:
    """Which freezes these nodes are under, for showing them."""
    query = (
        select(freeze_nodes.c.agent_id, freeze_nodes.c.freeze_id, freeze_nodes.c.state,
               freezes.c.kind, freezes.c.reason, freezes.c.by, freezes.c.expires_at)
        .join(freezes, freezes.c.id == freeze_nodes.c.freeze_id)
        .where(freeze_nodes.c.agent_id.in_(ids), ~is_over(now))
        .order_by(freeze_nodes.c.agent_id, freezes.c.row)
    )  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(query):
        told = {"id": row.freeze_id, "state": row.state, "kind": row.kind, "reason": row.reason,
                "by": row.by, "expires_at": maybe_format(row.expires_at)}  # fmt: skip
        found.setdefault(row.agent_id, []).append(told)
    return found
