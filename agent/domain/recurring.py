"""The recurring action: a definition with a schedule, and what a node keeps of it. Pure.

It never runs itself; its occurrences do (docs/decisions/0011). Everything here is a value or
decides one: storing it, with the occurrences in the same transaction, is `agent.node`'s work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from agent.domain.definition import Definition, Owner
from agent.domain.errors import Fault
from agent.domain.instants import format_instant, maybe_format
from agent.domain.reconcile import Verdict, id_conflict
from agent.domain.schedule.recurrence import (
    Missed,
    Plan,
    Planned,
    State,
    completed,
    edited,
    first_state,
    jitter_offset_s,
    occurrence_id,
    plan,
    waits_for_end,
)
from agent.domain.schedule.spec import CatchUp, CatchUpMode, CountFrom, Schedule

REASON_CHARS_MAX = 1024
PAUSED_WITHOUT_REASON = "paused without a reason"


class Ended(StrEnum):
    """Why a recurring action is over. The schedule's own words are `agent.domain.schedule`'s."""

    ONCE = "once"
    ENDS_AT = "ends_at"
    TO_DATE = "to_date"
    MAX_RUNS = "max_runs"
    NEVER = "never"
    NOT_FINISHED = "not_finished"
    WITHDRAWN = "withdrawn"
    CANCELLED_ON_NODE = "cancelled_on_node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where rules are evaluated: the zone of those that name none, and what jitter hangs on."""

    node: str = ""
    zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """One recurring action on this node.

    `since_at`: instants before it are none of this revision's. `next_at` is when the turn must look
    at it again (None: it waits for an end, or is over), `next_nominal_at` the instant it is about.
    """

    definition: Definition
    accepted_at: datetime
    since_at: datetime
    state: State
    next_at: datetime | None = None
    next_nominal_at: datetime | None = None
    paused: str | None = None
    ended_at: datetime | None = None
    ended_reason: str | None = None
    parked: str | None = None
    doubted: bool = False
    """It began while the clock was in doubt: that is corrected once the clock is believed."""

    @property
    def id(self) -> str:
        """The name that its occurrences begin with."""
        return self.definition.id

    @property
    def schedule(self) -> Schedule:
        """When it happens."""
        schedule = self.definition.schedule
        if schedule is None:
            raise ValueError(f"{self.definition.id!r} is stored as recurring and has no schedule")
        return schedule

    @property
    def word(self) -> str:
        """Its state as people and JSON have it."""
        if self.ended_at is not None:
            return "ended"
        return "active" if self.held is None else "paused"

    @property
    def held(self) -> str | None:
        """Why nothing of it is planned, whoever paused it; None where it is not paused."""
        return self.paused_by_owner if self.paused is None else self.paused

    @property
    def paused_by_owner(self) -> str | None:
        """The pause that its definition carries: `paused` is this node's own, beside it."""
        schedule = self.definition.schedule
        if schedule is None or not schedule.paused:
            return None
        who = "the core" if self.definition.owner is Owner.CORE else "its owner"
        return f"by {who}: {schedule.paused_reason or PAUSED_WITHOUT_REASON}"

    @property
    def paused_by(self) -> str | None:
        """Who has to resume it: `node`, `owner`, or `both`."""
        by_owner = self.paused_by_owner is not None
        if self.paused is None:
            return "owner" if by_owner else None
        return "both" if by_owner else "node"

    def zone(self, place: Place) -> str:
        """The zone that its wall-clock times are in."""
        return self.schedule.timezone or place.zone

    def offset_s(self, place: Place) -> float:
        """By how much its starts lie behind its instants on this node."""
        return jitter_offset_s(place.node, self.id, self.schedule.jitter_s)


def begin(definition: Definition, now: datetime, place: Place) -> Recurring:
    """A recurring action as it is when it is accepted."""
    assert definition.schedule is not None, "the caller looked"
    state = first_state(definition.schedule, now, definition.from_date)
    fresh = Recurring(definition=definition, accepted_at=now, since_at=now, state=state)
    return look_ahead(fresh, now, place)


def redefine(rule: Recurring, definition: Definition, now: datetime, place: Place) -> Recurring:
    """A newer revision: later instants only; the watermark and the count stay.

    Intervals go on from their anchor, unless the edit says something else about when. What was
    over begins again, and waits for no end that may have come unnoticed.
    """
    assert definition.schedule is not None, "the caller looked"
    old, state = rule.definition, rule.state
    was = old.schedule or definition.schedule  # what cannot be read says nothing about before
    if state.last_nominal_at is not None and (rule.ended_at or rule.parked) is not None:
        state = completed(was, state, now)
    said = old.schedule and _going_on(old.schedule)  # of what cannot be read, nothing
    if (_going_on(definition.schedule), definition.from_date) != (said, old.from_date):
        state = edited(was, definition.schedule, state, now, definition.from_date)
    fresh = replace(
        rule, definition=definition, since_at=now, state=state, ended_at=None, ended_reason=None,
        parked=None,
    )  # fmt: skip
    late = timedelta(seconds=_still_to_start_s(rule, fresh, place))
    return look_ahead(replace(fresh, since_at=now - late), now, place)


