"""Questions to people: put, withdrawn, replaced. Answers to them are in `deciding`.

A question is one row of `approvals` with what it asks for, whole: nobody decides about a definition
that has meanwhile become another. Called inside the transaction that makes it necessary; the
caller holds the lock of the node and writes the audit line.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from agent.core import journal, timers
from agent.core.nodes.incoming import definition_text
from agent.core.occasion import Occasion
from agent.core.store.locks import IDS_PER_QUERY
from agent.core.store.schema import approvals
from agent.core.timers import TimerKind
from agent.domain.definition import Definition, RiskLevel
from agent.domain.instants import maybe_format


class QuestionState(StrEnum):
    """Where a question stands; all but the first are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"  # the action was cancelled, or its edit came to nothing
    SUPERSEDED = "superseded"  # a newer edit took its place


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person is asked, and why. `definition.node` says where it would run."""

    definition: Definition
    digest: str
    risk: RiskLevel | None
    why: str
    rule: str | None
    requested_by: str
    expires_at: datetime | None
    four_eyes: bool = False
    is_edit: bool = False
    """A change of what is in force already: that stays in force until this is approved."""


def ask_all(connection: Connection, occasion: Occasion, questions: Sequence[Question]) -> list[str]:
    """Put questions (one dispatch may ask about a thousand nodes), in a handful of statements.

    Their ids, in order. Of an edit: `editing.edit` calls this, and closes older ones.
    """
    ids = [occasion.new_id() for _ in questions]
    if not questions:
        return ids
    pairs = list(zip(ids, questions, strict=True))
    connection.execute(insert(approvals), [_row(occasion, *pair) for pair in pairs])
    due = [(approval_id, one.expires_at) for approval_id, one in pairs if one.expires_at]
    timers.arm_new(connection, TimerKind.APPROVAL_EXPIRES, due)
    journal.store(connection, [_event(occasion, *pair) for pair in pairs])
    return ids


def withdraw(
    connection: Connection,
    occasion: Occasion,
    agent_id: str | None,
    action_id: str,
    *,
    by: str,
    reason: str | None = None,
) -> bool:
    """Close what waits about this action: it was cancelled. Whether anything waited."""
    return close_open(
        connection, occasion, agent_id, action_id, QuestionState.WITHDRAWN, by=by, reason=reason
    )


def close_open(
    connection: Connection,
    occasion: Occasion,
    agent_id: str | None,
    action_id: str,
    state: QuestionState,
    *,
    by: str,
    reason: str | None = None,
) -> bool:
    """Nobody needs to decide any more: the open questions about the action get this state.

    `agent_id` None: whatever node they name, as those about a recurring action, whose id is its own
    and which may have been meant for another node when they were put.
    """
    query = select(approvals.c.id).where(
        approvals.c.action_id == action_id,
        approvals.c.state == QuestionState.PENDING.value,
    )
    if agent_id is not None:
        query = query.where(approvals.c.agent_id == agent_id)
    ids = connection.execute(query.with_for_update()).scalars().all()
    if not ids:
        return False
    _close(connection, occasion, ids, state, by, reason)
    return True


def withdraw_all(
    connection: Connection,
    occasion: Occasion,
    about: Collection[tuple[str, str]],
    *,
    by: str,
    reason: str | None = None,
) -> None:
    """`withdraw` for many (node, action) pairs, with one look at all that is open."""
    query = select(approvals.c.id, approvals.c.agent_id, approvals.c.action_id).where(
        approvals.c.state == QuestionState.PENDING.value
    )
    ids = [one.id for one in connection.execute(query) if (one.agent_id, one.action_id) in about]
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = ids[start : start + IDS_PER_QUERY]
        _close(connection, occasion, some, QuestionState.WITHDRAWN, by, reason)


def _close(
    connection: Connection,
    occasion: Occasion,
    ids: Sequence[str],
    state: QuestionState,
    by: str,
    reason: str | None,
) -> None:
    connection.execute(
        update(approvals)
        .where(approvals.c.id.in_(ids), approvals.c.state == QuestionState.PENDING.value)
        .values(state=state.value, decided_at=occasion.now, decided_by=by, reason=reason)
    )
    timers.disarm_all(connection, TimerKind.APPROVAL_EXPIRES, ids)


def _row(occasion: Occasion, approval_id: str, one: Question) -> dict[str, Any]:
    return {
        "id": approval_id,
        "agent_id": one.definition.node or "",
        "action_id": one.definition.id,
        "definition": definition_text(one.definition),
        "digest": one.digest,
        "state": QuestionState.PENDING.value,
        "is_edit": one.is_edit,
        "risk": one.risk.value if one.risk else None,
        "why": one.why,
        "rule": one.rule,
        "four_eyes": one.four_eyes,
        "requested_at": occasion.now,
        "requested_by": one.requested_by,
        "expires_at": one.expires_at,
        "correlation_id": one.definition.correlation_id,
    }


def _event(occasion: Occasion, approval_id: str, one: Question) -> dict[str, Any]:
    body = {
        "approval_id": approval_id,
        "requested_by": one.requested_by,
        "kind": one.definition.kind,
        "revision": one.definition.revision,
        "risk": one.risk.value if one.risk else None,
        "why": one.why,
        "rule": one.rule,
        "is_edit": one.is_edit,
        "expires_at": maybe_format(one.expires_at),
        "digest": one.digest,
    }
    node, action_id = one.definition.node or "", one.definition.id
    return journal.row_of(occasion, node, journal.APPROVAL_REQUESTED, action_id, body)
