"""Freezes: nothing starts on the nodes of a selector, until it is thawed or its time has come.

A freeze is durable here; each node that matches gets it as a request, and holds it as a brake of
its own, offline as well. Nodes that come to match later get it too, and those that no longer match
are thawed. Its owner may lift it on the node: that is seen here and not undone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.nodes.freeze_views import Frozen, active, document, is_over
from agent.core.nodes.selection import in_service, labels_of, select_nodes
from agent.core.nodes.selector import Selector, parse_selector
from agent.core.nodes.stream import Asked, enqueue_requests
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.locks import IDS_PER_QUERY, lock_agents, serialize
from agent.core.store.port import AnyRow
from agent.core.store.schema import agents, freeze_nodes, freezes
from agent.domain.errors import Fault, InvalidDocument, NotFound, Refused, shown
from agent.domain.instants import maybe_format
from agent.domain.labels import NODE_LABEL
from agent.wire.messages import FREEZE, THAW

NODES_MAX = 100_000  # of one freeze; a selector that means more is told so
ACTIVE_MAX = 64  # each is looked at whenever a node's labels change, and people have to read them
OVER_KEPT_MAX = 1_000  # that are over, for looking back
FEATURE = "freeze"
_HELD = select(freeze_nodes).where(freeze_nodes.c.agent_id == bindparam("agent"))
LOCK = "freezes"  # whoever stores a selector has it alone, whoever changes a node shares it


@dataclass(frozen=True, slots=True, kw_only=True)
class Freezing:
    """What was asked for."""

    selector: Selector
    reason: str
    kind: str | None = None
    expires_at: datetime | None = None


def freeze(
    connection: Connection, occasion: Occasion, asked: Freezing, by: str
) -> tuple[dict[str, Any], list[str]]:
    """Store it and send it to all whom it means; the freeze, and whom to wake.

    Raises `Refused` (too many), `InvalidDocument` (more nodes than one may mean).
    """
    serialize(connection, LOCK)
    if len(active(connection, occasion.now)) >= ACTIVE_MAX:
        raise Refused(
            "too_many", f"there are {ACTIVE_MAX} freezes already; thaw some of them first"
        )
    ids = select_nodes(connection, asked.selector, NODES_MAX + 1)
    if len(ids) > NODES_MAX:
        raise InvalidDocument(
            [Fault("selector", f"matches more than {NODES_MAX} nodes; freeze fewer at once")]
        )
    lock_agents(connection, ids)
    there = in_service(connection, ids)  # some were, perhaps, when they were selected
    ids = [one for one in ids if one in there]
    row = {
        "id": occasion.new_id(),
        "selector": str(asked.selector),
        "kind": asked.kind,
        "reason": asked.reason,
        "by": by,
        "created_at": occasion.now,
        "expires_at": asked.expires_at,
    }
    connection.execute(insert(freezes), [row])
    made = connection.execute(select(freezes).where(freezes.c.id == row["id"])).one()
    told = _send(connection, occasion, made, ids)
    _forget_old(connection, occasion.now)
    # An event has an `id` of its own: what it is about is called otherwise.
    body = {"freeze_id": made.id, "selector": made.selector, "kind": made.kind,
            "reason": made.reason, "until": maybe_format(made.expires_at),
            "requested_by": by, "nodes": len(ids)}  # fmt: skip
    journal.append(connection, occasion, "", journal.FROZEN, body=body)
    audit.record(connection, occasion, by, "freeze", made.selector, body)
    return document(connection, made, occasion.now), told


@dataclass(frozen=True, slots=True, kw_only=True)
class Thawing:
    """What is to be lifted: one freeze by its id, or all that were made for exactly a selector."""

    id: str | None = None
    selector: Selector | None = None


def thaw(
    connection: Connection, occasion: Occasion, asked: Thawing, by: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Lift; the freezes that ended, and whom to wake. Raises `NotFound`."""
    serialize(connection, LOCK)
    ended = _to_be_lifted(connection, occasion.now, asked)
    members = {row.id: _members(connection, row.id) for row in ended}
    lock_agents(connection, {one for some in members.values() for one in some})
    woken: list[str] = []
    for row in ended:
        connection.execute(
            update(freezes)
            .where(freezes.c.row == row.row)
            .values(lifted_at=occasion.now, lifted_by=by)
        )
        woken += _take_back(connection, occasion, row.id, by)
        body = {"freeze_id": row.id, "selector": row.selector, "requested_by": by,
                "nodes": len(members[row.id])}  # fmt: skip
        journal.append(connection, occasion, "", journal.THAWED, body=body)
    shown_rows = [
        document(connection, one, occasion.now)
        for one in connection.execute(
            select(freezes)
            .where(freezes.c.row.in_([row.row for row in ended]))
            .order_by(freezes.c.row)
        ).all()
    ]
    for row in ended:
        audit.record(connection, occasion, by, "thaw", row.selector, {"freeze_id": row.id})
    return shown_rows, woken


def _members(connection: Connection, freeze_id: str) -> list[str]:
    query = select(freeze_nodes.c.agent_id).where(freeze_nodes.c.freeze_id == freeze_id)
    return list(connection.execute(query).scalars())


