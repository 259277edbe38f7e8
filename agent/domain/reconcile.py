"""A definition that arrives, against what the node has: what changes. Pure (seed 002, step 2).

The rulings of DESIGN §3: only an explicit `should_be_executed: false` withdraws; a pull never
touches execution status; only a higher revision counts; while STARTED only `to_date` and
`should_be_executed` act.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from agent.domain.action import Action, Transition
from agent.domain.definition import LOST, Definition, Owner
from agent.domain.errors import Fault
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.oneshot import first_due
from agent.domain.starting import unstart


class Verdict(StrEnum):
    """What happened to the definition."""

    INSERTED = "inserted"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    TOO_LATE = "too_late"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The decision about one definition.

    `definition` is what to store (None: keep what is there), `due_at` its new due time, `ends` a
    transition to apply in the same transaction, `stop_cause` a stop to ask the runner for.
    """

    verdict: Verdict
    definition: Definition | None = None
    due_at: datetime | None = None
    ends: Transition | None = None
    stop_cause: str | None = None
    faults: tuple[Fault, ...] = ()


def decide_definition(current: Action | None, incoming: Definition, now: datetime) -> Change:
    """What a definition from the core does to this node."""
    if current is None:
        return Change(
            verdict=Verdict.INSERTED, definition=incoming, due_at=first_due(incoming, now)
        )
    lost = LOST in current.definition.requires  # whose it was went with the database
    if current.definition.owner is not incoming.owner and not lost:
        return Change(verdict=Verdict.REFUSED, faults=(id_conflict(current.definition, incoming),))
    if incoming.revision <= current.definition.revision - (current.parked is not None):
        return Change(verdict=Verdict.UNCHANGED)  # of a parked one, the same revision is readable
    if current.is_final:
        return Change(verdict=Verdict.TOO_LATE, definition=incoming)
    if current.execution_status is ExecutionStatus.STARTED:
        return _while_started(current, incoming)
    return _while_waiting(current, incoming, now)


def _while_started(current: Action, incoming: Definition) -> Change:
    """The definition is kept whole for the next attempt; only two fields act on this one."""
    stop = None if incoming.should_be_executed else Reason.WITHDRAWN.value
    return Change(
        verdict=Verdict.UPDATED, definition=incoming, stop_cause=current.stop_cause or stop
    )


def _while_waiting(current: Action, incoming: Definition, now: datetime) -> Change:
    due_at = first_due(incoming, current.accepted_at)
    if current.attempt and current.due_at is not None:
        due_at = max(due_at, current.due_at)  # an edit does not shorten a retry's delay
    updated = replace(current, definition=incoming, due_at=due_at)
    ends = None if incoming.should_be_executed else unstart(updated, Reason.WITHDRAWN, now)
    return Change(verdict=Verdict.UPDATED, definition=incoming, due_at=due_at, ends=ends)


def id_conflict(current: Definition, incoming: Definition) -> Fault:
    """The id belongs to the other owner, or to the other sort of thing."""
    if (current.schedule is None) != (incoming.schedule is None):
        sort = "an action" if current.schedule is None else "a recurring action"
        return Fault(
            "id",
            f"id_conflict: {incoming.id!r} is {sort} here, and cannot become the other sort; "
            "nothing was changed. Use another id.",
        )
    mine = "this node" if current.owner is Owner.NODE else "the core"
    return Fault(
        "id",
        f"id_conflict: {incoming.id!r} already belongs to {mine}; nothing was changed. "
        "Use another id.",
    )
