"""What becomes of instants that have fallen due: run on time, run late, or never, and why.

The instants of one turn are cut into stretches by time, so that each miss has exactly one reason
and lies before every run: window over, too old, left out by `catch_up`, run. Only the newest can be
simply due: when it falls due the earlier ones have missed their turn, however short that was ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from agent.domain.instants import format_instant
from agent.domain.schedule.planned import LATE_S_MAX, Missed, Planned, State, Why
from agent.domain.schedule.rules import Rule, shifted
from agent.domain.schedule.spec import CatchUp, CatchUpMode, Schedule

RUNS_PER_PLAN_MAX = 100  # one transaction stays short; the next call plans the rest
COUNTED = timedelta(days=36_525)  # a century of misses is counted, of more "at least" is said
TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a rule besides its instants. `end` (excluded) is a nominal instant."""

    schedule: Schedule
    offset: timedelta
    not_after: datetime | None
    end: datetime | None
    ended_by: str

    @classmethod
    def of(cls, schedule: Schedule, offset_s: float, not_after: datetime | None) -> Limits:
        """The earlier of `ends_at` (included) and `to_date` (excluded, of the start itself)."""
        offset = timedelta(seconds=offset_s)
        ends = []
        if schedule.ends_at is not None:
            ends.append((shifted(schedule.ends_at, TICK), "ends_at"))
        if not_after is not None:
            ends.append((shifted(not_after, -offset), "to_date"))
        end, ended_by = min(ends, default=(None, ""))
        return cls(schedule, offset, not_after, end, ended_by)

    def allow(self, nominal: datetime) -> bool:
        """Whether the rule still holds at that instant."""
        return self.end is None or nominal < self.end

    def used_up(self, state: State) -> bool:
        """Whether `max_runs` is reached."""
        return self.schedule.max_runs is not None and state.run_count >= self.schedule.max_runs

    def room(self, state: State) -> int:
        """How many runs one plan may hold."""
        if self.schedule.max_runs is None:
            return RUNS_PER_PLAN_MAX
        return min(RUNS_PER_PLAN_MAX, self.schedule.max_runs - state.run_count)

    def planned(self, nominal: datetime, *, catch_up: bool = False) -> Planned:
        """The occurrence: jitter moves its start, never the end of its window."""
        ends_at = None
        if self.schedule.duration_s is not None:
            ends_at = shifted(nominal, timedelta(seconds=self.schedule.duration_s))
            if self.not_after is not None:
                ends_at = min(ends_at, self.not_after)
        starts_at = shifted(nominal, self.offset)
        return Planned(nominal_at=nominal, starts_at=starts_at, ends_at=ends_at, catch_up=catch_up)


@dataclass(frozen=True, slots=True)
class Cuts:
    """What has fallen due, cut by what becomes of it.

    [low, closed): the window is over; [closed, young): too old; [young, late): for `catch_up`;
    [late, end): the newest, if it is on time; else empty.
    """

    low: datetime
    closed: datetime
    young: datetime
    late: datetime
    end: datetime

    @classmethod
    def of(
        cls,
        schedule: Schedule,
        rule: Rule,
        now: datetime,
        low: datetime,
        limits: Limits,
        not_after: datetime | None,
    ) -> Cuts:
        """The stretches of what is due at `now`; an empty one begins where it ends."""
        due = now - limits.offset
        end = due + TICK if limits.end is None else min(due + TICK, limits.end)
        closed = low
        if not_after is not None and not_after <= now:
            closed = end
        elif schedule.duration_s is not None:
            closed = min(end, max(low, now - timedelta(seconds=schedule.duration_s) + TICK))
        newest = rule.before(end)
        punctual = max(closed, due - timedelta(seconds=LATE_S_MAX))
        late = end if newest is None or newest < punctual else newest
        young = closed
        if schedule.catch_up.mode is not CatchUpMode.SKIP:
            oldest = due - timedelta(seconds=schedule.catch_up.max_age_s)
            young = min(late, max(closed, oldest))
        return cls(low, closed, young, late, end)

    def more(self, rule: Rule, runs: tuple[Planned, ...]) -> bool:
        """Whether something due comes after the last of the runs."""
        return rule.count(runs[-1].nominal_at + TICK, self.end) > 0


def decide(
    schedule: Schedule, rule: Rule, cuts: Cuts, limits: Limits, room: int
) -> tuple[tuple[Planned, ...], tuple[Missed, ...]]:
    """Runs (at most `room`, the oldest first) and what will never run, told by why."""
    policy = schedule.catch_up
    begin, cause, why = _caught_up(policy, rule, cuts)
    if room == RUNS_PER_PLAN_MAX and rule.count(begin, cuts.end) == room + 1:
        room -= 1  # the newest never comes alone behind what is caught up: `overlap` would drop it
    runs = tuple(
        limits.planned(nominal, catch_up=nominal < cuts.late)
        for nominal in islice(walk(rule, begin, cuts.end), room)
    )
    window = "its window had ended" if schedule.duration_s is not None else "to_date had passed"
    groups = (
        (cuts.low, cuts.closed, Why.WINDOW, window),
        (
            cuts.closed,
            cuts.young,
            Why.AGE,
            f"later than catch_up.max_age_s, {policy.max_age_s:g} s",
        ),
        (cuts.young, begin, cause, why),
    )
    return runs, tuple(
        missed for group in groups if (missed := missed_between(rule, *group)) is not None
    )


def _caught_up(policy: CatchUp, rule: Rule, cuts: Cuts) -> tuple[datetime, Why, str]:
    """From which instant on everything runs, and why what lies before it does not."""
    if policy.mode is CatchUpMode.SKIP:
        return cuts.late, Why.POLICY, "catch_up is skip"
    most = 1 if policy.mode is CatchUpMode.LATEST else policy.max_count
    if policy.mode is CatchUpMode.LATEST:
        most -= int(cuts.late < cuts.end)  # one on time is the latest
    begin = cuts.late
    for _ in range(most):
        previous = rule.before(begin)
        if previous is None or previous < cuts.young:
            break
        begin = previous
    if policy.mode is CatchUpMode.LATEST:
        latest = f", {format_instant(begin)}," if begin < cuts.end else ""
        return begin, Why.POLICY, f"catch_up is latest: only the latest one{latest} runs"
    return begin, Why.COUNT, f"more than catch_up.max_count, {policy.max_count}"


def missed_between(
    rule: Rule, begin: datetime, end: datetime, cause: Why, why: str
) -> Missed | None:
    """The instants in [begin, end) as a miss, or None where there are none."""
    first = rule.at_or_after(begin) if begin < end else None
    last = None if first is None or first >= end else rule.before(end)
    if first is None or last is None:
        return None
    counted = max(first, shifted(last, -COUNTED))
    return Missed(
        first=first,
        last=last,
        count=rule.count(counted, last + TICK),
        counted_all=counted == first,
        cause=cause,
        why=why,
    )


def walk(rule: Rule, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The instants in [begin, end)."""
    instant = rule.at_or_after(begin)
    while instant is not None and instant < end:
        yield instant
        instant = rule.at_or_after(shifted(instant, TICK))
