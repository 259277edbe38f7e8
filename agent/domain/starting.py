"""Whether a due action may start now (DESIGN §3, "Queue"). Pure.

Locks are derived from what runs, never stored: a lock that nobody holds cannot leak.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.domain.action import Action, Outcome, Transition
from agent.domain.brake import Brake, find_brake
from agent.domain.definition import Definition
from agent.domain.instants import format_instant
from agent.domain.lane import HOLDS_MAX, Lane
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.oneshot import too_late
from agent.domain.schedule.planned import LATE_S_MAX


class Wait(StrEnum):
    """Why a due action does not start yet."""

    PAUSED = "paused"
    CLOCK_DOUBTFUL = "clock_doubtful"
    RUNNER_AWAY = "runner_away"
    NOT_DUE = "not_due"
    BRAKED = "braked"
    EXCLUSIVE_BUSY = "exclusive_busy"
    PARALLEL_FULL = "parallel_full"
    HOLDS_FULL = "holds_full"
    APP_BUSY = "app_busy"


FULL = {
    Lane.EXCLUSIVE: Wait.EXCLUSIVE_BUSY,
    Lane.PARALLEL: Wait.PARALLEL_FULL,
    Lane.HOLD: Wait.HOLDS_FULL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the queue must know of a running action."""

    lane: Lane
    app_names: tuple[str, ...] = ()


@dataclass(slots=True)
class Slots:
    """Free places, used up by `take` while one turn decides about several actions."""

    parallel_max: int
    exclusive_free: bool = True
    parallel_used: int = 0
    holds_used: int = 0
    apps: set[str] = field(default_factory=set)
    paused: bool = False
    runner_away: bool = False
    clock_doubtful: bool = False
    brakes: Sequence[Brake] = ()

    @classmethod
    def beside(
        cls,
        running: Iterable[Running],
        parallel_max: int,
        *,
        paused: bool = False,
        runner_away: bool = False,
        clock_doubtful: bool = False,
        brakes: Sequence[Brake] = (),
    ) -> Slots:
        """The places that are left beside what runs."""
        slots = cls(
            parallel_max=parallel_max,
            paused=paused,
            runner_away=runner_away,
            clock_doubtful=clock_doubtful,
            brakes=brakes,
        )
        for one in running:
            slots.take(one.lane, one.app_names)
        return slots

    def take(self, lane: Lane, app_names: Iterable[str]) -> None:
        """Occupy what one running action occupies."""
        match lane:
            case Lane.EXCLUSIVE:
                self.exclusive_free = False
            case Lane.PARALLEL:
                self.parallel_used += 1
            case Lane.HOLD:
                self.holds_used += 1
        self.apps.update(app_names)

    def free(self, lane: Lane) -> int:
        """How many more actions of this lane could start, brakes and app locks aside."""
        if self.held is not None:
            return 0
        match lane:
            case Lane.EXCLUSIVE:
                return int(self.exclusive_free)
            case Lane.PARALLEL:
                return max(0, self.parallel_max - self.parallel_used)
            case Lane.HOLD:
                return max(0, HOLDS_MAX - self.holds_used)

    @property
    def held(self) -> Wait | None:
        """Why nothing at all starts on this node now, or None."""
        if self.paused:
            return Wait.PAUSED
        if self.clock_doubtful:
            return Wait.CLOCK_DOUBTFUL
        return Wait.RUNNER_AWAY if self.runner_away else None

    def brake_on(self, definition: Definition) -> Brake | None:
        """The brake that holds such an action back, or None."""
        if not self.brakes:
            return None
        return find_brake(self.brakes, definition.kind, definition.labels)


def decide_start(action: Action, now: datetime, slots: Slots) -> Transition | Wait:
    """Start it, end it because it is too late or unwanted, or say what it waits for."""
    ended = decide_withdrawn(action, now) if slots.clock_doubtful else decide_unwanted(action, now)
    if ended is not None:
        return ended
    if action.due_at is None or action.due_at > now:
        return Wait.NOT_DUE
    held = obstacle(action, slots)
    if held is not None:
        return held
    late_s = (now - action.due_at).total_seconds()
    return Transition(
        to=ExecutionStatus.STARTED,
        reason=Reason.DUE,
        at=now,
        evidence={"late_s": round(late_s, 6), "revision": action.definition.revision}
        | _run_late(action),
    )


def _run_late(action: Action) -> dict[str, Any]:
    """What marks an occurrence that `catch_up` runs late: it was planned when its time was over."""
    made = action.definition
    if made.recurring_id is None or made.nominal_at is None or made.from_date is None:
        return {}
    nominal = format_instant(made.nominal_at)
    late_s = (action.accepted_at - made.from_date).total_seconds()
    if late_s <= LATE_S_MAX or made.id != f"{made.recurring_id}@{nominal}":  # else by hand
        return {}
    return {"run_late_by": "catch_up", "planned_for": nominal}


def obstacle(action: Action, slots: Slots) -> Wait | None:
    """What keeps a due action from starting, or None."""
    if slots.held is not None:
        return slots.held
    if slots.brake_on(action.definition) is not None:
        return Wait.BRAKED
    if not slots.free(action.lane):
        return FULL[action.lane]
    return Wait.APP_BUSY if slots.apps.intersection(action.locks) else None


def decide_unwanted(action: Action, now: datetime) -> Transition | None:
    """The end of a waiting action that may not start any more, or None."""
    withdrawn = decide_withdrawn(action, now)
    if withdrawn is not None:
        return withdrawn
    reason = too_late(action.definition, action.accepted_at, action.attempt, now)
    return None if reason is None else unstart(action, reason, now)


def decide_withdrawn(action: Action, now: datetime) -> Transition | None:
    """The end of a waiting action that nobody wants any more, whatever the clock says, or None."""
    if action.stop_cause == Reason.CANCELLED_ON_NODE.value:
        # Cancelled here while it was taken to run, and the run is known not to have happened.
        return unstart(action, Reason.CANCELLED_ON_NODE, now)
    if action.stop_cause == Reason.OVERLAP.value:
        return unstart(action, Reason.OVERLAP, now)  # a newer occurrence took its place
    if action.stop_cause is not None or not action.definition.should_be_executed:
        return unstart(action, Reason.WITHDRAWN, now)
    return None


def unstart(
    action: Action, reason: Reason, now: datetime, *, error: str | None = None
) -> Transition:
    """End a waiting action: WONT_START if it never started, else WONT_FINISH."""
    to = ExecutionStatus.WONT_FINISH if action.attempt else ExecutionStatus.WONT_START
    return Transition(to=to, reason=reason, at=now, outcome=Outcome(error=error))