def _to_be_lifted(connection: Connection, now: datetime, asked: Thawing) -> list[AnyRow]:
    standing = active(connection, now)
    if asked.id is not None:
        found = [row for row in standing if row.id == asked.id]
        if not found:
            raise NotFound(f"there is no freeze {shown(asked.id)} that holds; corectl freezes")
        return found
    wanted = str(asked.selector)
    found = [row for row in standing if row.selector == wanted]
    if not found:
        known = ", ".join(sorted({row.selector for row in standing})[:10]) or "none"
        raise NotFound(
            f"no freeze was made for the selector {shown(wanted)}; those that hold are for: "
            f"{known}. Thaw by the same selector, or by id"
        )
    return found


def _send(
    connection: Connection, occasion: Occasion, row: AnyRow, agent_ids: Sequence[str]
) -> list[str]:
    """Tell these nodes of it, as far as they understand; whom to wake."""
    states = _understanding(connection, agent_ids)
    able = [agent_id for agent_id in agent_ids if states[agent_id] is Frozen.REQUESTED]
    args = {"freeze": row.id, "kind": row.kind, "expires_at": maybe_format(row.expires_at)}
    enqueue_requests(
        connection, occasion, able, Asked(FREEZE, by=row.by, reason=row.reason, args=args)
    )
    members = [
        {"agent_id": one, "freeze_id": row.id, "state": states[one].value, "at": occasion.now}
        for one in agent_ids
    ]
    if members:
        connection.execute(insert(freeze_nodes), members)
    return able


class _Features(msgspec.Struct):
    features: list[str] = []


_read_features = msgspec.json.Decoder(_Features).decode


def _understanding(connection: Connection, agent_ids: Sequence[str]) -> dict[str, Frozen]:
    found: dict[str, Frozen] = {}
    for start in range(0, len(agent_ids), IDS_PER_QUERY):
        some = agent_ids[start : start + IDS_PER_QUERY]
        query = select(agents.c.id, agents.c.report).where(agents.c.id.in_(some))
        for row in connection.execute(query):
            found[row.id] = _state_for(row.report)
    return found


def _state_for(report: str | None) -> Frozen:
    if not report:
        return Frozen.UNREPORTED
    able = FEATURE in _read_features(report).features
    return Frozen.REQUESTED if able else Frozen.UNSUPPORTED


def _take_back(
    connection: Connection, occasion: Occasion, freeze_id: str, by: str,
    only: Collection[str] | None = None,
) -> list[str]:  # fmt: skip
    """Thaw it on all of its nodes, or on some; whom to wake."""
    mine = [freeze_nodes.c.freeze_id == freeze_id]
    if only is not None:
        mine.append(freeze_nodes.c.agent_id.in_(only))
    members = connection.execute(
        select(freeze_nodes.c.agent_id, freeze_nodes.c.state)
        .where(*mine)
        .order_by(freeze_nodes.c.agent_id)
    ).all()
    able = [one.agent_id for one in members if one.state in _TOLD]
    asked = Asked(THAW, by=by, args={"freeze": freeze_id})
    enqueue_requests(connection, occasion, able, asked)
    connection.execute(delete(freeze_nodes).where(*mine))
    return able


_TOLD = frozenset({Frozen.REQUESTED.value, Frozen.FROZEN.value, Frozen.LIFTED_ON_NODE.value})


def reconcile(connection: Connection, occasion: Occasion, agent_id: str) -> bool:
    """The node is another one than before: it gets what it matches now, and loses what it does not.

    True if it is to be woken. Inside the write that changed it, which holds its lock.
    """
    standing = active(connection, occasion.now)
    held = connection.execute(_HELD, {"agent": agent_id}).all()
    members = {row.freeze_id: row.state for row in held}
    if not standing and not members:
        return False
    labels = {**labels_of(connection, [agent_id]).get(agent_id, {}), NODE_LABEL: agent_id}
    meant = {row.id: row for row in standing if parse_selector(row.selector).matches(labels)}
    woken: list[str] = []
    waiting = [one for one, state in members.items() if one in meant and state not in _TOLD]
    if waiting:  # it did not understand; perhaps it does now
        _drop(connection, agent_id, waiting)
    for freeze_id, row in meant.items():
        if freeze_id not in members or freeze_id in waiting:
            woken += _send(connection, occasion, row, [agent_id])
    holding = {row.id for row in standing}
    for freeze_id in members.keys() - meant.keys():
        if freeze_id in holding:
            woken += _take_back(connection, occasion, freeze_id, "core", [agent_id])
    _drop(connection, agent_id, [one for one in members if one not in holding])
    return bool(woken)


def _drop(connection: Connection, agent_id: str, freeze_ids: Sequence[str]) -> None:
    if freeze_ids:
        connection.execute(
            delete(freeze_nodes).where(
                freeze_nodes.c.agent_id == agent_id, freeze_nodes.c.freeze_id.in_(freeze_ids)
            )
        )


def forget_node(connection: Connection, agent_id: str) -> None:
    """It was taken out of service, or begins anew: nobody knows what it holds."""
    connection.execute(delete(freeze_nodes).where(freeze_nodes.c.agent_id == agent_id))


def _forget_old(connection: Connection, now: datetime) -> None:
    """Beyond the bound the oldest that are over go, with what is known of their nodes."""
    old = select(freezes.c.id).where(is_over(now)).order_by(freezes.c.row.desc())
    gone = connection.execute(old.offset(OVER_KEPT_MAX).limit(IDS_PER_QUERY)).scalars().all()
    if gone:
        connection.execute(delete(freezes).where(freezes.c.id.in_(gone)))
        connection.execute(delete(freeze_nodes).where(freeze_nodes.c.freeze_id.in_(gone)))
