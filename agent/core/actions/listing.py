"""Reading actions and events: one by its id, many page by page, newest first.

A page's cursor is the number of the last row on it: rows that are added meanwhile are newer and
change no later page, so nothing is lost or shown twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from agent.core.actions.documents import action_summary, event_document
from agent.core.actions.phases import phase_is
from agent.core.actions.standing import standing_of
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents, events
from agent.domain.errors import NotFound, Refused, shown
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import Phase

LIMIT_DEFAULT, LIMIT_MAX = 100, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRef:
    """Which action: the id is enough, unless several nodes have one of that id."""

    id: str
    node: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which actions of a list."""

    node: str | None = None
    status: str | None = None
    phase: Phase | None = None
    kind: str | None = None
    limit: int = LIMIT_DEFAULT
    after: int = 0


def _actions() -> Select[Any]:
    return select(actions, agents.c.acked_seq).join(agents, agents.c.id == actions.c.agent_id)


def find_action(connection: Connection, ref: ActionRef) -> AnyRow:
    """The row. Raises `NotFound`, or `Refused` when the id alone says too little."""
    query = _actions().where(actions.c.id == ref.id)
    if ref.node is not None:
        query = query.where(actions.c.agent_id == ref.node)
    if ref.owner is not None:
        query = query.where(actions.c.owner == ref.owner)
    rows = connection.execute(query.order_by(actions.c.row).limit(20)).all()
    if not rows:
        where = f" on {ref.node!r}" if ref.node else ""
        raise NotFound(f"there is no action {shown(ref.id)}{where}")
    if len(rows) > 1:
        places = ", ".join(f"node={row.agent_id}&owner={row.owner}" for row in rows)
        raise Refused("ambiguous", f"several actions have the id {ref.id!r}; say which: {places}")
    return rows[0]


def progress_of(connection: Connection, row: AnyRow) -> dict[str, Any] | None:
    """What the script of a running action said last, from the node's newest report."""
    if row.status != ExecutionStatus.STARTED.value:
        return None
    text = connection.execute(select(agents.c.report).where(agents.c.id == row.agent_id)).scalar()
    told = msgspec.json.decode(text).get("progress", []) if text else []
    return next((one for one in told if one.get("action_id") == row.id), None)


def list_actions(connection: Connection, wanted: Filter, now: datetime) -> dict[str, Any]:
    """One page; `next` is the `after` of the next one, null on the last."""
    query = _actions()
    if wanted.node is not None:
        query = query.where(actions.c.agent_id == wanted.node)
    if wanted.status is not None:
        query = query.where(actions.c.status == wanted.status)
    if wanted.kind is not None:
        query = query.where(actions.c.kind == wanted.kind)
    if wanted.phase is not None:
        query = query.where(phase_is(wanted.phase, now))
    if wanted.after:
        query = query.where(actions.c.row < wanted.after)
    rows = connection.execute(query.order_by(actions.c.row.desc()).limit(wanted.limit + 1)).all()
    page = rows[: wanted.limit]
    shown = [action_summary(row, now, standing_of(connection, row)) for row in page]
    return {
        "actions": [one for one in shown if wanted.phase in (None, one["phase"])],
        "next": str(page[-1].row) if len(rows) > wanted.limit else None,
    }


def history(connection: Connection, row: AnyRow, after: int, limit: int) -> dict[str, Any]:
    """The events of one action in the order in which they became known."""
    query = (
        select(events)
        .where(events.c.agent_id == row.agent_id, events.c.action_id == row.id, events.c.id > after)
        .order_by(events.c.id)
        .limit(limit + 1)
    )
    rows = connection.execute(query).all()
    page = rows[:limit]
    return {
        "id": row.id,
        "node": row.agent_id,
        "events": [event_document(event) for event in page],
        "next": str(page[-1].id) if len(rows) > limit else None,
    }


def events_after(connection: Connection, after: int, limit: int) -> dict[str, Any]:
    """The global stream; `next` is the cursor to ask on with, also when nothing was new."""
    query = select(events).where(events.c.id > after).order_by(events.c.id).limit(limit)
    rows = connection.execute(query).all()
    return {
        "events": [event_document(event) for event in rows],
        "next": str(rows[-1].id if rows else after),
    }
