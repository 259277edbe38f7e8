"""From a rule and its durable state to planned instants: pure, one arithmetic for all readers.

`plan` is what the engine does now, `upcoming` what a forecast shows, `occurrences_between` what a
backfill makes. Every instant of the rule ends in exactly one plan: as a run, or counted in a
`Missed`. Of what is due only the newest, at most `LATE_S_MAX` late, is simply due (the daemon was
busy); everything else was missed, and `catch_up` decides. The watermark `last_nominal_at` only
rises, so a clock that is set back repeats nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from agent.domain.instants import format_instant
from agent.domain.schedule.catching_up import (
    RUNS_PER_PLAN_MAX,
    TICK,
    Cuts,
    Limits,
    decide,
    missed_between,
    walk,
)
from agent.domain.schedule.planned import LATE_S_MAX, Missed, Plan, Planned, State, Why
from agent.domain.schedule.rules import (
    CALENDAR_BEGIN,
    Interval,
    Once,
    Rule,
    ceil_second,
    rule_of,
    shifted,
)
from agent.domain.schedule.spec import CatchUpMode, CountFrom, Schedule

__all__ = [
    "LATE_S_MAX",
    "RUNS_PER_PLAN_MAX",
    "Missed",
    "Plan",
    "Planned",
    "State",
    "Why",
    "completed",
    "edited",
    "first_state",
    "following",
    "jitter_offset_s",
    "occurrence_id",
    "occurrences_between",
    "plan",
    "ran",
    "upcoming",
    "waits_for_end",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def first_state(schedule: Schedule, accepted_at: datetime, from_date: datetime | None) -> State:
    """The state of a rule that was just accepted."""
    return State(anchor_at=ceil_second(from_date or accepted_at))


def edited(
    old: Schedule, new: Schedule, state: State, now: datetime, from_date: datetime | None
) -> State:
    """The state of a rule that begins anew under another schedule; watermark and count stay.

    What counts from completion and waits for an end goes on waiting for it; else it begins now at
    the earliest, since behind the watermark its anchor would mean that something runs.
    """
    anchor = first_state(new, now, from_date).anchor_at
    if new.count_from is CountFrom.COMPLETION and state.last_nominal_at is not None:
        if old.count_from is CountFrom.COMPLETION and _waits_for_end(state):
            return state
        anchor = max(anchor, ceil_second(now), ceil_second(state.last_nominal_at))
    return replace(state, anchor_at=anchor)


def completed(schedule: Schedule, state: State, ended_at: datetime) -> State:
    """The state once the latest occurrence has ended, however: moves what completion counts from.

    A clock that was set back since the start does not stop the rule: the anchor never lies before
    the instant that has run.
    """
    if schedule.count_from is not CountFrom.COMPLETION:
        return state
    anchor = ceil_second(ended_at)
    if state.last_nominal_at is not None:
        anchor = max(anchor, ceil_second(state.last_nominal_at))
    return replace(state, anchor_at=anchor)


def ran(state: State, planned: Planned) -> State:
    """The state once this occurrence is planned: watermark and count."""
    return replace(state, last_nominal_at=planned.nominal_at, run_count=state.run_count + 1)


def plan(
    schedule: Schedule,
    state: State,
    now: datetime,
    *,
    zone: str,
    offset_s: float = 0.0,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    since: datetime | None = None,
) -> Plan:
    """What to do now. Commit the rows of `runs` and `missed` together with `after`.

    `zone` is the node's, for rules without one. `not_before` and `not_after` are the rule's
    `from_date` and `to_date`. Instants before `since` do not count (the rule was accepted or edited
    then); a single `date` before it is told as missed all the same.
    """
    limits = Limits.of(schedule, offset_s, not_after)
    if limits.used_up(state):
        return Plan(after=state, exhausted="max_runs")
    rule = _rule(schedule, state, zone, not_before)
    low = _low(schedule, state, rule, not_before, since)
    first = rule.at_or_after(low)
    if schedule.count_from is CountFrom.COMPLETION and isinstance(rule, Interval):
        return _plan_one(schedule, state, now, rule, limits, first)
    if first is None or first > now - limits.offset or not limits.allow(first):
        return _nothing_due(state, now, rule, limits, first)
    cuts = Cuts.of(schedule, rule, now, low, limits, not_after)
    runs, missed = decide(schedule, rule, cuts, limits, limits.room(state))
    last = runs[-1].nominal_at if runs and cuts.more(rule, runs) else rule.before(cuts.end)
    after = replace(state, last_nominal_at=last, run_count=state.run_count + len(runs))
    if limits.used_up(after):
        return Plan(runs=runs, missed=missed, after=after, exhausted="max_runs")
    coming = None if last is None else rule.at_or_after(last + TICK)
    rest = _nothing_due(after, now, rule, limits, coming)
    return replace(rest, runs=runs, missed=missed)


def upcoming(
    schedule: Schedule,
    state: State,
    after: datetime,
    until: datetime,
    *,
    zone: str,
    offset_s: float = 0.0,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    since: datetime | None = None,
) -> Iterator[Planned]:
    """What will start in (after, until], as far as the clock alone tells.

    Of an interval counted from completion that is the next one only, of `after` none.
    """
    limits = Limits.of(schedule, offset_s, not_after)
    rule = _rule(schedule, state, zone, not_before)
    low = _low(schedule, state, rule, not_before, since)
    low = max(low, shifted(after, TICK - limits.offset))
    left = None if schedule.max_runs is None else schedule.max_runs - state.run_count
    if schedule.count_from is CountFrom.COMPLETION and isinstance(rule, Interval):
        if _waits_for_end(state):
            return
        low, left = max(low, rule.first), 1 if left is None else min(left, 1)
    found = walk(rule, low, shifted(until, TICK - limits.offset))
    for nominal in found if left is None else islice(found, max(left, 0)):
        if not limits.allow(nominal):
            return
        planned = limits.planned(nominal)
        if planned.starts_at > after:
            yield planned


def occurrences_between(
    schedule: Schedule, anchor_at: datetime, begin: datetime, end: datetime, *, zone: str
) -> Iterator[datetime]:
    """The rule's instants in [begin, end), one by one, whatever has run and from whenever it is.

    For a backfill: the caller bounds how many it takes. An interval reaches back beyond its anchor.
    """
    rule = rule_of(schedule, anchor_at, zone=zone)
    yield from walk(
        replace(rule, both_ways=True) if isinstance(rule, Interval) else rule, begin, end
    )


def following(
    schedule: Schedule,
    state: State,
    ended_at: datetime,
    *,
    offset_s: float = 0.0,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Planned | None:
    """What the end of another action calls for (`after`), or None where the rule has ended."""
    limits = Limits.of(schedule, offset_s, not_after)
    nominal = shifted(ceil_second(ended_at), timedelta(seconds=schedule.delay_s or 0))
    if not_before is not None:
        nominal = max(nominal, ceil_second(not_before))
    if state.last_nominal_at is not None and nominal <= state.last_nominal_at:
        nominal = ceil_second(state.last_nominal_at + TICK)
    if limits.used_up(state) or not limits.allow(nominal):
        return None
    return limits.planned(nominal)


def jitter_offset_s(node: str, recurring_id: str, jitter_s: float | None) -> float:
    """The rule's own delay on this node: in [0, jitter_s), the same after every restart."""
    if not jitter_s:
        return 0.0
    digest = hashlib.sha256(f"{node}\0{recurring_id}".encode()).digest()
    share = int.from_bytes(digest[:6]) / 2**48
    return int(share * jitter_s * 1000) / 1000


