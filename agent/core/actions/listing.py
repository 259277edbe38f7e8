"""Reading actions and events: one by its id, many page by page, newest first.

A page's cursor is the number of the last row on it: rows that are added meanwhile are newer and
change no later page, so nothing is lost or shown twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.engine import Connection

from agent.core.actions.documents import action_summary, event_document
from agent.core.actions.phases import phase_is
from agent.core.actions.standing import standing_of
from agent.core.store.locks import IDS_PER_QUERY
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents, events
from agent.domain.errors import NotFound, Refused, shown
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import Phase

LIMIT_DEFAULT, LIMIT_MAX = 100, 500
CLOCKS_DIFFER_MAX = timedelta(days=1)


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
    correlation_id: str | None = None
    recurring_id: str | None = None
    retry_of: str | None = None
    service: str | None = None
    approval: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = LIMIT_DEFAULT
    after: int = 0


def _actions() -> Select[Any]:
    also = (agents.c.acked_seq, agents.c.silent_at)
    return select(actions, *also).join(agents, agents.c.id == actions.c.agent_id)


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


def find_each(connection: Connection, refs: Sequence[ActionRef]) -> list[AnyRow]:
    """The rows of these, each with its node and owner, in no order; unknown ones are absent."""
    found: list[AnyRow] = []
    for start in range(0, len(refs), IDS_PER_QUERY):
        some = refs[start : start + IDS_PER_QUERY]
        wanted = {(ref.node, ref.id, ref.owner) for ref in some}
        query = _actions().where(actions.c.id.in_([ref.id for ref in some]))
        rows = connection.execute(query).all()
        found += [row for row in rows if (row.agent_id, row.id, row.owner) in wanted]
    return found


def progress_of(connection: Connection, row: AnyRow) -> dict[str, Any] | None:
    """What the script of a running action said last, from the node's newest report."""
    if row.status != ExecutionStatus.STARTED.value:
        return None
    text = connection.execute(select(agents.c.report).where(agents.c.id == row.agent_id)).scalar()
    told = msgspec.json.decode(text).get("progress", []) if text else []
    return next((one for one in told if one.get("action_id") == row.id), None)


def _equal(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    columns = {
        actions.c.agent_id: wanted.node,
        actions.c.status: wanted.status,
        actions.c.kind: wanted.kind,
        actions.c.correlation_id: wanted.correlation_id,
        actions.c.recurring_id: wanted.recurring_id,
        actions.c.retry_of: wanted.retry_of,
        actions.c.service: wanted.service,
        actions.c.approval_state: wanted.approval,
    }
    return (column == value for column, value in columns.items() if value is not None)


def _created(connection: Connection, wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """By time of creation.

    Rows are numbered as they are made, so that bounds their numbers too: by a day less, for clocks
    that were set and cores that disagree.
    """
    made = actions.c.created_at
    if wanted.since is not None:
        yield made >= wanted.since
        first = _row_at(connection, wanted.since - CLOCKS_DIFFER_MAX)
        if first is not None:
            yield actions.c.row >= first
    if wanted.until is not None:
        yield made < wanted.until
        last = _row_at(connection, wanted.until + CLOCKS_DIFFER_MAX)
        if last is not None:
            yield actions.c.row <= last


def _row_at(connection: Connection, at: datetime) -> int | None:
    query = select(actions.c.row).where(actions.c.created_at >= at).order_by(actions.c.created_at)
    found: int | None = connection.execute(query.limit(1)).scalar()
    return found


def list_actions(connection: Connection, wanted: Filter, now: datetime) -> dict[str, Any]:
    """One page; `next` is the `after` of the next one, null on the last."""
    query = _actions().where(*_equal(wanted), *_created(connection, wanted))
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
