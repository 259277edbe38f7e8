"""The law of execution status: every transition that exists, and the reasons it may carry.

Seed 002 as settled in DESIGN §3. What is not in `TABLE` does not happen: `check` raises and
nothing changes. Final statuses have no row, so they absorb everything.

`NULL` is split by attempt, because an action that never started and one that waits for
another attempt end under different names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.domain.errors import IllegalTransition


class ExecutionStatus(StrEnum):
    """The node's word on an action. `"NULL"` is a string, as in the seed."""

    NULL = "NULL"
    STARTED = "STARTED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    WONT_START = "WONT_START"
    WONT_FINISH = "WONT_FINISH"


class Reason(StrEnum):
    """Why a transition happened. Each is one line of `docs/glossary.md`."""

    DUE = "due"
    WITHDRAWN = "withdrawn"
    REJECTED = "rejected"
    CANCELLED_ON_NODE = "cancelled_on_node"
    WINDOW_PASSED = "window_passed"
    MISSED = "missed"
    OVERLAP = "overlap"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    UNKNOWN_KIND = "unknown_kind"
    BAD_PAYLOAD = "bad_payload"
    DRY_RUN_UNSUPPORTED = "dry_run_unsupported"
    EXIT_ZERO = "exit_zero"
    EXIT_NONZERO = "exit_nonzero"
    SIGNALLED = "signalled"
    TIMEOUT = "timeout"
    SPAWN_FAILED = "spawn_failed"
    INTERRUPTED = "interrupted"
    WINDOW_CLOSED = "window_closed"
    RETRY_ABANDONED = "retry_abandoned"
    RERUN = "rerun"
    RETRY = "retry"
    HOLD_RESTART = "hold_restart"
    NEVER_STARTED = "never_started"


class State(StrEnum):
    """The rows of the table: execution status, with NULL split by whether anything ever started."""

    FRESH = "NULL, attempt 0"
    WAITING_AGAIN = "NULL, attempt ≥ 1"
    STARTED = "STARTED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    WONT_START = "WONT_START"
    WONT_FINISH = "WONT_FINISH"


FINAL = frozenset(
    {
        ExecutionStatus.FINISHED,
        ExecutionStatus.FAILED,
        ExecutionStatus.WONT_START,
        ExecutionStatus.WONT_FINISH,
    }
)

_S, _R = ExecutionStatus, Reason

TABLE: Mapping[tuple[State, ExecutionStatus], frozenset[Reason]] = {
    (State.FRESH, _S.STARTED): frozenset({_R.DUE}),
    (State.WAITING_AGAIN, _S.STARTED): frozenset({_R.DUE}),
    (State.FRESH, _S.WONT_START): frozenset(
        {
            _R.WITHDRAWN,
            _R.REJECTED,
            _R.CANCELLED_ON_NODE,
            _R.WINDOW_PASSED,
            _R.MISSED,
            _R.OVERLAP,
            _R.EXPIRED,
            _R.SUPERSEDED,
            _R.UNKNOWN_KIND,
            _R.BAD_PAYLOAD,
            _R.DRY_RUN_UNSUPPORTED,
        }
    ),
    (State.WAITING_AGAIN, _S.WONT_FINISH): frozenset(
        {_R.WITHDRAWN, _R.CANCELLED_ON_NODE, _R.WINDOW_CLOSED, _R.OVERLAP}
    ),
    (State.WAITING_AGAIN, _S.FAILED): frozenset({_R.RETRY_ABANDONED}),
    (State.STARTED, _S.FINISHED): frozenset({_R.EXIT_ZERO, _R.WINDOW_CLOSED}),
    (State.STARTED, _S.FAILED): frozenset(
        {
            _R.EXIT_NONZERO,
            _R.SIGNALLED,
            _R.TIMEOUT,
            _R.SPAWN_FAILED,
            _R.UNKNOWN_KIND,
            _R.DRY_RUN_UNSUPPORTED,
            _R.INTERRUPTED,
        }
    ),
    (State.STARTED, _S.WONT_FINISH): frozenset(
        {_R.WITHDRAWN, _R.CANCELLED_ON_NODE, _R.WINDOW_CLOSED, _R.OVERLAP}
    ),
    (State.STARTED, _S.NULL): frozenset({_R.RERUN, _R.RETRY, _R.HOLD_RESTART, _R.NEVER_STARTED}),
}


@dataclass(frozen=True, slots=True)
class Move:
    """One edge of the table, as a decision: where to and why."""

    to: ExecutionStatus
    reason: Reason


def state_of(status: ExecutionStatus, attempt: int) -> State:
    """The table row that an action with this status and attempt count is in."""
    if status is ExecutionStatus.NULL:
        return State.WAITING_AGAIN if attempt else State.FRESH
    return State(status.value)


def check(status: ExecutionStatus, attempt: int, move: Move) -> None:
    """Raise `IllegalTransition` unless the table has this move. Changes nothing."""
    state = state_of(status, attempt)
    allowed = TABLE.get((state, move.to))
    if allowed is None:
        raise IllegalTransition(f"there is no way from {state.value} to {move.to.value}")
    if move.reason not in allowed:
        raise IllegalTransition(
            f"{state.value} → {move.to.value} cannot happen because of {move.reason.value}; "
            f"possible reasons: {', '.join(sorted(allowed))}"
        )


def is_final(status: ExecutionStatus) -> bool:
    """Whether the status can never change again."""
    return status in FINAL
