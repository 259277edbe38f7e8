"""From recurring actions to rows: what falls due, what was missed, what follows an end.

Runs inside the caller's transaction, which also moves the watermark: whatever is killed when, an
instant has its row and is behind the watermark, or neither. The arithmetic is the domain's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from agent.domain.action import Action, Transition
from agent.domain.definition import Definition
from agent.domain.errors import AgentError
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.overlap import decide_overlap
from agent.domain.recurring import (
    Ended,
    Recurring,
    advance,
    end,
    fold,
    look_ahead,
    occurrence_of,
    plan_at,
    plan_no_more,
)
from agent.domain.schedule.recurrence import (
    Missed,
    Planned,
    completed,
    following,
    occurrence_id,
    ran,
    waits_for_end,
)
from agent.domain.schedule.rules import ceil_second
from agent.domain.starting import unstart
from agent.node.gaps import no_gaps, paused_during
from agent.node.ledger import Ledger
from agent.node.store import actions, events, recurring

RULES_PER_TURN_MAX = 200  # a storm of due rules is planned over several turns: exits never wait
ROWS_PER_TURN_MAX = 500
EVENTS_OF_A_PAUSE = 6  # one of each end, two where the core paused it; and of one in between
SAME_INSTANT_MAX = 10_000  # occurrences by hand of one instant; more is a program gone wild


@dataclass(slots=True)
class Planner:
    """One transaction's planning: what it needs, and what the engine must do after the commit."""

    connection: sqlite3.Connection
    ledger: Ledger
    now: datetime
    lane_of: Callable[[str], Lane]
    doubted: bool = False
    """The clock is in doubt: `now` is only counted on from what was believed."""
    gaps: Callable[[datetime, datetime], Sequence[str]] = no_gaps
    """Why instants of a range could not be planned in their time, as far as is known."""
    rows: int = 0
    ended: list[Action] = field(default_factory=list)
    """What will never start (missed, overlap, superseded), as it is now."""
    parked: list[tuple[str, str]] = field(default_factory=list)

    def plan_due(self) -> bool:
        """Plan what is due, bounded; whether there is more."""
        rules = recurring.due(self.connection, self.now, RULES_PER_TURN_MAX)
        for rule in rules:
            if self.rows >= ROWS_PER_TURN_MAX:
                return True
            if rule.parked is not None:
                self._park(rule, rule.parked)
            else:
                self.alone(rule, self.fire)
        # Of a long range only so many are planned at once; the rest in the next transaction.
        return bool(rules) and recurring.is_any_due(self.connection, self.now)

    def alone(self, rule: Recurring, work: Callable[[Recurring], object]) -> None:
        """A rule that cannot be planned (its zone is gone, a fault of ours) stops no other."""
        self.connection.execute("SAVEPOINT rule")
        before = self.rows, len(self.ended)
        try:
            work(rule)
        except sqlite3.OperationalError:
            raise  # the disk, not the rule
        except Exception as error:  # noqa: BLE001  (told, and seen in the rule's view)
            self.connection.execute("ROLLBACK TO rule")
            self.rows = before[0]
            del self.ended[before[1] :]
            self._park(rule, f"it could not be planned: {error}")
        self.connection.execute("RELEASE rule")

    def _park(self, rule: Recurring, why: str) -> None:
        recurring.park(self.connection, rule.id, why)
        self.parked.append((rule.id, why))

    def fire(self, rule: Recurring) -> Recurring:
        """Carry out what the rule's plan says for now; the rule as it is then."""
        place = self.ledger.place
        rule = self._caught_up(rule)
        planned = plan_at(rule, self.now, place)
        moved = advance(rule, planned, self.now)
        # First: an end among the rows below may already count the next instant from itself.
        recurring.update(self.connection, moved)
        if planned.missed:
            self.miss(moved, planned.missed, self._causes(rule, planned.missed))
        behind = any(one.catch_up for one in planned.runs)
        made = [self.occur(moved, one, behind=behind) for one in planned.runs]
        unstarted = sum(1 for one in made if one is not None and one.is_final)
        if unstarted:
            moved = self._uncounted(moved, unstarted)
        if moved.ended_at is not None:
            self.ledger.tell_recurring(self.connection, moved, self.now)
        elif None in made:  # what has its row may have its end as well
            moved = replace(moved, next_at=self.now)
            recurring.update(self.connection, moved)
        return moved

    def _caught_up(self, rule: Recurring) -> Recurring:
        """With the end that it waits for, where that came unheard: while the rule was parked, or
        before the database was restored.
        """
        nominal = rule.state.last_nominal_at
        if nominal is None or not waits_for_end(rule.schedule, rule.state):
            return rule
        if recurring.is_open_at(self.connection, rule.id, nominal):
            return rule
        last = actions.by_id(self.connection, occurrence_id(rule.id, nominal))
        ours = last is not None and last.definition.recurring_id == rule.id
        ended_at = last.ended_at if last is not None and ours else None
        return replace(rule, state=completed(rule.schedule, rule.state, ended_at or self.now))

    def _uncounted(self, rule: Recurring, unstarted: int) -> Recurring:
        """What `overlap` ended at once never started and counts for nothing: `max_runs` goes on."""
        stored = recurring.by_id(self.connection, rule.id) or rule  # an end moves its anchor
        state = replace(stored.state, run_count=stored.state.run_count - unstarted)
        if rule.ended_at is not None:
            state = completed(rule.schedule, state, self.now)  # what is over hears of no end
        going_on = replace(stored, state=state, ended_at=None, ended_reason=None)
        moved = look_ahead(going_on, self.now, self.ledger.place)
        recurring.update(self.connection, moved)
        return moved

    def occur(self, rule: Recurring, planned: Planned, *, behind: bool = False) -> Action | None:
        """One occurrence, with what `overlap` makes of it. None: this instant has its row.

        `behind`: it comes with late ones of the same plan, and has its turn after theirs.
        """
        definition = self._definition(rule, planned)
        if definition is None:
            return None
        earlier = recurring.open_occurrences(self.connection, rule.id, self.now)
        decision = decide_overlap(
            rule.schedule.overlap, earlier, catch_up=behind or planned.catch_up,
            late_max=rule.schedule.catch_up.max_count,
        )  # fmt: skip
        for row in decision.ends:
            self._make_way(row)
        action = self.insert(rule, definition, due_at=planned.starts_at)
        if decision.why is not None:
            ending = unstart(action, Reason.OVERLAP, self.now, error=decision.why)
            action = self._end(action, ending)
        return action

    def insert(self, rule: Recurring, definition: Definition, *, due_at: datetime) -> Action:
        """The row of an occurrence, waiting."""
        self.rows += 1
        return self.ledger.accept(
            self.connection, definition, self.now,
            lane=self.lane_of(definition.kind), due_at=due_at, rule=rule,
        )  # fmt: skip

    def _causes(self, rule: Recurring, missed: Sequence[Missed]) -> list[str]:
        """What kept these instants from being planned in their time."""
        first = min(one.first for one in missed)
        late = timedelta(seconds=rule.offset_s(self.ledger.place))
        found = list(self.gaps(first + late, max(one.last for one in missed) + late))
        # Set behind its first instant: by a resume, an edit or its creation, not by the clock.
        if rule.next_at is not None and rule.next_at > first + late:
            found += paused_during(self._told_of(rule), first)
        return found

    def _told_of(self, rule: Recurring) -> list[events.Event]:
        return events.of_rule(self.connection, rule.id, EVENTS_OF_A_PAUSE)

    def miss(self, rule: Recurring, missed: Sequence[Missed], causes: Sequence[str] = ()) -> Action:
        """One row for all instants of these ranges, at the first of them."""
        folded, text = fold(missed, causes)
        first = min(one.first for one in missed)
        planned = Planned(nominal_at=first, starts_at=first)
        definition = self._definition(rule, planned)
        if (
            definition is None
        ):  # known from elsewhere (a restore); the rest must be told all the same
            action_id = free_id(self.connection, rule.id, first)
            definition = occurrence_of(rule, planned, action_id)
        self.rows += 1
        action = self.ledger.accept(
            self.connection, definition, self.now,
            lane=self.lane_of(definition.kind), missed=folded, rule=rule,
        )  # fmt: skip
        return self._end(action, unstart(action, Reason.MISSED, self.now, error=text))

    def give_up(self, rule: Recurring, why: str) -> Recurring:
        """The instants up to now that were not planned will not be; the rule as it is then."""
        planned = plan_no_more(rule, self.now, self.ledger.place)
        count = rule.state.run_count  # what does not run is not counted
        moved = replace(rule, state=replace(planned.after, run_count=count))
        ranges = [replace(one, why=why) for one in planned.missed]
        ranges += [
            Missed(first=one.nominal_at, last=one.nominal_at, count=1, why=why)
            for one in planned.runs
        ]
        recurring.update(self.connection, moved)
        if ranges:
            self.miss(moved, ranges)
        return moved

    def abandon(self, rule: Recurring, why: str) -> Recurring:
        """`give_up`, if possible: what cannot be planned can be ended and changed all the same."""
        self.alone(rule, lambda one: self.give_up(one, why))
        return recurring.by_id(self.connection, rule.id) or rule

    def end(self, rule: Recurring, reason: Ended) -> Recurring:
        """The rule is over: what was not planned is told, what waits ends, what runs goes on."""
        cancelled = reason is Ended.CANCELLED_ON_NODE
        cause = Reason.CANCELLED_ON_NODE if cancelled else Reason.WITHDRAWN
        if rule.ended_at is None and rule.parked is None:
            rule = self.abandon(rule, f"the recurring action was {cause.value} before")
        elif rule.ended_at is None:
            rule = self.abandon_parked(rule)
        over = end(rule, reason, self.now)
        recurring.update(self.connection, over)
        for one in recurring.open_occurrences(self.connection, rule.id, self.now):
            if not one.started:
                self._end_row(one.row, cause)
        self.ledger.tell_recurring(self.connection, over, self.now)
        return over

    def follow(self, finished: Action) -> None:
        """The occurrences that this end calls for, in the transaction that settles it."""
        definition = finished.definition
        waiting = recurring.waiting_for(
            self.connection, definition.id, definition.recurring_id, parked=True
        )
        for rule in waiting:
            if rule.parked is None:
                self.alone(rule, lambda one: self._follow(one, finished))
            else:
                self._not_followed(rule, finished)

    def _not_followed(self, rule: Recurring, finished: Action) -> None:
        """An end that a parked rule would have followed is told; it is not followed later."""
        at = ceil_second(self._end_of(finished))
        last = rule.state.last_nominal_at
        if last is not None and at <= last:
            at = last + timedelta(seconds=1)
        why = f"the recurring action is parked: {rule.parked}"
        self.miss(rule, [Missed(first=at, last=at, count=1, why=why)])
        state = replace(rule.state, last_nominal_at=at)
        recurring.update(self.connection, replace(rule, state=state))

    def abandon_parked(self, rule: Recurring) -> Recurring:
        """What a parked rule has not planned cannot be counted, but from when on it can be told."""
        first = rule.next_nominal_at
        if rule.parked is None or rule.next_at is None or rule.next_at > self.now or first is None:
            return rule
        last = max(first, self.now.replace(microsecond=0))
        why = f"the recurring action was parked: {rule.parked}"
        self.miss(rule, [Missed(first=first, last=last, count=1, counted_all=False, why=why)])
        return replace(rule, since_at=self.now, state=replace(rule.state, last_nominal_at=first))

    def _follow(self, rule: Recurring, finished: Action) -> None:
        moved = self._followed(rule, finished)
        if rule.schedule.after == finished.definition.id and moved.ended_at is None:
            moved = end(moved, Ended.ONCE, self.now)  # an action ends once: nothing more follows it
        recurring.update(self.connection, moved)
        if moved.ended_at is not None:
            self.ledger.tell_recurring(self.connection, moved, self.now)

    def _followed(self, rule: Recurring, finished: Action) -> Recurring:
        place = self.ledger.place
        planned = following(
            rule.schedule, rule.state, self._end_of(finished),
            offset_s=rule.offset_s(place), not_before=rule.definition.from_date,
            not_after=rule.definition.to_date,
        )  # fmt: skip
        if planned is None:
            return self._exhausted(rule)
        if rule.held is not None:
            why = f"the recurring action is paused: {rule.held}"
            at = planned.nominal_at
            self.miss(rule, [Missed(first=at, last=at, count=1, why=why)])
            return replace(rule, state=replace(rule.state, last_nominal_at=at))
        moved = replace(rule, state=ran(rule.state, planned))
        recurring.update(self.connection, moved)
        made = self.occur(moved, planned)
        if made is not None and made.is_final:  # `overlap`: it counts for nothing
            moved = replace(moved, state=replace(moved.state, run_count=rule.state.run_count))
        limit = rule.schedule.max_runs
        return moved if limit is None or moved.state.run_count < limit else self._exhausted(moved)

    def _end_of(self, finished: Action) -> datetime:
        """When it ended: by the clock that plans go by, also where the runner read another one."""
        return self.now if self.doubted else finished.ended_at or self.now

    def _exhausted(self, rule: Recurring) -> Recurring:
        """Over by its own schedule, for the reason that its plan has."""
        over = plan_at(rule, self.now, self.ledger.place).exhausted
        return end(rule, over or Ended.ENDS_AT, self.now)

    def _definition(self, rule: Recurring, planned: Planned) -> Definition | None:
        """The occurrence under its own name, or another where somebody took that for an action.

        None where it is there: the watermark says otherwise only after it was lost.
        """
        action_id = occurrence_id(rule.id, planned.nominal_at)
        taken = actions.by_id(self.connection, action_id)
        if taken is not None:
            if taken.definition.recurring_id == rule.id:
                return None
            action_id = free_id(self.connection, rule.id, planned.nominal_at)
        return occurrence_of(rule, planned, action_id)

    def _make_way(self, row: int) -> None:
        """A newer occurrence takes the place of one that waits."""
        action = actions.by_row(self.connection, row)
        if action is not None and action.execution_status is ExecutionStatus.NULL:
            reason = Reason.OVERLAP if action.attempt else Reason.SUPERSEDED
            self._end(action, unstart(action, reason, self.now))

    def _end_row(self, row: int, reason: Reason) -> None:
        action = actions.by_row(self.connection, row)
        if action is not None and action.execution_status is ExecutionStatus.NULL:
            self._end(action, unstart(action, reason, self.now))

    def _end(self, action: Action, ending: Transition) -> Action:
        moved = self.ledger.move(self.connection, action, ending)
        self.ended.append(moved)
        return moved


class TooManyByHand(AgentError):
    """Nobody asks for one instant so often on purpose."""


def free_id(connection: sqlite3.Connection, rule_id: str, nominal_at: datetime) -> str:
    """The first `<id>@<nominal>.b<n>` that nothing has."""
    for number in range(1, SAME_INSTANT_MAX):
        action_id = occurrence_id(rule_id, nominal_at, number)
        if actions.by_id(connection, action_id) is None:
            return action_id
    raise TooManyByHand(f"{rule_id} ran {SAME_INSTANT_MAX} times for {nominal_at} already")
