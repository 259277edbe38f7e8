"""A dispatch that has a `schedule` is a recurring action: created like any other, answered as a
dispatch. And a cancellation of one deletes it: there is nothing else to cancel of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.actions.submission import Submission
from agent.core.actions.terms import Asker, Terms
from agent.core.approvals.requests import withdraw
from agent.core.occasion import Occasion
from agent.core.recurring import changing, rows
from agent.core.recurring.answers import dispatched_document
from agent.core.store.locks import IDS_PER_QUERY, serialize
from agent.core.store.port import AnyRow
from agent.core.store.schema import recurring
from agent.core.wakeups import Topic
from agent.domain.errors import Refused


def look(
    connection: Connection, occasion: Occasion, submission: Submission, terms: Terms, asker: Asker
) -> dict[str, Any]:
    """What the dispatch would be answered. Raises as `store`."""
    rule = changing.rule_from(submission, occasion, asker.name)
    changing.require_unused(connection, rule.id)
    made = changing.plan(connection, occasion, rule, terms, asker, approve=submission.approve)
    return dispatched_document(made, dry_run=True)


def store(
    connection: Connection, occasion: Occasion, submission: Submission, terms: Terms, asker: Asker
) -> tuple[dict[str, Any], list[Topic]]:
    """Create it; the answer, and whom to wake. Raises `InvalidDocument`, `NotFound`, `Refused`."""
    made = changing.create(connection, occasion, submission, terms, asker)
    return dispatched_document(made), made.settled.topics(made.rule.id)


def lock_rules(connection: Connection, action_ids: Iterable[str]) -> None:
    """Nobody else changes those of them that are recurring actions: before the nodes' locks."""
    if connection.dialect.name == "sqlite":
        return
    ids = sorted(set(action_ids))
    found: list[str] = []
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = ids[start : start + IDS_PER_QUERY]
        query = select(recurring.c.id).where(recurring.c.id.in_(some))
        found += connection.execute(query).scalars()
    serialize(connection, *map(rows.lock_name, found))


def require_one_node(connection: Connection, action_id: str) -> None:
    """Raise `Refused` (`recurring`) where more than the action of one node would be cancelled."""
    if rows.is_rule(connection, action_id):
        rule = rows.find_rule(connection, action_id)
        if rule.selector is not None and rule.deleted_at is None:
            raise Refused(
                "recurring",
                f"{action_id!r} is a recurring action of every node that matches {rule.target!r}; "
                f"delete it (corectl recurring delete {action_id}), or change the node's labels",
            )


def standing_with(connection: Connection, correlation_id: str, most: int) -> list[AnyRow]:
    """The recurring actions that belong together, also those that are on no node."""
    mine = (recurring.c.correlation_id == correlation_id, recurring.c.deleted_at.is_(None))
    query = select(recurring.c.id, recurring.c.node).where(*mine).order_by(recurring.c.id)
    return list(connection.execute(query.limit(most)).all())


def was_there_with(connection: Connection, correlation_id: str) -> bool:
    """Whether any recurring action has, or had, it."""
    query = select(recurring.c.id).where(recurring.c.correlation_id == correlation_id)
    return connection.execute(query.limit(1)).first() is not None


def note_cancelled(
    connection: Connection, occasion: Occasion, action_ids: Iterable[str], by: str
) -> None:
    """Those of the actions that are recurring ones are over, on all of their nodes.

    Nobody is asked about them any more.
    """
    ids = sorted(set(action_ids))
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = ids[start : start + IDS_PER_QUERY]
        mine = (recurring.c.id.in_(some), recurring.c.deleted_at.is_(None))
        found = connection.execute(select(recurring.c.id, recurring.c.node).where(*mine)).all()
        if not found:
            continue
        values = {"deleted_at": occasion.now, "updated_at": occasion.now}
        connection.execute(update(recurring).where(*mine).values(**values))
        for one in found:
            withdraw(connection, occasion, None, one.id, by=by, reason="cancelled")
        body = {"requested_by": by, "why": "cancelled"}
        told = [
            journal.row_of(occasion, "", journal.RECURRING_DELETED, one.id, body) for one in found
        ]
        journal.store(connection, told)
