"""Answers to questions: approved, rejected, expired. One write function each.

Who decides locks the node first and then the question, as whoever cancels or edits does; so of an
approval, a cancellation and an expiry that meet exactly one finds the question still open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from agent.core import journal, timers
from agent.core.actions.placing import release
from agent.core.approvals.records import (
    action_of,
    askers_before,
    find_approval,
    require_pending,
)
from agent.core.approvals.requests import QuestionState
from agent.core.nodes.incoming import definition_text
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.people.principal import CORE
from agent.core.recurring.approving import approve_rule, is_about_a_rule, refuse_rule
from agent.core.store.locks import lock_agent, lock_agents, serialize
from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents, approvals
from agent.core.timers import TimerKind
from agent.core.wakeups import EVENTS, Topic, action_topic, agent_topic
from agent.domain.definition import Approval, ApprovalState, Definition
from agent.domain.errors import Refused
from agent.domain.instants import format_instant
from agent.domain.lifecycle import ExecutionStatus
from agent.wire import fields as f
from agent.wire.canonical import digest_of, digest_of_document
from agent.wire.definition import decode_definition
from agent.wire.fields import Field, read_closed

_BODY = {"reason": Field(f.text(1024)), "digest": Field(f.text(128))}
ANSWERS = {"approve": ApprovalState.APPROVED, "reject": ApprovalState.REJECTED}
_EVENT = {ApprovalState.APPROVED: journal.APPROVED, ApprovalState.REJECTED: journal.REJECTED}
_VERB = {ApprovalState.APPROVED: "approve", ApprovalState.REJECTED: "reject"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody decided. `by` is recorded; `authority` is whose token stands behind it."""

    state: ApprovalState  # approved or rejected
    by: str
    authority: str
    reason: str | None = None
    digest: str | None = None
    """Of what the decider looked at; None: whatever waits."""
    via: str | None = None

    @property
    def approves(self) -> bool:
        """Whether it is a yes."""
        return self.state is ApprovalState.APPROVED


def read_answer(document: Any, state: ApprovalState, by: str) -> Answer:
    """Raises `InvalidDocument` with every fault."""
    return Answer(state=state, by=by, authority=by, **read_closed(document, _BODY))


def decide(
    connection: Connection, occasion: Occasion, approval_id: str, answer: Answer
) -> list[Topic]:
    """Answer a question; whom to wake after the commit. Raises `Refused`, `NotFound`."""
    found = find_approval(connection, approval_id)
    serialize(connection, _lock_name(found.action_id))
    lock_agent(connection, found.agent_id)
    row = find_approval(connection, approval_id, lock=True)
    require_pending(row, occasion.now)
    require_same(row.digest, answer.digest)
    if answer.approves:
        require_other_eyes(connection, row, answer)
        _approve(connection, occasion, row, answer)
    elif not row.is_edit:
        ended = _end_action(connection, occasion, row, _record(occasion, row, answer))
        if ended is None:  # a core from a backup: it was approved before, and its node has it
            raise _too_late(row)
    _close(connection, occasion, row, QuestionState(answer.state.value), answer.by, answer.reason)
    _tell(connection, occasion, row, answer)
    return _topics(row)


def require_same(waiting: str, looked_at: str | None) -> None:
    """Raise `Refused` (`changed`) where the decider looked at something else."""
    if looked_at is not None and looked_at != waiting:
        raise Refused(
            "changed",
            f"what you looked at (digest {looked_at[:64]}) is not what waits now (digest "
            f"{waiting}); look again, then decide",
        )


def require_other_eyes(connection: Connection, row: AnyRow, answer: Answer) -> None:
    """Raise `Refused` (`four_eyes`) where one person would decide about their own request.

    A first question that was moved where it waits is the wish of all who had a part in it.
    """
    if not row.four_eyes:
        return
    asked = {row.requested_by} | (set() if row.is_edit else askers_before(connection, row))
    for name in sorted(asked & {answer.authority, answer.by.removeprefix("link:")}):
        raise Refused(
            "four_eyes",
            f"{name!r} asked for {row.action_id!r}, and somebody else has to approve it (four "
            "eyes)",
        )


def _approve(connection: Connection, occasion: Occasion, row: AnyRow, answer: Answer) -> None:
    """Bring what was asked for into force, and into its node's stream."""
    if is_about_a_rule(connection, row):
        approve_rule(connection, occasion, row, _record(occasion, row, answer))
        return
    action = action_of(connection, row, lock=True)
    if action is None or not action.wanted or not _is_open(action, row):
        raise _too_late(row)
    _require_node(connection, row)
    text = row.definition if row.is_edit else action.definition
    document = msgspec.json.decode(text)
    definition = replace(decode_definition(document), approval=_record(occasion, row, answer))
    # Of what was stored, and of what this version makes of it: that is what the node is sent.
    if not row.digest == digest_of_document(document) == digest_of(definition):
        raise Refused(
            "changed",
            f"the definition of {row.action_id!r} is not the one that was asked about; cancel it "
            "and dispatch it again",
        )
    if row.is_edit:
        definition = replace(definition, revision=action.revision + 1)
    release(connection, occasion, action, definition)


