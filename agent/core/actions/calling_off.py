"""Everything that belongs together, cancelled together: by correlation id (seed 003's escalation).

What is open is cancelled, what waits for an approval is called off, and of what cannot be any more
it is said why; that stops nobody else. One transaction.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core.actions.cancelling import Cancel, Way, cancel_all, decide_cancel
from agent.core.actions.listing import ActionRef, find_each
from agent.core.actions.phases import phase_at_core
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.recurring.dispatched import (
    lock_rules,
    note_cancelled,
    standing_with,
    was_there_with,
)
from agent.core.store.locks import lock_agents
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.errors import NotFound, Refused, shown
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import Phase

CANCELLED_AT_ONCE_MAX = 20_000  # as many as one dispatch can make; more is said to be left
_OPEN = [ExecutionStatus.NULL.value, ExecutionStatus.STARTED.value]


def cancel_correlated(
    connection: Connection, occasion: Occasion, correlation_id: str, asked: Cancel
) -> dict[str, Any]:
    """Cancel what is open with this correlation id; what became of each. Raises `NotFound`."""
    mine = actions.c.correlation_id == correlation_id
    columns = (actions.c.id, actions.c.agent_id, actions.c.owner)
    query = select(*columns).where(mine, actions.c.status.in_(_OPEN)).order_by(actions.c.row)
    found = connection.execute(query.limit(CANCELLED_AT_ONCE_MAX + 1)).all()
    open_ones = found[:CANCELLED_AT_ONCE_MAX]
    rules = standing_with(connection, correlation_id, CANCELLED_AT_ONCE_MAX)
    if (
        not (open_ones or rules)
        and connection.execute(select(actions.c.row).where(mine).limit(1)).first() is None
        and not was_there_with(connection, correlation_id)
    ):
        raise NotFound(f"there is no action with the correlation id {shown(correlation_id)}")
    lock_rules(connection, [one.id for one in (*rules, *open_ones)])
    lock_agents(connection, (one.agent_id for one in open_ones))
    refs = [ActionRef(id=one.id, node=one.agent_id, owner=one.owner) for one in open_ones]
    decided: list[tuple[AnyRow, Way]] = []
    refused: dict[ActionRef, Refused] = {}
    for row in find_each(connection, refs):  # read again, behind the locks
        try:
            decided.append((row, decide_cancel(row, asked)))
        except Refused as error:
            refused[_ref(row)] = error
    cancel_all(connection, occasion, decided, asked)
    withdrawn = [row.id for row, way in decided if way is Way.WITHDRAW]
    on_no_node = [one for one in rules if one.id not in {ref.id for ref in refs}]
    note_cancelled(connection, occasion, [*withdrawn, *(one.id for one in on_no_node)], asked.by)
    if on_no_node or any(way is not Way.NOTHING for _, way in decided):
        count = len(decided) + len(on_no_node)
        detail = {"correlation_id": correlation_id, "count": count, "why": asked.reason}
        audit.record(connection, occasion, asked.by, "cancel", correlation_id, detail)
    return {
        "correlation_id": correlation_id,
        "actions": [
            *_told(connection, occasion, refs, refused),
            *(_told_of_rule(one) for one in on_no_node),
        ],
        "more": len(found) > CANCELLED_AT_ONCE_MAX,
    }


def _told_of_rule(rule: AnyRow) -> dict[str, Any]:
    """A recurring action that no node had: it waited for people, or for nodes that match."""
    phase = Phase.CANCELLED.value
    return {"action_id": rule.id, "node": rule.node, "phase": phase, "outcome": "cancelled"}


def _ref(row: AnyRow) -> ActionRef:
    return ActionRef(id=row.id, node=row.agent_id, owner=row.owner)


def _told(
    connection: Connection,
    occasion: Occasion,
    refs: list[ActionRef],
    refused: dict[ActionRef, Refused],
) -> list[dict[str, Any]]:
    """Each action as it is now: `requested` until its node settles it, `cancelled` where it is."""
    rows = {_ref(row): row for row in find_each(connection, refs)}
    told = []
    for ref in refs:
        row = rows.get(ref)
        if row is None:  # it had ended long ago, and was pruned until just now
            continue
        one: dict[str, Any] = {
            "action_id": row.id,
            "node": row.agent_id,
            "phase": phase_at_core(row, occasion.now).value,
            "outcome": "cancelled" if row.requested is None else "requested",
        }
        error = refused.get(ref)
        if error is not None:
            one |= {"outcome": "refused", "error": error.code, "message": str(error)}
        told.append(one)
    return told