def occurrence_id(recurring_id: str, nominal_at: datetime, backfill_no: int | None = None) -> str:
    """`<id>@2026-01-15T03:00:00Z`, for a backfill or a run by hand with `.b<n>` behind it."""
    behind = "" if backfill_no is None else f".b{backfill_no}"
    return f"{recurring_id}@{format_instant(nominal_at)}{behind}"


def _plan_one(
    schedule: Schedule,
    state: State,
    now: datetime,
    rule: Interval,
    limits: Limits,
    first: datetime | None,
) -> Plan:
    """An interval counted from completion: one at a time, and its end says when the next is."""
    if _waits_for_end(state):
        return Plan(after=state, exhausted=limits.ended_by if not limits.allow(now) else None)
    due = now - limits.offset
    if first is None or first > due or not limits.allow(first):
        return _nothing_due(state, now, rule, limits, first)
    end = due + TICK if limits.end is None else min(due + TICK, limits.end)
    latest = rule.before(end) or first
    cuts = Cuts.of(schedule, rule, now, first, limits, limits.not_after)
    runs_late = schedule.catch_up.mode is not CatchUpMode.SKIP and latest >= cuts.young
    if latest >= cuts.closed and (latest >= cuts.late or runs_late):
        run = limits.planned(latest, catch_up=latest < cuts.late)
        one = missed_between(
            rule,
            first,
            latest,
            Why.POLICY,
            f"counted from completion: one at a time, now {format_instant(latest)}",
        )
        # One interval behind, also where it began otherwise: so it is seen to wait for the end.
        after = replace(ran(state, run), anchor_at=latest - rule.step)
        ended = "max_runs" if limits.used_up(after) else None
        return Plan(runs=(run,), missed=(one,) if one else (), after=after, exhausted=ended)
    cause = Why.WINDOW if latest < cuts.closed else Why.AGE
    why = "its window had ended" if latest < cuts.closed else "too late for catch_up"
    if schedule.catch_up.mode is CatchUpMode.SKIP and cause is Why.AGE:
        cause, why = Why.POLICY, "catch_up is skip"
    missed = missed_between(rule, first, latest + TICK, cause, why)
    after = replace(state, anchor_at=latest, last_nominal_at=latest)
    rest = _nothing_due(after, now, rule, limits, latest + rule.step)
    return replace(rest, missed=(missed,) if missed else ())


