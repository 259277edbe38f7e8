"""Whether a due action may start now (DESIGN §3, "Queue"). Pure.

Locks are derived from what runs, never stored: a lock that nobody holds cannot leak.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from agent.domain.action import Action, Outcome, Transition
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.oneshot import too_late


class Wait(StrEnum):
    """Why a due action does not start yet."""

    PAUSED = "paused"
    RUNNER_AWAY = "runner_away"
    NOT_DUE = "not_due"
    EXCLUSIVE_BUSY = "exclusive_busy"
    PARALLEL_FULL = "parallel_full"
    APP_BUSY = "app_busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the queue must know of a running action."""

    parallel: bool
    app_names: tuple[str, ...] = ()


@dataclass(slots=True)
class Slots:
    """Free places, used up by `take` while one turn decides about several actions."""

    parallel_max: int
    exclusive_free: bool = True
    parallel_used: int = 0
    apps: set[str] = field(default_factory=set)
    paused: bool = False
    runner_away: bool = False

    @classmethod
    def beside(
        cls,
        running: Iterable[Running],
        parallel_max: int,
        *,
        paused: bool = False,
        runner_away: bool = False,
    ) -> Slots:
        """The places that are left beside what runs."""
        slots = cls(parallel_max=parallel_max, paused=paused, runner_away=runner_away)
        for one in running:
            slots.take(one.parallel, one.app_names)
        return slots

    def take(self, parallel: bool, app_names: Iterable[str]) -> None:
        """Occupy what one running action occupies."""
        if parallel:
            self.parallel_used += 1
        else:
            self.exclusive_free = False
        self.apps.update(app_names)

    def lane_free(self, parallel: bool) -> bool:
        """Whether another action of this lane could start, app locks aside."""
        if self.paused or self.runner_away:
            return False
        return self.parallel_used < self.parallel_max if parallel else self.exclusive_free


def decide_start(action: Action, now: datetime, slots: Slots) -> Transition | Wait:
    """Start it, end it because it is too late or unwanted, or say what it waits for."""
    ended = decide_unwanted(action, now)
    if ended is not None:
        return ended
    if action.due_at is None or action.due_at > now:
        return Wait.NOT_DUE
    if slots.paused:
        return Wait.PAUSED
    if slots.runner_away:
        return Wait.RUNNER_AWAY
    if not slots.lane_free(action.parallel):
        return Wait.PARALLEL_FULL if action.parallel else Wait.EXCLUSIVE_BUSY
    if slots.apps.intersection(action.definition.app_names):
        return Wait.APP_BUSY
    late_s = (now - action.due_at).total_seconds()
    return Transition(
        to=ExecutionStatus.STARTED,
        reason=Reason.DUE,
        at=now,
        evidence={"late_s": round(late_s, 6), "revision": action.definition.revision},
    )


def decide_unwanted(action: Action, now: datetime) -> Transition | None:
    """The end of a waiting action that may not start any more, or None."""
    definition = action.definition
    if action.stop_cause == Reason.CANCELLED_ON_NODE.value:
        # Cancelled here while it was taken to run, and the run is known not to have happened.
        return unstart(action, Reason.CANCELLED_ON_NODE, now)
    if action.stop_cause is not None or not definition.should_be_executed:
        return unstart(action, Reason.WITHDRAWN, now)
    reason = too_late(definition, action.accepted_at, action.attempt, now)
    return None if reason is None else unstart(action, reason, now)


def unstart(
    action: Action, reason: Reason, now: datetime, *, error: str | None = None
) -> Transition:
    """End a waiting action: WONT_START if it never started, else WONT_FINISH."""
    to = ExecutionStatus.WONT_FINISH if action.attempt else ExecutionStatus.WONT_START
    return Transition(to=to, reason=reason, at=now, outcome=Outcome(error=error))
