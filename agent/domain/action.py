"""The action: a definition and its execution, and the one function that changes the latter.

`apply` is the only way from one execution state to the next; it consults the lifecycle table and
returns a new value. Storing it, conditional on the old one, is `agent.node.ledger`'s work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from agent.domain.definition import Definition
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus, Move, Reason, check, is_final
from agent.domain.oneshot import first_due

ERROR_CHARS_MAX = 4096  # what was wrong may quote a whole payload; people read the beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One row of the node's truth.

    `attempt` is what people count; `start_no` names a run at the runner and also counts starts
    that are known never to have happened, so it is never used twice. `failures` are the attempts
    that count against `retry`. `due_at` is the next planned instant while the status is NULL.
    """

    row: int
    definition: Definition
    accepted_at: datetime
    lane: Lane = Lane.EXCLUSIVE
    execution_status: ExecutionStatus = ExecutionStatus.NULL
    reason: str | None = None
    attempt: int = 0
    start_no: int = 0
    failures: int = 0
    due_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    verdict: str | None = None
    output: Mapping[str, Any] | None = None
    stop_cause: str | None = None
    """Why it is to be stopped, once that is decided; the status changes when it has stopped."""
    started_revision: int | None = None
    missed: Mapping[str, Any] | None = None
    """Of a row that stands for missed instants: {first, last, count} (DESIGN §3)."""
    hold_restarts: int = 0
    """How often in a row a `hold` script ended early; sets the wait before the next start."""
    parked: str | None = None
    """Why this version cannot handle the stored row; it waits, visibly, for one that can."""
    alone: bool = False
    """Of an occurrence: it never runs beside another one of its recurring action."""

    @property
    def locks(self) -> tuple[str, ...]:
        """What may not be in use by anything that runs: the applications, and the own kin."""
        names = self.definition.app_names
        kin = kin_lock(self.definition) if self.alone else None
        return names if kin is None else (*names, kin)

    @property
    def is_final(self) -> bool:
        """Whether nothing about the execution will change any more."""
        return is_final(self.execution_status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known of how an attempt ended."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    output: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A decision to change execution status, with its evidence.

    `due_at` is the not-before instant of a return to NULL; `counts_as_failure` uses up a retry;
    `forgives` those before it; `hold_restarts` is the number of early ends in a row, this one
    included.
    """

    to: ExecutionStatus
    reason: Reason
    at: datetime
    due_at: datetime | None = None
    counts_as_failure: bool = False
    forgives: bool = False
    hold_restarts: int = 0
    outcome: Outcome = field(default_factory=Outcome)
    verdict: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


def kin_lock(definition: Definition) -> str | None:
    """The lock that the occurrences of one recurring action share."""
    return None if definition.recurring_id is None else f"@{definition.recurring_id}"


def apply(action: Action, transition: Transition) -> Action:
    """The action after the transition. Raises `IllegalTransition` and changes nothing otherwise."""
    check(action.execution_status, action.attempt, Move(transition.to, transition.reason))
    changes: dict[str, Any] = {
        "execution_status": transition.to,
        "reason": transition.reason.value,
        "failures": (0 if transition.forgives else action.failures) + transition.counts_as_failure,
        "verdict": transition.verdict or action.verdict,
    }
    if transition.to is ExecutionStatus.STARTED:
        changes |= _started(action, transition)
    else:
        changes |= _outcome(action, transition)
        if transition.to is ExecutionStatus.NULL:
            changes |= _waiting_again(action, transition, changes["started_at"])
        else:
            changes |= {"due_at": None, "ended_at": changes["ended_at"] or transition.at}
    return replace(action, **changes)  # once: copying is what a transition costs


def _started(action: Action, transition: Transition) -> dict[str, Any]:
    return {
        "attempt": action.attempt + 1,
        "start_no": action.start_no + 1,
        "started_at": transition.at,
        "started_revision": action.definition.revision,
        "due_at": None,
        "ended_at": None,
        "exit_code": None,
        "signal": None,
        "error": None,
        "output": None,
        "verdict": None,
    }


def _outcome(action: Action, transition: Transition) -> dict[str, Any]:
    outcome = transition.outcome
    return {
        "hold_restarts": transition.hold_restarts,
        "started_at": outcome.started_at or action.started_at,
        "ended_at": outcome.ended_at or action.ended_at,
        "exit_code": action.exit_code if outcome.exit_code is None else outcome.exit_code,
        "signal": action.signal if outcome.signal is None else outcome.signal,
        "error": _bounded(outcome.error) or action.error,
        "output": outcome.output or action.output,
    }


def _bounded(error: str | None) -> str | None:
    if error is None or len(error) <= ERROR_CHARS_MAX:
        return error
    return error[: ERROR_CHARS_MAX - 1] + "…"


def _waiting_again(
    action: Action, transition: Transition, started_at: datetime | None
) -> dict[str, Any]:
    """An attempt that never started is not counted; its start number stays spent."""
    uncounted = transition.reason is Reason.NEVER_STARTED
    due_at = transition.due_at or transition.at
    return {
        "attempt": action.attempt - uncounted,
        "started_at": None if uncounted else started_at,
        # While it ran its window may have been moved: it holds for the next attempt.
        "due_at": max(due_at, first_due(action.definition, action.accepted_at)),
    }
