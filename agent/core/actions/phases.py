"""The phase at the core: the domain's function, with LOST and NODE_SILENT; in Python and as SQL.

The SQL twin exists so that a list can be filtered without reading every row; a test holds the two
together over every combination of what they look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, literal

from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents
from agent.domain.definition import Approval, ApprovalState, Definition
from agent.domain.lifecycle import ExecutionStatus, Reason, is_final
from agent.domain.phase import Phase, phase_of

_S = ExecutionStatus
_ASKED = ApprovalState
_CANCELS = [Reason.WITHDRAWN.value, Reason.CANCELLED_ON_NODE.value]
_OPEN = [_S.NULL.value, _S.STARTED.value]
STATUSES_OF: Mapping[Phase, tuple[ExecutionStatus, ...]] = {
    Phase.PENDING_APPROVAL: (_S.NULL,),
    Phase.SCHEDULED: (_S.NULL,),
    Phase.QUEUED: (_S.NULL,),
    Phase.RUNNING: (_S.STARTED,),
    Phase.DONE: (_S.FINISHED,),
    Phase.FAILED: (_S.FAILED,),
    Phase.NOT_FINISHED: (_S.WONT_FINISH,),
    Phase.NOT_STARTED: (_S.WONT_START, _S.NULL),
    Phase.CANCELLED: (_S.WONT_START, _S.WONT_FINISH, _S.NULL),
    Phase.REJECTED: (_S.WONT_START, _S.NULL),
    Phase.EXPIRED: (_S.WONT_START, _S.NULL),
    Phase.LOST: (_S.NULL, _S.STARTED),
    Phase.NODE_SILENT: (_S.NULL, _S.STARTED),
}
"""Where each phase can be found, for the index; phases that do not happen here are absent."""
_EXPECTED_OF_NODE = (Phase.SCHEDULED, Phase.QUEUED, Phase.RUNNING)
"""What only the node can bring on: while nothing is heard of it, nobody knows."""


def phase_at_core(row: AnyRow, now: datetime) -> Phase:
    """The phase of a row of `actions` with `silent_at` of its agent."""
    status = ExecutionStatus(row.status)
    if not is_final(status):
        if row.lost_at is not None:
            return Phase.LOST
        if was_never_taken(row):
            return Phase.NOT_STARTED  # nothing there will ever start
    asked = None if row.approval_state is None else Approval(state=_ASKED(row.approval_state))
    definition = Definition(id=row.id, kind=row.kind, should_be_executed=row.wanted, approval=asked)
    phase = phase_of(definition, status, row.reason, row.from_date, now)
    return Phase.NODE_SILENT if row.silent_at and phase in _EXPECTED_OF_NODE else phase


def was_never_taken(row: AnyRow) -> bool:
    """Whether its node refused it, and had no revision of it before."""
    null = row.status == _S.NULL.value
    return null and row.refused is not None and row.revision_applied is None


def phase_is(phase: Phase, now: datetime) -> ColumnElement[bool]:
    """The condition for rows of one phase, in a query that joins `agents`."""
    statuses = [status.value for status in STATUSES_OF.get(phase, ())]
    if phase is Phase.PENDING_APPROVAL:  # few, and an index leads to them
        waiting = actions.c.approval_state == _ASKED.PENDING.value
        return and_(waiting, actions.c.status.in_(statuses), _phase_expression(now) == phase.value)
    return and_(actions.c.status.in_(statuses), _phase_expression(now) == phase.value)


def _phase_expression(now: datetime) -> ColumnElement[Any]:
    a = actions.c
    null = a.status == _S.NULL.value
    return case(
        (and_(a.status.in_(_OPEN), a.lost_at.is_not(None)), literal(Phase.LOST.value)),
        (
            and_(null, a.refused.is_not(None), a.revision_applied.is_(None)),
            literal(Phase.NOT_STARTED.value),
        ),
        (
            and_(a.status == _S.STARTED.value, agents.c.silent_at.is_not(None)),
            literal(Phase.NODE_SILENT.value),
        ),
        (a.status == _S.STARTED.value, literal(Phase.RUNNING.value)),
        (a.status == _S.FINISHED.value, literal(Phase.DONE.value)),
        (a.status == _S.FAILED.value, literal(Phase.FAILED.value)),
        (and_(a.status.not_in(_OPEN), a.reason.in_(_CANCELS)), literal(Phase.CANCELLED.value)),
        (a.status == _S.WONT_FINISH.value, literal(Phase.NOT_FINISHED.value)),
        (
            and_(a.status == _S.WONT_START.value, a.reason == Reason.REJECTED.value),
            literal(Phase.REJECTED.value),
        ),
        (
            and_(a.status == _S.WONT_START.value, a.reason == Reason.EXPIRED.value),
            literal(Phase.EXPIRED.value),
        ),
        (a.status == _S.WONT_START.value, literal(Phase.NOT_STARTED.value)),
        (a.approval_state == _ASKED.REJECTED.value, literal(Phase.REJECTED.value)),
        (a.approval_state == _ASKED.EXPIRED.value, literal(Phase.EXPIRED.value)),
        (a.wanted.is_(False), literal(Phase.CANCELLED.value)),
        (a.approval_state == _ASKED.PENDING.value, literal(Phase.PENDING_APPROVAL.value)),
        (agents.c.silent_at.is_not(None), literal(Phase.NODE_SILENT.value)),
        (a.from_date > now, literal(Phase.SCHEDULED.value)),
        else_=literal(Phase.QUEUED.value),
    )
