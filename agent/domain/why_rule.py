"""Why a recurring action stands where it stands, and what became of one of its instants. Pure.

One teller per word of `agent.domain.recurring.Ended`; a test fails if one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.domain.definition import Owner
from agent.domain.recurring import Ended, Recurring
from agent.domain.spans import between_text, instant_text


class Fate(StrEnum):
    """What is known of an instant that has no row of its own here."""

    TO_COME = "to_come"
    FOLDED = "folded"
    BEFORE = "before"
    SETTLED = "settled"
    OVERDUE = "overdue"
    AFTER_END = "after_end"
    NO_BACKFILL = "no_backfill"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """One instant of a rule that somebody asks about. `folded_into`: the row that counts it among
    the missed. `next_of_rule`: the rule's own next instant after it, None if there is none.
    """

    rule: Recurring
    nominal_at: datetime
    now: datetime
    belongs: bool
    """Whether the rule, as it is now, has this instant."""
    by_hand: bool = False
    folded_into: str | None = None
    next_of_rule: datetime | None = None


def tell_rule(rule: Recurring, now: datetime, *, down: bool = False) -> str:
    """Active, paused, over or parked, with the reason and the numbers. `down`: no daemon runs."""
    runs = f"{rule.state.run_count} run{'s'[: rule.state.run_count != 1]} so far"
    if rule.parked is not None:
        return f"It is put aside and nothing of it is planned: {rule.parked}."
    if rule.ended_at is not None:
        teller = _ENDED.get(rule.ended_reason or "")
        why = f"reason {rule.ended_reason}" if teller is None else teller(rule)
        return f"It is over since {instant_text(rule.ended_at)}: {why}; {runs}."
    if rule.held is not None:
        lift = " It must be resumed here and by its owner." if rule.paused_by == "both" else ""
        return f"It is paused ({rule.held}), and its instants are missed meanwhile; {runs}.{lift}"
    if rule.next_at is None:
        return f"{_waits_for(rule)}; {runs}."
    if rule.next_at <= now and down:
        due = f"An instant of it has been due since {instant_text(rule.next_at)}"
        return f"{due}, and agentd is down: its `catch_up` decides when it is back; {runs}."
    if rule.next_at <= now:
        return f"An instant of it is due and is planned in this moment; {runs}."
    nominal = rule.next_nominal_at or rule.next_at
    told = f"It starts next at {instant_text(rule.next_at)}, in {between_text(now, rule.next_at)}"
    if nominal < rule.next_at:
        told += f" (the instant {instant_text(nominal)}, and its jitter on this node)"
    return f"{told}; {runs}."


def fate_of(instant: Instant) -> Fate:
    """What became, or becomes, of it."""
    rule, nominal = instant.rule, instant.nominal_at
    if instant.by_hand:
        return Fate.NO_BACKFILL
    # Before the latest edit it may have been an instant all the same.
    if instant.folded_into is not None and (instant.belongs or nominal < rule.since_at):
        return Fate.FOLDED
    if not instant.belongs:
        return Fate.NEVER
    if rule.state.last_nominal_at is not None and nominal <= rule.state.last_nominal_at:
        return Fate.BEFORE if nominal < rule.accepted_at else Fate.SETTLED
    if nominal < rule.since_at:
        return Fate.BEFORE
    if rule.ended_at is not None:
        return Fate.AFTER_END
    return Fate.TO_COME if nominal > instant.now else Fate.OVERDUE


def tell_instant(instant: Instant) -> str:
    """The sentence about its fate."""
    return FATES[fate_of(instant)](instant)


def _to_come(instant: Instant) -> str:
    ahead = between_text(instant.now, instant.nominal_at)
    paused = instant.rule.held
    but = f" It is paused now ({paused})." if paused is not None else ""
    return f"{_named(instant)} is to come in {ahead}; its row is made when it is due.{but}"


def _folded(instant: Instant) -> str:
    return (
        f"{_named(instant)} was missed, and is counted with others in {instant.folded_into}: "
        "ask why of that one."
    )


def _before(instant: Instant) -> str:
    return (
        f"{_named(instant)} lies before {instant_text(instant.rule.since_at)}, from when on this "
        "revision of the rule counts; a backfill can run it."
    )


def _settled(instant: Instant) -> str:
    reached = instant_text(instant.rule.state.last_nominal_at or instant.nominal_at)
    return (
        f"{_named(instant)} was decided long ago (the rule has got to {reached}), and what became "
        "of it is not kept any more: its row was pruned, or a range of missed ones with it."
    )


def _overdue(instant: Instant) -> str:
    return f"{_named(instant)} is due and has not been planned yet; the next turn decides about it."


def _after_end(instant: Instant) -> str:
    at = instant.rule.ended_at or instant.now
    return f"{_named(instant)} will not run: the rule is over since {instant_text(at)}."


def _no_backfill(instant: Instant) -> str:
    return f"Nobody asked for such a run of {_named(instant)} here, or its row was pruned."


def _never(instant: Instant) -> str:
    following = instant.next_of_rule
    then = f"; the next one after it is {instant_text(following)}" if following else ""
    return f"{instant_text(instant.nominal_at)} is no instant of {instant.rule.id}{then}."


def _named(instant: Instant) -> str:
    return f"The instant {instant_text(instant.nominal_at)} of {instant.rule.id}"


def _waits_for(rule: Recurring) -> str:
    schedule = rule.definition.schedule
    if schedule is not None and schedule.after is not None:
        return f"It starts each time that {schedule.after} has finished"
    return "Its next instant is counted from the end of the run before, which has not ended"


def _withdrawn(rule: Recurring) -> str:
    by = "the core" if rule.definition.owner is Owner.CORE else "its owner on this node"
    return f"it was withdrawn by {by}"


def _once(rule: Recurring) -> str:
    if rule.state.run_count:
        return "its schedule has one instant only, and that is done"
    return "its schedule has one instant only, and that was missed or had passed when it came here"


def _ends_at(rule: Recurring) -> str:
    schedule = rule.definition.schedule
    at = schedule.ends_at if schedule else None
    return "no instant is left before its ends_at" + (f" {instant_text(at)}" if at else "")


def _to_date(rule: Recurring) -> str:
    at = rule.definition.to_date
    return "no instant is left before its to_date" + (f" {instant_text(at)}" if at else "")


def _max_runs(rule: Recurring) -> str:
    schedule = rule.definition.schedule
    return f"its max_runs of {schedule.max_runs if schedule else '?'} are used up"


_ENDED: Mapping[str, Callable[[Recurring], str]] = {
    Ended.ONCE: _once,
    Ended.ENDS_AT: _ends_at,
    Ended.TO_DATE: _to_date,
    Ended.MAX_RUNS: _max_runs,
    Ended.NEVER: lambda _: "its schedule has no instant any more",
    Ended.NOT_FINISHED: lambda _: "what it follows ended without having finished",
    Ended.WITHDRAWN: _withdrawn,
    Ended.CANCELLED_ON_NODE: lambda _: "it was cancelled on this node",
}
ENDINGS = frozenset(_ENDED)
FATES: Mapping[Fate, Callable[[Instant], str]] = {
    Fate.TO_COME: _to_come,
    Fate.FOLDED: _folded,
    Fate.BEFORE: _before,
    Fate.SETTLED: _settled,
    Fate.OVERDUE: _overdue,
    Fate.AFTER_END: _after_end,
    Fate.NO_BACKFILL: _no_backfill,
    Fate.NEVER: _never,
}