def _going_on(schedule: Schedule) -> Schedule:
    """The same as if nobody had paused it."""
    return replace(schedule, paused=False, paused_reason=None)


def is_pause_alone(old: Definition, new: Definition) -> bool:
    """Whether the new revision only pauses, resumes, or says why: then nothing begins anew."""
    if old.schedule is None or new.schedule is None:
        return False
    same = replace(new, revision=old.revision, schedule=_going_on(new.schedule))
    return old.schedule != new.schedule and same == replace(old, schedule=_going_on(old.schedule))


def repaused(rule: Recurring, definition: Definition, now: datetime, place: Place) -> Recurring:
    """The rule with its owner's pause as `definition` has it; a pause lifted was downtime."""
    moved = replace(rule, definition=definition)
    if moved.held is not None or rule.held is None:
        return moved
    return look_again(moved, now, place)


def look_again(rule: Recurring, now: datetime, place: Place) -> Recurring:
    """Of a rule that was paused until now: what was missed, and its next instant."""
    looks = rule.next_at is not None and rule.parked is None
    if not looks or waits_for_end(rule.schedule, rule.state):  # else the turn looks for it
        return rule
    return look_ahead(rule, now, place)


def _still_to_start_s(rule: Recurring, edited_rule: Recurring, place: Place) -> float:
    """How long ago an instant may lie that jitter has not let start yet: it is not lost by an edit.

    Where only the jitter became less, also one that the new revision would have started already.
    """
    offset_s = edited_rule.offset_s(place)
    old, new = rule.definition.schedule, edited_rule.schedule
    if old is None or rule.ended_at is not None or rule.parked is not None:
        return offset_s
    same = replace(_going_on(old), jitter_s=None) == replace(_going_on(new), jitter_s=None)
    return max(offset_s, rule.offset_s(place)) if same else offset_s


def look_ahead(rule: Recurring, now: datetime, place: Place) -> Recurring:
    """With its next instant; where something is due or was missed, that is now: the turn's work."""
    planned = plan_at(rule, now, place)
    if planned.runs:
        return replace(rule, next_at=now, next_nominal_at=planned.runs[0].nominal_at)
    if planned.missed:  # nothing of it starts: the turn only tells so
        coming = planned.next.nominal_at if planned.next else None
        return replace(rule, next_at=now, next_nominal_at=coming)
    return advance(rule, planned, now)


def plan_at(
    rule: Recurring, now: datetime, place: Place, *, schedule: Schedule | None = None
) -> Plan:
    """What of the rule is due at `now`; `schedule` stands in for its own."""
    return plan(
        schedule or rule.schedule, rule.state, now,
        zone=place.zone, offset_s=rule.offset_s(place), since=rule.since_at,
        not_before=rule.definition.from_date, not_after=rule.definition.to_date,
    )  # fmt: skip


def plan_no_more(rule: Recurring, now: datetime, place: Place) -> Plan:
    """The instants up to `now` that nobody planned, for a rule that is paused or withdrawn.

    Nothing of it is to run, so what is merely late is missed like the rest; and no end of it will
    come that an interval could be counted from.
    """
    skip = replace(rule.schedule, catch_up=CatchUp(mode=CatchUpMode.SKIP))
    planned = plan_at(rule, now, place, schedule=skip)
    if not planned.runs:
        return planned
    return replace(planned, after=completed(skip, planned.after, planned.runs[-1].nominal_at))


def advance(rule: Recurring, planned: Plan, now: datetime) -> Recurring:
    """The rule after a plan of it was carried out."""
    over = planned.exhausted
    return replace(
        rule,
        state=planned.after,
        next_at=planned.next.starts_at if planned.next else None,
        next_nominal_at=planned.next.nominal_at if planned.next else None,
        ended_at=now if over else None,
        ended_reason=over,
    )


def end(rule: Recurring, reason: str, now: datetime) -> Recurring:
    """Over, whatever its schedule says."""
    return replace(rule, next_at=None, next_nominal_at=None, ended_at=now, ended_reason=str(reason))


def occurrence_of(rule: Recurring, planned: Planned, action_id: str) -> Definition:
    """The action that one instant stands for: the rule's definition without its schedule."""
    return replace(
        rule.definition,
        id=action_id,
        schedule=None,
        recurring_id=rule.id,
        nominal_at=planned.nominal_at,
        from_date=planned.starts_at,
        to_date=planned.ends_at or rule.definition.to_date,  # the planned end is not after it
        should_be_executed=True,
    )


