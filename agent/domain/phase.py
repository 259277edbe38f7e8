"""The word that people see: derived from both halves of an action by one function (DESIGN §2)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from agent.domain.definition import ApprovalState, Definition
from agent.domain.lifecycle import ExecutionStatus, Reason


class Phase(StrEnum):
    """What an operator reads in a table."""

    PENDING_APPROVAL = "PENDING_APPROVAL"
    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    PAUSED = "PAUSED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    NOT_FINISHED = "NOT_FINISHED"
    NOT_STARTED = "NOT_STARTED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    LOST = "LOST"
    NODE_SILENT = "NODE_SILENT"


ENDED = frozenset(
    {
        Phase.DONE,
        Phase.FAILED,
        Phase.NOT_FINISHED,
        Phase.NOT_STARTED,
        Phase.CANCELLED,
        Phase.REJECTED,
        Phase.EXPIRED,
        Phase.LOST,
    }
)
"""Nothing more is to be expected, as far as anybody knows."""

_CANCELS = frozenset({Reason.WITHDRAWN.value, Reason.CANCELLED_ON_NODE.value})
_NOT_STARTED = {Reason.REJECTED.value: Phase.REJECTED, Reason.EXPIRED.value: Phase.EXPIRED}
_UNDELIVERED = {
    ApprovalState.PENDING: Phase.PENDING_APPROVAL,
    ApprovalState.REJECTED: Phase.REJECTED,
    ApprovalState.EXPIRED: Phase.EXPIRED,
}


def phase_of(
    definition: Definition,
    status: ExecutionStatus,
    reason: str | None,
    due_at: datetime | None,
    now: datetime,
    *,
    paused: bool = False,
) -> Phase:
    """The phase on a node; the core adds LOST and NODE_SILENT from what it knows besides."""
    match status:
        case ExecutionStatus.STARTED:
            return Phase.RUNNING
        case ExecutionStatus.FINISHED:
            return Phase.DONE
        case ExecutionStatus.FAILED:
            return Phase.FAILED
        case ExecutionStatus.WONT_FINISH:
            return Phase.CANCELLED if reason in _CANCELS else Phase.NOT_FINISHED
        case ExecutionStatus.WONT_START:
            if reason in _CANCELS:
                return Phase.CANCELLED
            return _NOT_STARTED.get(reason or "", Phase.NOT_STARTED)
    return _waiting(definition, due_at, now, paused)


def _waiting(definition: Definition, due_at: datetime | None, now: datetime, paused: bool) -> Phase:
    asked = None if definition.approval is None else _UNDELIVERED.get(definition.approval.state)
    withdrawn = not definition.should_be_executed
    if asked is not None and not (withdrawn and asked is Phase.PENDING_APPROVAL):
        return asked  # a question that was withdrawn is over: nobody will answer it
    if withdrawn:
        return Phase.CANCELLED
    if due_at is not None and due_at > now:
        return Phase.SCHEDULED
    return Phase.PAUSED if paused else Phase.QUEUED
