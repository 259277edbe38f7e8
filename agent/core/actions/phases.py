"""The phase at the core: the domain's function, and LOST beside it; once in Python, once as SQL.

The SQL twin exists so that a list can be filtered without reading every row; a test holds the two
together over every combination of what they look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, literal

from agent.core.store.port import AnyRow
from agent.core.store.schema import actions
from agent.domain.definition import Definition
from agent.domain.lifecycle import ExecutionStatus, Reason, is_final
from agent.domain.phase import Phase, phase_of

_S = ExecutionStatus
_CANCELS = [Reason.WITHDRAWN.value, Reason.CANCELLED_ON_NODE.value]
_OPEN = [_S.NULL.value, _S.STARTED.value]
STATUSES_OF: Mapping[Phase, tuple[ExecutionStatus, ...]] = {
    Phase.SCHEDULED: (_S.NULL,),
    Phase.QUEUED: (_S.NULL,),
    Phase.RUNNING: (_S.STARTED,),
    Phase.DONE: (_S.FINISHED,),
    Phase.FAILED: (_S.FAILED,),
    Phase.NOT_FINISHED: (_S.WONT_FINISH,),
    Phase.NOT_STARTED: (_S.WONT_START, _S.NULL),
    Phase.CANCELLED: (_S.WONT_START, _S.WONT_FINISH, _S.NULL),
    Phase.REJECTED: (_S.WONT_START,),
    Phase.EXPIRED: (_S.WONT_START,),
    Phase.LOST: (_S.NULL, _S.STARTED),
}
"""Where each phase can be found, for the index; phases that do not happen here yet are absent."""


def phase_at_core(row: AnyRow, now: datetime) -> Phase:
    """The phase of a row of `actions`."""
    status = ExecutionStatus(row.status)
    if not is_final(status):
        if row.lost_at is not None:
            return Phase.LOST
        if status is _S.NULL and row.refused is not None and row.revision_applied is None:
            return Phase.NOT_STARTED  # the node never took it: nothing there will ever start
    definition = Definition(id=row.id, kind=row.kind, should_be_executed=row.wanted)
    return phase_of(definition, status, row.reason, row.from_date, now)


def phase_is(phase: Phase, now: datetime) -> ColumnElement[bool]:
    """The condition for rows of one phase."""
    statuses = [status.value for status in STATUSES_OF.get(phase, ())]
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
        (a.wanted.is_(False), literal(Phase.CANCELLED.value)),
        (a.from_date > now, literal(Phase.SCHEDULED.value)),
        else_=literal(Phase.QUEUED.value),
    )