def _too_late(row: AnyRow) -> Refused:
    text = f"the action {row.action_id!r} has ended or started already, or its node has it"
    return Refused("already_ended", text)


def _record(occasion: Occasion, row: AnyRow, answer: Answer) -> Approval:
    """What the definition is to carry from now on."""
    return Approval(
        state=answer.state,
        by=answer.by,
        at=occasion.now,
        reason=answer.reason,
        digest=row.digest,
    )


def _is_open(action: AnyRow, row: AnyRow) -> bool:
    """An edit is for what has not started; a first approval for what still waits for it."""
    if action.status != ExecutionStatus.NULL.value:
        return False
    return bool(row.is_edit or action.approval_state == ApprovalState.PENDING.value)


def _require_node(connection: Connection, row: AnyRow) -> None:
    query = select(agents.c.decommissioned_at).where(agents.c.id == row.agent_id)
    found = connection.execute(query).first()
    if found is None or found.decommissioned_at is not None:
        raise Refused(
            "decommissioned",
            f"the node {row.agent_id!r} was decommissioned; nothing is delivered to it any more",
        )


def _end_action(
    connection: Connection, occasion: Occasion, row: AnyRow, record: Approval
) -> Definition | None:
    """The action that only waited for this is over: it was never delivered, and never is."""
    if is_about_a_rule(connection, row):
        return refuse_rule(connection, row, record).definition
    action = action_of(connection, row, lock=True)
    if action is None or action.approval_state != ApprovalState.PENDING.value:
        return None
    stored = decode_definition(msgspec.json.decode(action.definition))
    ended = replace(stored, approval=record)
    connection.execute(
        update(actions)
        .where(actions.c.row == action.row)
        .values(
            definition=definition_text(ended),
            approval_state=record.state.value,
            ended_at=occasion.now,
        )
    )
    return ended


def _close(
    connection: Connection,
    occasion: Occasion,
    row: AnyRow,
    state: QuestionState,
    by: str,
    reason: str | None,
) -> None:
    connection.execute(
        update(approvals)
        .where(approvals.c.row == row.row)
        .values(state=state.value, decided_at=occasion.now, decided_by=by, reason=reason)
    )
    timers.disarm(connection, TimerKind.APPROVAL_EXPIRES, row.id)


def _tell(connection: Connection, occasion: Occasion, row: AnyRow, answer: Answer) -> None:
    body: dict[str, Any] = {
        "approval_id": row.id,
        "decided_by": answer.by,
        "why": answer.reason,
        "digest": row.digest,
        "is_edit": row.is_edit,
    }
    if answer.via is not None:
        body |= {"via": answer.via, "authority": answer.authority}
    kind = _EVENT[answer.state]
    journal.append(connection, occasion, row.agent_id, kind, row.action_id, body)
    detail = {**body, "node": row.agent_id or None}
    who = answer.authority
    audit.record(connection, occasion, who, _VERB[answer.state], row.action_id, detail)


def expire(connection: Connection, occasion: Occasion, refs: Sequence[str]) -> list[Topic]:
    """The handler of `TimerKind.APPROVAL_EXPIRES`: nobody answered in time."""
    questions = select(approvals.c.id, approvals.c.agent_id, approvals.c.action_id)
    found = connection.execute(questions.where(approvals.c.id.in_(refs))).all()
    serialize(connection, *(_lock_name(one.action_id) for one in found))
    lock_agents(connection, (one.agent_id for one in found if one.agent_id))
    topics: list[Topic] = []
    expired: list[AnyRow] = []
    for approval_id in sorted(one.id for one in found):
        row = find_approval(connection, approval_id, lock=True)
        if row.state != QuestionState.PENDING.value or row.expires_at is None:
            continue  # answered while the timer was on its way
        if row.expires_at > occasion.now:
            timers.arm(connection, TimerKind.APPROVAL_EXPIRES, row.id, row.expires_at)
            continue
        _expire_one(connection, occasion, row)
        expired.append(row)
        topics += _topics(row)
    for row in expired:
        detail = {"approval_id": row.id, "node": row.agent_id or None, "is_edit": row.is_edit}
        audit.record(connection, occasion, CORE.name, "approval_expired", row.action_id, detail)
    return topics


def _lock_name(action_id: str) -> str:
    """What whoever changes a recurring action queues for; it may have no one node to lock."""
    return f"action:{action_id}"


def _expire_one(connection: Connection, occasion: Occasion, row: AnyRow) -> None:
    reason = f"nobody decided by {format_instant(row.expires_at)}"
    if not row.is_edit:
        record = Approval(
            state=ApprovalState.EXPIRED,
            by=CORE.name,
            at=occasion.now,
            reason=reason,
            expires_at=row.expires_at,
            digest=row.digest,
        )
        _end_action(connection, occasion, row, record)
    _close(connection, occasion, row, QuestionState.EXPIRED, CORE.name, reason)
    body = {"approval_id": row.id, "why": reason, "is_edit": row.is_edit}
    journal.append(
        connection, occasion, row.agent_id, journal.APPROVAL_EXPIRED, row.action_id, body
    )


def _topics(row: AnyRow) -> list[Topic]:
    return [agent_topic(row.agent_id), action_topic(row.action_id), EVENTS]