def by_hand(rule: Recurring, nominal_at: datetime, action_id: str, now: datetime) -> Definition:
    """An occurrence that somebody asked for: of the past (backfill), or of this moment.

    The script sees the instant as `from_date`. Its window counts from now, and no deadline does:
    that it is late is what was asked for.
    """
    duration_s = rule.schedule.duration_s
    ends_at = None if duration_s is None else now + timedelta(seconds=duration_s)
    planned = Planned(nominal_at=nominal_at, starts_at=nominal_at, ends_at=ends_at)
    occurrence = occurrence_of(rule, planned, action_id)
    return replace(occurrence, to_date=ends_at, start_deadline_s=None)


def is_regular(definition: Definition) -> bool:
    """Whether an occurrence came by the schedule; the others are run now and backfill."""
    return (
        definition.recurring_id is not None
        and definition.nominal_at is not None
        and definition.id == occurrence_id(definition.recurring_id, definition.nominal_at)
    )


def counts_from(rule: Recurring, definition: Definition, *, stands_in: bool = False) -> bool:
    """Whether the rule's next instant is counted from the end of this occurrence.

    `stands_in`: it is by the schedule, and has another name because that of its instant was taken.
    """
    return (
        rule.ended_at is None
        and rule.parked is None
        and rule.schedule.count_from is CountFrom.COMPLETION
        and definition.nominal_at == rule.state.last_nominal_at
        and (stands_in or is_regular(definition))
    )


def fold(missed: Sequence[Missed], causes: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """All missed ranges of one plan as the `missed` of one row, and as a sentence.

    `causes`: why they were not planned in their time; each range says why it does not run late.
    """
    parts = sorted(missed, key=lambda one: one.first)
    count = sum(one.count for one in parts)
    folded: dict[str, Any] = {
        "first": format_instant(parts[0].first),
        "last": format_instant(max(one.last for one in parts)),
        "count": count,
        "counted_all": all(one.counted_all for one in parts),
        "why": "; ".join(dict.fromkeys([*causes, *(one.why for one in parts if one.why)])),
    }
    if len(parts) > 1:
        folded["parts"] = [
            {"first": format_instant(one.first), "last": format_instant(one.last),
             "count": one.count, "why": one.why}
            for one in parts
        ]  # fmt: skip
    number = f"{count}" if folded["counted_all"] else f"at least {count}"
    plural = "s" if count != 1 else ""
    to = f" to {folded['last']}" if folded["last"] != folded["first"] else ""
    text = f"{number} instant{plural} missed, {folded['first']}{to}"
    return folded, f"{text}: {folded['why']}" if folded["why"] else text


def decide_recurring(
    current: Recurring | None, incoming: Definition
) -> tuple[Verdict, tuple[Fault, ...]]:
    """What a definition with a schedule does to what this node has under its id."""
    if current is None:
        return Verdict.INSERTED, ()
    if current.definition.owner is not incoming.owner:
        return Verdict.REFUSED, (id_conflict(current.definition, incoming),)
    if incoming.revision <= current.definition.revision:
        return Verdict.UNCHANGED, ()
    if current.ended_reason == Ended.CANCELLED_ON_NODE.value:
        return Verdict.TOO_LATE, ()  # this node's own decision stands, as for an action
    return Verdict.UPDATED, ()


def _next_start(rule: Recurring) -> datetime | None:
    """When it starts next. Where the turn has only to tell what was missed, that is no start."""
    if rule.next_at is None or rule.next_nominal_at is None:
        return None
    return max(rule.next_at, rule.next_nominal_at)


def recurring_state(rule: Recurring) -> dict[str, Any]:
    """The node's half of a recurring action."""
    return {
        "state": rule.word,
        "paused": rule.held,
        "paused_by": rule.paused_by,
        "next_at": maybe_format(_next_start(rule)),
        "next_nominal_at": maybe_format(rule.next_nominal_at),
        "last_nominal_at": maybe_format(rule.state.last_nominal_at),
        "run_count": rule.state.run_count,
        "anchor_at": format_instant(rule.state.anchor_at),
        "since_at": format_instant(rule.since_at),
        "ended_at": maybe_format(rule.ended_at),
        "ended_reason": rule.ended_reason,
        "parked": rule.parked,
    }


def recurring_view(rule: Recurring, place: Place) -> dict[str, Any]:
    """The same with what this node makes of it, as the API shows it and events carry it."""
    readable = rule.definition.schedule is not None
    return recurring_state(rule) | {
        "zone": rule.zone(place) if readable else place.zone,
        "offset_s": round(rule.offset_s(place), 3) if readable else 0.0,
    }
