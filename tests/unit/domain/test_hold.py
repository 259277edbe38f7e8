"""A `hold` script that ends by itself, and lanes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from agent.domain.action import Transition, apply
from agent.domain.definition import Retry
from agent.domain.ending import ExitRecord, decide_end, decide_unknown
from agent.domain.hold import after_exit, restart_delay_s
from agent.domain.lane import HOLDS_MAX, Lane
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.manifest import HOLD, Manifest, agree_terms
from agent.domain.starting import Running, Slots, Wait, decide_start
from tests.unit.domain.builders import NOW, after, make_action, make_record

STARTED = {"execution_status": ExecutionStatus.STARTED, "attempt": 1, "start_no": 1}


def end(record: ExitRecord, doubtful: bool = False, **fields: Any) -> Transition:
    action = make_action(**(STARTED | fields))
    terms = agree_terms(action.definition, None)
    return decide_end(action, record, terms, NOW, 0.0, mode=HOLD, doubtful=doubtful)


@pytest.mark.parametrize(
    ("restarts", "ran_s", "to_date", "to", "due_s", "count"),
    [
        (0, 1.0, None, "NULL", 5, 1),
        (1, 1.0, None, "NULL", 10, 2),
        (5, 1.0, None, "NULL", 160, 6),
        (6, None, None, "NULL", 300, 7),
        (60, 299.9, None, "NULL", 300, 61),
        (60, 300.0, None, "NULL", 5, 1),  # it had run steadily
        (0, 1.0, after(5.1), "NULL", 5, 1),
        (0, 1.0, after(5), "FINISHED", None, 0),  # the window closes first
        (0, 1.0, after(-1), "FINISHED", None, 0),
    ],
)
def test_after_an_early_exit_zero(
    restarts: int, ran_s: float | None, to_date: datetime | None, to: str, due_s: float | None,
    count: int,
) -> None:  # fmt: skip
    found = after_exit(restarts, ran_s, NOW, to_date)
    assert found.to.value == to
    assert found.due_at == (None if due_s is None else after(due_s))
    assert found.restarts == count


@pytest.mark.parametrize(
    ("record", "to", "failures"),
    [
        ({"code": 1, "duration_s": 299.9}, "FAILED", 3),
        ({"code": 1, "duration_s": 300.0}, "NULL", 1),  # it had run steadily
        ({"code": 1}, "FAILED", 3),  # nobody knows how long it ran
        ({"duration_s": 299.9}, "NULL", 2),
        ({"duration_s": 300.0}, "NULL", 0),
    ],
)
def test_failures_before_a_steady_run_do_not_count(
    record: dict[str, Any], to: str, failures: int
) -> None:
    """Three in a year end no hold that may be tried three times."""
    fields: dict[str, Any] = {"failures": 2, "retry": Retry(max_attempts=3, delay_s=1)}
    found = end(make_record(**record), **fields)
    assert found.to.value == to
    assert apply(make_action(**(STARTED | fields)), found).failures == failures


def test_a_tasks_failures_count_however_long_it_ran() -> None:
    action = make_action(**STARTED, failures=2, retry=Retry(max_attempts=3, delay_s=1))
    terms = agree_terms(action.definition, None)
    found = decide_end(action, make_record(code=1, duration_s=900.0), terms, NOW, 0.0)
    assert (found.to.value, apply(action, found).failures) == ("FAILED", 3)


def test_the_wait_doubles_up_to_five_minutes() -> None:
    assert [restart_delay_s(n) for n in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300]


def test_a_restart_uses_up_no_retry_and_is_counted() -> None:
    found = end(make_record(duration_s=2.0), hold_restarts=2, failures=1)
    assert (found.to.value, found.reason.value) == ("NULL", "hold_restart")
    moved = apply(make_action(**(STARTED | {"hold_restarts": 2, "failures": 1})), found)
    assert (moved.hold_restarts, moved.failures, moved.due_at) == (3, 1, after(20))


@pytest.mark.parametrize(
    ("record", "fields", "to", "reason"),
    [
        ({"stop_cause": "window", "signal": 15, "code": None}, {}, "FINISHED", "window_closed"),
        ({"code": 3}, {}, "FAILED", "exit_nonzero"),
        ({"stop_cause": "timeout", "signal": 15, "code": None}, {}, "FAILED", "timeout"),
        ({}, {"dry_run": True}, "FINISHED", "exit_zero"),
        ({}, {"stop_cause": "cancelled_on_node"}, "FINISHED", "exit_zero"),
        ({"stop_cause": "cancelled_on_node"}, {}, "WONT_FINISH", "cancelled_on_node"),
    ],
)
def test_other_ends(record: dict[str, Any], fields: dict[str, Any], to: str, reason: str) -> None:
    found = end(make_record(**record), **fields)
    assert (found.to.value, found.reason.value) == (to, reason)


def test_a_doubtful_clock_closes_no_window() -> None:
    assert end(make_record(), to_date=after(-9)).reason.value == "window_closed"
    assert end(make_record(), doubtful=True, to_date=after(-9)).reason.value == "hold_restart"
    action = make_action(**STARTED, to_date=after(-9))
    terms = agree_terms(action.definition, None)
    assert decide_unknown(action, terms, NOW, {}).to.value == "WONT_FINISH"
    assert decide_unknown(action, terms, NOW, {}, doubtful=True).to.value == "NULL"


@pytest.mark.parametrize(
    ("fields", "lane"),
    [
        ({}, Lane.EXCLUSIVE),
        ({"parallel": True}, Lane.PARALLEL),
        ({"mode": HOLD}, Lane.HOLD),
        ({"mode": HOLD, "parallel": True}, Lane.HOLD),
    ],
)
def test_the_lane_follows_from_the_manifest(fields: dict[str, Any], lane: Lane) -> None:
    assert Manifest(kind="k", **fields).lane is lane


def test_holds_take_nobodys_place_and_are_bounded() -> None:
    holding = [Running(lane=Lane.HOLD)] * HOLDS_MAX
    slots = Slots.beside(holding, 1)
    assert (slots.free(Lane.EXCLUSIVE), slots.free(Lane.PARALLEL)) == (1, 1)
    assert decide_start(make_action(lane=Lane.HOLD), NOW, slots) is Wait.HOLDS_FULL
    busy = Slots.beside([Running(lane=Lane.EXCLUSIVE), Running(lane=Lane.PARALLEL)], 1)
    assert isinstance(decide_start(make_action(lane=Lane.HOLD), NOW, busy), Transition)


def test_a_hold_keeps_its_applications_to_itself() -> None:
    slots = Slots.beside([Running(lane=Lane.HOLD, app_names=("db",))], 1)
    assert decide_start(make_action(app_names=("db",)), NOW, slots) is Wait.APP_BUSY