def waits_for_end(schedule: Schedule, state: State) -> bool:
    """Whether the rule has no next instant before its latest occurrence has ended."""
    return schedule.count_from is CountFrom.COMPLETION and _waits_for_end(state)


def _waits_for_end(state: State) -> bool:
    """Whether what counts from completion has an occurrence that has not ended.

    Its anchor lies before the latest instant for just as long.
    """
    return state.last_nominal_at is not None and state.last_nominal_at > state.anchor_at


def _nothing_due(
    state: State, now: datetime, rule: Rule, limits: Limits, first: datetime | None
) -> Plan:
    if first is not None and limits.allow(first):
        return Plan(after=state, next=limits.planned(first))
    if first is not None:
        return Plan(after=state, exhausted=limits.ended_by)
    if isinstance(rule, Once) and rule.at is None:
        return Plan(after=state, exhausted=None if limits.allow(now) else limits.ended_by)
    return Plan(after=state, exhausted="once" if isinstance(rule, Once) else "never")


def _rule(schedule: Schedule, state: State, zone: str, not_before: datetime | None) -> Rule:
    """An interval starts with `from_date` itself where there is one, else one interval later.

    How it begins (`from_date`, `date`, `delay_s`) does not count where completion has moved it on.
    """
    at_anchor = not_before is not None and ceil_second(not_before) == state.anchor_at
    if schedule.count_from is CountFrom.COMPLETION and state.last_nominal_at is not None:
        at_anchor = at_anchor and state.anchor_at > state.last_nominal_at
        schedule = replace(
            schedule,
            date=schedule.date if _is_after(schedule.date, state.last_nominal_at) else None,
            delay_s=schedule.delay_s if at_anchor else None,
        )
    return rule_of(schedule, state.anchor_at, zone=zone, first_at_anchor=at_anchor)


def _is_after(date: datetime | None, moment: datetime) -> bool:
    return date is not None and date > moment


def _low(
    schedule: Schedule,
    state: State,
    rule: Rule,
    not_before: datetime | None,
    since: datetime | None,
) -> datetime:
    """The first moment whose instants count."""
    bounds = [CALENDAR_BEGIN if isinstance(rule, Once) else _EPOCH]
    if not_before is not None:
        bounds.append(not_before)
    if state.last_nominal_at is not None:
        bounds.append(shifted(state.last_nominal_at, TICK))
    if not isinstance(rule, Once):
        bounds.append(since if since is not None else not_before or state.anchor_at)
        if schedule.date is not None:
            bounds.append(schedule.date)
        if schedule.delay_s is not None and not isinstance(rule, Interval):
            bounds.append(shifted(state.anchor_at, timedelta(seconds=schedule.delay_s)))
    return max(bounds)
