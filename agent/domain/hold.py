"""A `hold` script that ended well before its window did: start it again, or call it done. Pure.

It should run for the whole window, so exit 0 is no end (DESIGN §3, "Modes"): it is started again
after 5 s, doubling to 5 min while it keeps ending early, and that uses up no retry. Where the
window closes before the next start would come, nothing more is to be done, and it has FINISHED.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.domain.lifecycle import ExecutionStatus, Reason

RESTART_S_FIRST = 5.0
RESTART_S_MAX = 300.0
STEADY_S = 300.0  # after having run for so long the wait is short again, and failures are forgiven


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterExit:
    """What follows an early exit 0; `due_at` and `restarts` where it is started again."""

    to: ExecutionStatus
    reason: Reason
    due_at: datetime | None = None
    restarts: int = 0


def restart_delay_s(restarts: int) -> float:
    """Seconds before the next start, after so many restarts in a row.

    >>> [restart_delay_s(restarts) for restarts in (0, 1, 5, 6, 99)]
    [5.0, 10.0, 160.0, 300.0, 300.0]
    """
    return min(RESTART_S_FIRST * 2.0 ** min(restarts, 16), RESTART_S_MAX)


def is_steady(ran_s: float | None) -> bool:
    """Whether a run of that length (None: nobody knows) forgives the early ends before it."""
    return ran_s is not None and ran_s >= STEADY_S


def after_exit(
    restarts: int, ran_s: float | None, now: datetime, to_date: datetime | None
) -> AfterExit:
    """`restarts` in a row so far; `ran_s` how long it ran this time, None where nobody knows."""
    before = 0 if is_steady(ran_s) else restarts
    due_at = now + timedelta(seconds=restart_delay_s(before))
    if to_date is not None and due_at >= to_date:
        return AfterExit(to=ExecutionStatus.FINISHED, reason=Reason.WINDOW_CLOSED)
    return AfterExit(
        to=ExecutionStatus.NULL, reason=Reason.HOLD_RESTART, due_at=due_at, restarts=before + 1
    )
