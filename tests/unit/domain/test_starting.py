"""Whether a due action may start: windows, lanes, apps, pause."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.action import Transition
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.starting import Running, Slots, Wait, decide_start, decide_unwanted
from tests.unit.domain.builders import NOW, after, make_action


def slots(*running: Running, **fields: Any) -> Slots:
    return Slots.beside(running, 2, **fields)


def test_what_is_due_and_free_starts_and_says_how_late() -> None:
    found = decide_start(make_action(due_at=after(-1.5)), NOW, slots())
    assert isinstance(found, Transition)
    assert (found.to, found.evidence["late_s"]) == (ExecutionStatus.STARTED, 1.5)


@pytest.mark.parametrize(
    ("fields", "free", "wait"),
    [
        ({"due_at": after(1)}, slots(), Wait.NOT_DUE),
        ({"due_at": None}, slots(), Wait.NOT_DUE),
        ({}, slots(paused=True), Wait.PAUSED),
        ({}, slots(runner_away=True), Wait.RUNNER_AWAY),
        ({}, slots(Running(lane=Lane.EXCLUSIVE)), Wait.EXCLUSIVE_BUSY),
        ({"lane": Lane.PARALLEL}, slots(*[Running(lane=Lane.PARALLEL)] * 2), Wait.PARALLEL_FULL),
        (
            {"lane": Lane.PARALLEL, "app_names": ("db",)},
            slots(Running(lane=Lane.PARALLEL, app_names=("db",))),
            Wait.APP_BUSY,
        ),
        ({}, slots(clock_doubtful=True), Wait.CLOCK_DOUBTFUL),
        ({}, slots(paused=True, clock_doubtful=True, runner_away=True), Wait.PAUSED),
        ({"app_names": ("db",)}, slots(Running(lane=Lane.PARALLEL, app_names=("web", "db"))),
         Wait.APP_BUSY),
    ],
)  # fmt: skip
def test_what_it_waits_for(fields: dict[str, Any], free: Slots, wait: Wait) -> None:
    assert decide_start(make_action(**fields), NOW, free) is wait


def test_parallel_kinds_run_beside_the_exclusive_one() -> None:
    busy = slots(Running(lane=Lane.EXCLUSIVE))
    assert isinstance(decide_start(make_action(lane=Lane.PARALLEL), NOW, busy), Transition)
    full = slots(*[Running(lane=Lane.PARALLEL)] * 2)
    assert isinstance(decide_start(make_action(), NOW, full), Transition)


@pytest.mark.parametrize(
    ("fields", "to", "reason"),
    [
        ({"to_date": NOW}, "WONT_START", Reason.WINDOW_PASSED),
        ({"to_date": after(-9), "attempt": 1}, "WONT_FINISH", Reason.WINDOW_CLOSED),
        ({"start_deadline_s": 5, "from_date": after(-6)}, "WONT_START", Reason.MISSED),
        ({"should_be_executed": False}, "WONT_START", Reason.WITHDRAWN),
        ({"stop_cause": "cancelled_on_node"}, "WONT_START", Reason.CANCELLED_ON_NODE),
        ({"stop_cause": "withdrawn"}, "WONT_START", Reason.WITHDRAWN),
        ({"should_be_executed": False, "attempt": 2}, "WONT_FINISH", Reason.WITHDRAWN),
    ],
)
def test_what_may_not_start_any_more(fields: dict[str, Any], to: str, reason: Reason) -> None:
    """The window is [from, to): at `to_date` it is over. Ended even while nothing may start."""
    action = make_action(**fields)
    for free in (slots(), slots(paused=True), slots(Running(lane=Lane.EXCLUSIVE))):
        found = decide_start(action, NOW, free)
        assert isinstance(found, Transition)
        assert (found.to.value, found.reason) == (to, reason)


def test_in_doubt_only_what_nobody_wants_ends() -> None:
    late = make_action(to_date=NOW)
    assert decide_start(late, NOW, slots(clock_doubtful=True)) is Wait.CLOCK_DOUBTFUL
    unwanted = decide_start(make_action(should_be_executed=False), NOW, slots(clock_doubtful=True))
    assert isinstance(unwanted, Transition)


def test_a_start_deadline_is_about_the_first_start_only() -> None:
    again = make_action(start_deadline_s=5, from_date=after(-60), attempt=1, start_no=1)
    assert decide_unwanted(again, NOW) is None


def test_start_past_and_end_future_starts_at_once() -> None:
    action = make_action(from_date=after(-3600), to_date=after(3600), due_at=after(-3600))
    assert isinstance(decide_start(action, NOW, slots()), Transition)
