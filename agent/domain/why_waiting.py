"""Why an action has not started yet, as one plain sentence: the wait word, and who or what. Pure.

One teller per `Wait`; a test fails if one is missing. The words themselves are decided in
`agent.domain.starting`, by the same function that the engine asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.domain.action import Action
from agent.domain.brake import Brake
from agent.domain.definition import ApprovalState
from agent.domain.spans import between_text, instant_text

PENDING_APPROVAL = "pending_approval"
PARKED = "parked"
DOWN = "daemon_down"
STORE_FAILING = "store_failing"
ABOUT_TO_START = "about_to_start"
ABOUT_TO_END = "about_to_end"
HOLDERS_TOLD_MAX = 5  # of a full parallel lane there may be a hundred; five say enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A running action that has what another one waits for."""

    id: str
    kind: str
    since: datetime | None
    locks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the node stands around a waiting action. What is not known is None or empty."""

    now: datetime
    paused_since: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    runner_problem: str | None = None
    store_problem: str | None = None
    clock_problem: str | None = None
    parallel_max: int = 0
    exclusive: tuple[Holder, ...] = ()
    parallel: tuple[Holder, ...] = ()
    holds: tuple[Holder, ...] = ()
    same_app: tuple[Holder, ...] = ()
    """Those that share a lock with it: an application, or the place of its recurring action."""
    brake: Brake | None = None
    ahead: int = 0
    """How many of its lane fall due before it and have not started either."""


Teller = Callable[[Action, Standing], str]


def tell_waiting(wait: str, action: Action, standing: Standing) -> str:
    """Why it has not started, in one sentence; an unknown word is told as it came."""
    teller = TELLERS.get(wait)
    told = f"It waits ({wait})" if teller is None else teller(action, standing)
    if wait not in _NO_DUE and action.due_at is not None and action.due_at <= standing.now:
        told += f"; it has been due for {between_text(action.due_at, standing.now)}"
    return f"{told}{_limit(action, standing)}."


def holders_of(wait: str, standing: Standing) -> tuple[Holder, ...]:
    """Who has what it waits for."""
    return {
        "exclusive_busy": standing.exclusive,
        "parallel_full": standing.parallel,
        "holds_full": standing.holds,
        "app_busy": standing.same_app,
    }.get(wait, ())


def _limit(action: Action, standing: Standing) -> str:
    """Until when it may still start."""
    to_date = action.definition.to_date
    if to_date is None or to_date <= standing.now:
        return ""
    return f"; its window closes at {instant_text(to_date)}"


def _not_due(action: Action, standing: Standing) -> str:
    if action.due_at is None:
        return "It has no due time"
    ahead = between_text(standing.now, action.due_at)
    return f"It is not due before {instant_text(action.due_at)}, in {ahead}"


def _paused(_action: Action, standing: Standing) -> str:
    since = f" since {instant_text(standing.paused_since)}" if standing.paused_since else ""
    by = f" by {standing.paused_by}" if standing.paused_by else ""
    why = f" ({standing.pause_reason})" if standing.pause_reason else ""
    return f"This node is paused{since}{by}{why}; `agentctl resume` lets it start"


def _runner_away(_action: Action, standing: Standing) -> str:
    why = f": {standing.runner_problem}" if standing.runner_problem else ""
    return f"The runner cannot be reached, and nothing starts without it{why}"


def _exclusive_busy(_action: Action, standing: Standing) -> str:
    ahead = f", and {standing.ahead} more are due before it" if standing.ahead else ""
    return f"Its place, the exclusive one, is taken by {_named(standing.exclusive)}{ahead}"


def _parallel_full(_action: Action, standing: Standing) -> str:
    return (
        f"All {standing.parallel_max} parallel places (max_parallel) are taken, by "
        f"{_named(standing.parallel)}"
    )


def _holds_full(_action: Action, standing: Standing) -> str:
    return f"As many holds run as may at once: {_named(standing.holds)}"


def _app_busy(action: Action, standing: Standing) -> str:
    theirs = {lock for holder in standing.same_app for lock in holder.locks}
    shared = sorted(theirs.intersection(action.definition.app_names))
    if shared:
        return f"The application {', '.join(shared)} is in use by {_named(standing.same_app)}"
    rule = action.definition.recurring_id
    if rule is not None and standing.same_app:
        return f"An occurrence of {rule} still runs, {_named(standing.same_app)}"
    return f"An application of its own is in use by {_named(standing.same_app)}"


def _braked(action: Action, standing: Standing) -> str:
    brake = standing.brake
    if brake is None:
        return f"A brake holds kind {action.definition.kind} on this node"
    until = f"until {instant_text(brake.expires_at)}" if brake.expires_at else "until it is lifted"
    why = f": {brake.reason}" if brake.reason else ""
    return f"Brake {brake.id} by {brake.by} holds {brake.what} {until}{why}"


def _clock_doubtful(_action: Action, standing: Standing) -> str:
    why = f": {standing.clock_problem}" if standing.clock_problem else ""
    return f"The wall clock is doubtful, and nothing starts by it until it is confirmed{why}"


def _pending_approval(action: Action, _standing: Standing) -> str:
    approval = action.definition.approval
    until = approval.expires_at if approval else None
    limit = f", by {instant_text(until)}" if until else ""
    return f"It waits for somebody's approval{limit}"


def _parked(action: Action, _standing: Standing) -> str:
    return f"It is put aside and does not start: {action.parked}"


def _down(_action: Action, _standing: Standing) -> str:
    return "agentd is down, and nothing starts before it runs again"


def _store_failing(_action: Action, standing: Standing) -> str:
    why = f": {standing.store_problem}" if standing.store_problem else ""
    return f"The database cannot be written, so nothing starts{why}"


def _about_to_start(_action: Action, _standing: Standing) -> str:
    return "It is due and its place is free: it starts in this moment"


def _about_to_end(_action: Action, _standing: Standing) -> str:
    return "It may not start any more, and is ended in this moment"


def _named(holders: tuple[Holder, ...]) -> str:
    if not holders:
        return "one that has just ended"
    told = [
        f"{one.id} ({one.kind}{f', since {instant_text(one.since)}' if one.since else ''})"
        for one in holders[:HOLDERS_TOLD_MAX]
    ]
    rest = len(holders) - HOLDERS_TOLD_MAX
    return ", ".join(told) + (f" and {rest} more" if rest > 0 else "")


_NO_DUE = frozenset({"not_due", PARKED, ABOUT_TO_START, ABOUT_TO_END})
TELLERS: Mapping[str, Teller] = {
    "not_due": _not_due,
    "paused": _paused,
    "runner_away": _runner_away,
    "exclusive_busy": _exclusive_busy,
    "parallel_full": _parallel_full,
    "holds_full": _holds_full,
    "app_busy": _app_busy,
    "braked": _braked,
    "clock_doubtful": _clock_doubtful,
    PENDING_APPROVAL: _pending_approval,
    PARKED: _parked,
    DOWN: _down,
    STORE_FAILING: _store_failing,
    ABOUT_TO_START: _about_to_start,
    ABOUT_TO_END: _about_to_end,
}


def standing_wait(action: Action) -> str | None:
    """What holds an action whatever the queue says, or None."""
    if action.parked is not None:
        return PARKED
    approval = action.definition.approval
    if approval is not None and approval.state is ApprovalState.PENDING:
        return PENDING_APPROVAL
    return None
