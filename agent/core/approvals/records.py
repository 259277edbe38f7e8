"""Questions and their answers as they are read, listed and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from agent.core.approvals.requests import QuestionState
from agent.core.recurring.rows import find_rule, is_rule
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, approvals, recurring
from agent.domain.definition import Owner
from agent.domain.errors import NotFound, Refused, shown
from agent.domain.instants import format_instant, maybe_format
from agent.wire.definition import encode_definition

_decode = msgspec.json.Decoder().decode
_CONTENT_ONLY_WHOLE = ("payload", "metadata", "rollback_reference")
_NEVER_COMPARED = ("revision", "should_be_executed", "approval")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalFilter:
    """Which questions of a list."""

    state: str | None = None
    node: str | None = None
    action_id: str | None = None
    correlation_id: str | None = None
    limit: int = 100
    after: int = 0


def find_approval(connection: Connection, approval_id: str, *, lock: bool = False) -> AnyRow:
    """The row. Raises `NotFound`."""
    query = select(approvals).where(approvals.c.id == approval_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f"there is no approval {shown(approval_id)}; corectl approvals lists them")
    return row


def waiting_for(connection: Connection, action: AnyRow) -> AnyRow:
    """The open question about an action of the core's. Raises `Refused` (`not_pending`)."""
    newest = (
        select(approvals)
        .where(approvals.c.agent_id == action.agent_id, approvals.c.action_id == action.id)
        .order_by(approvals.c.row.desc())
        .limit(1)
    )
    row = connection.execute(newest).first()
    if row is None:
        raise Refused("not_pending", f"nothing about {action.id!r} waits for approval")
    return row


def require_no_rule(connection: Connection, action_id: str) -> None:
    """Raise `Refused` (`recurring`) where a recurring action of this id has an open question.

    Who answers by an action's id is answered with that action; this one may be on no node, or on
    many.
    """
    open_one = (
        select(approvals.c.id)
        .join(recurring, recurring.c.id == approvals.c.action_id)
        .where(approvals.c.action_id == action_id, approvals.c.state == QuestionState.PENDING.value)
        .limit(1)
    )
    found = connection.execute(open_one).scalar()
    if found is not None:
        raise Refused(
            "recurring",
            f"{action_id!r} is a recurring action; answer its question, the approval {found} "
            f"(/v1/approvals/{found}, or corectl approve {found})",
        )


def require_pending(row: AnyRow, now: Any) -> None:
    """Raise `Refused` (`not_pending`) with who decided what and when."""
    name = f"the approval {row.id!r} of {row.action_id!r}"
    if row.state != QuestionState.PENDING.value:
        why = f": {row.reason}" if row.reason else ""
        at = format_instant(row.decided_at)
        if row.state == QuestionState.EXPIRED.value:
            raise Refused("not_pending", f"{name} expired at {at}{why}")
        raise Refused("not_pending", f"{name} was {row.state} by {row.decided_by} at {at}{why}")
    if row.expires_at is not None and row.expires_at <= now:
        raise Refused("not_pending", f"{name} expired at {format_instant(row.expires_at)}")


def askers_before(connection: Connection, row: AnyRow) -> set[str]:
    """Who asked the questions about the same that this one took the place of."""
    query = select(approvals.c.requested_by).where(
        approvals.c.action_id == row.action_id,
        approvals.c.agent_id == row.agent_id,
        approvals.c.state == QuestionState.SUPERSEDED.value,
        approvals.c.is_edit.is_(False),
    )
    return set(connection.execute(query.distinct()).scalars())


def action_of(connection: Connection, row: AnyRow, *, lock: bool = False) -> AnyRow | None:
    """The action that a question is about; None when it is gone."""
    query = select(actions).where(
        actions.c.agent_id == row.agent_id,
        actions.c.id == row.action_id,
        actions.c.owner == Owner.CORE.value,
    )
    return connection.execute(query.with_for_update() if lock else query).first()


def list_approvals(connection: Connection, wanted: ApprovalFilter) -> dict[str, Any]:
    """One page, newest first; `next` is the `after` of the next one, null on the last."""
    query: Select[Any] = select(approvals)
    by = {
        approvals.c.state: wanted.state,
        approvals.c.agent_id: wanted.node,
        approvals.c.action_id: wanted.action_id,
        approvals.c.correlation_id: wanted.correlation_id,
    }
    query = query.where(*(column == value for column, value in by.items() if value is not None))
    if wanted.after:
        query = query.where(approvals.c.row < wanted.after)
    newest = query.order_by(approvals.c.row.desc()).limit(wanted.limit + 1)
    rows = connection.execute(newest).all()
    page = rows[: wanted.limit]
    return {
        "approvals": [approval_summary(row) for row in page],
        "next": str(page[-1].row) if len(rows) > wanted.limit else None,
    }


def whole_approval(connection: Connection, approval_id: str) -> dict[str, Any]:
    """One question with all that is asked for; of an edit also what it would change."""
    row = find_approval(connection, approval_id)
    document = approval_document(row)
    if row.is_edit and row.state == QuestionState.PENDING.value:
        document["changes"] = _changes(_in_force(connection, row), document["definition"])
    return document


def _in_force(connection: Connection, row: AnyRow) -> Mapping[str, Any]:
    """What an edit would take the place of: an action's definition, or a recurring one's."""
    if is_rule(connection, row.action_id):
        return encode_definition(find_rule(connection, row.action_id).asked())
    action = action_of(connection, row)
    found: dict[str, Any] = _decode(action.definition) if action and action.definition else {}
    return found


def approval_document(row: AnyRow) -> dict[str, Any]:
    """A row as the API shows it."""
    definition = _decode(row.definition)
    return {
        "id": row.id,
        "state": row.state,
        "action_id": row.action_id,
        "node": row.agent_id or None,
        "kind": definition.get("kind"),
        "service": definition.get("service"),
        "risk": row.risk,
        "why": row.why,
        "rule": row.rule,
        "is_edit": row.is_edit,
        "four_eyes": row.four_eyes,
        "digest": row.digest,
        "requested_at": format_instant(row.requested_at),
        "requested_by": row.requested_by,
        "proposed_by": definition.get("proposed_by"),
        "confidence": definition.get("confidence"),
        "correlation_id": row.correlation_id,
        "expires_at": maybe_format(row.expires_at),
        "decided_at": maybe_format(row.decided_at),
        "decided_by": row.decided_by,
        "reason": row.reason,
        "definition": definition,
    }


def approval_summary(row: AnyRow) -> dict[str, Any]:
    """The same without what is large, for lists."""
    document = approval_document(row)
    for name in _CONTENT_ONLY_WHOLE:
        document["definition"].pop(name, None)
    return document


def _changes(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    names = sorted({*current, *wanted} - {*_NEVER_COMPARED})
    return {
        name: {"from": current.get(name), "to": wanted.get(name)}
        for name in names
        if current.get(name) != wanted.get(name)
    }
