"""What a rule keeps when it is edited, paused or begun again: above all, that it goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.domain.recurring import Place, Recurring, begin, end, plan_at, plan_no_more, redefine
from agent.domain.schedule.recurrence import completed
from agent.domain.schedule.spec import CatchUp, CatchUpMode, CountFrom, Schedule
from tests.unit.domain.builders import make_definition

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PLACE = Place()
EVERY_10 = Schedule(every="10m", count_from=CountFrom.COMPLETION)
EVERY_20 = Schedule(every="20m", count_from=CountFrom.COMPLETION)


def rule_of(schedule: Schedule = EVERY_10, **members: Any) -> Recurring:
    return begin(make_definition(schedule=schedule, **members), NOW, PLACE)


def edited(rule: Recurring, now: datetime, **members: Any) -> Recurring:
    return redefine(rule, replace(rule.definition, **members), now, PLACE)


def has_run(rule: Recurring, now: datetime) -> Recurring:
    planned = plan_at(rule, now, PLACE)
    assert len(planned.runs) == 1
    return replace(rule, state=planned.after, next_at=None, next_nominal_at=None)


@pytest.mark.parametrize("from_date", [None, NOW, NOW - timedelta(days=3)])
def test_an_edit_leaves_what_waits_for_an_end_waiting_for_it(from_date: datetime | None) -> None:
    running = has_run(rule_of(from_date=from_date), NOW + 10 * MINUTE)
    for schedule in (EVERY_10, EVERY_20):
        again = edited(running, NOW + 15 * MINUTE, schedule=schedule)
        assert again.next_at is None
    ended = replace(again, state=completed(EVERY_20, again.state, NOW + 16 * MINUTE))
    assert edited(ended, NOW + 17 * MINUTE, kind="other").next_at == NOW + 36 * MINUTE


@pytest.mark.parametrize("from_date", [None, NOW, NOW - timedelta(days=3)])
@pytest.mark.parametrize("back", [timedelta(0), timedelta(days=1)])
def test_what_counts_from_completion_goes_on_after_an_edit_between_two_runs(
    from_date: datetime | None, back: timedelta
) -> None:
    """Also where the clock was set back in between: nothing runs that it could wait for."""
    running = has_run(rule_of(from_date=from_date), NOW + 10 * MINUTE)
    idle = replace(running, state=completed(EVERY_10, running.state, NOW + 11 * MINUTE - back))
    again = edited(idle, NOW + 12 * MINUTE - back, schedule=EVERY_20)
    begins = max(NOW + 12 * MINUTE - back, NOW + 10 * MINUTE)
    assert again.next_at == begins + 20 * MINUTE


def test_an_edit_to_completion_does_not_wait_for_what_the_old_rule_ran() -> None:
    begun = rule_of(Schedule(every="10m"), from_date=NOW)
    running = replace(begun, state=plan_at(begun, NOW + 10 * MINUTE, PLACE).after)
    again = edited(running, NOW + 15 * MINUTE, schedule=EVERY_20)
    assert again.next_at == NOW + 35 * MINUTE


def test_what_ended_while_the_rule_was_over_is_not_waited_for_when_it_begins_again() -> None:
    over = end(has_run(rule_of(), NOW + 10 * MINUTE), "withdrawn", NOW + 11 * MINUTE)
    assert edited(over, NOW + 20 * MINUTE).next_at == NOW + 30 * MINUTE


def test_an_instant_that_a_pause_swallowed_is_waited_for_by_nobody() -> None:
    planned = plan_no_more(rule_of(), NOW + 10 * MINUTE, PLACE)
    assert len(planned.runs) == 1  # told as missed by the caller
    again = replace(rule_of(), state=planned.after)
    assert plan_at(again, NOW + 11 * MINUTE, PLACE).next is not None


def test_other_rules_are_given_up_with_what_is_merely_late() -> None:
    schedule = Schedule(cron="* * * * *", catch_up=CatchUp(mode=CatchUpMode.ALL))
    planned = plan_no_more(rule_of(schedule), NOW + 5 * MINUTE, PLACE)
    assert sum(one.count for one in planned.missed) + len(planned.runs) == 6
    assert planned.last_nominal_at == NOW + 5 * MINUTE
