"""Recurring actions as the local API shows them, also while the daemon is down."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

from agent.domain.errors import NotFound
from agent.domain.instants import format_instant
from agent.domain.recurring import Place, Recurring, recurring_view
from agent.node.store import actions, recurring
from agent.node.store.meta import Meta
from agent.node.views import summary_view
from agent.node.what_is_lost import loss_hint
from agent.wire.definition import encode_definition

LATEST_SHOWN = 5
LATEST_LISTED = 1  # a page of a hundred shall not read five hundred occurrences
PAGE_DEFAULT = 100
PAGE_MAX = 500


def place_of(meta: Meta) -> Place:
    """Where schedules are evaluated on this node."""
    return Place(node=meta.agent_id, zone=meta.zone or Place().zone)


def find(connection: sqlite3.Connection, rule_id: str) -> Recurring:
    """The recurring action, or `NotFound`."""
    rule = recurring.by_id(connection, rule_id)
    if rule is None:
        action = actions.by_id(connection, rule_id)
        found = action is not None
        hint = "; there is an action of that id" if found else loss_hint(connection)
        raise NotFound(f"there is no recurring action {rule_id!r} on this node{hint}")
    return rule


def rule_view(
    connection: sqlite3.Connection, rule: Recurring, place: Place, now: datetime, *,
    latest: int = LATEST_SHOWN,
) -> dict[str, Any]:  # fmt: skip
    """Definition and what the node keeps of it on one level, with its latest occurrences."""
    found = recurring.latest(connection, rule.id, latest)
    unreadable = rule.definition.schedule is None
    stored = recurring.stored_definition(connection, rule.id) if unreadable else None
    return (
        (stored or encode_definition(rule.definition))
        | recurring_view(rule, place)
        | {
            "accepted_at": format_instant(rule.accepted_at),
            "latest": [summary_view(action, now) for action in found],
        }
    )


def page_view(
    connection: sqlite3.Connection, place: Place, now: datetime, *,
    after: str | None = None, limit: int = PAGE_DEFAULT,
) -> dict[str, Any]:  # fmt: skip
    """As `GET /v1/recurring`: by id, with `next` to go on."""
    found, more = recurring.page(connection, after, limit)
    shown = [rule_view(connection, one, place, now, latest=LATEST_LISTED) for one in found]
    return {"recurring": shown, "next": found[-1].id if more else None}
