"""What a retry by hand takes along, and what it leaves behind."""

from __future__ import annotations

from agent.domain.definition import Approval, ApprovalState, Owner, Requester
from agent.domain.retrying import retried
from agent.domain.schedule.spec import Schedule
from tests.unit.domain.builders import NOW, after, make_definition


def test_it_is_the_same_thing_asked_for_now() -> None:
    old = make_definition(
        owner=Owner.CORE, revision=7, payload={"x": 1}, from_date=after(-60), to_date=after(-1),
        should_be_executed=False, requester=Requester.CORE_RULE, created_at=after(-90),
        recurring_id="r", nominal_at=after(-60), app_names=("web",), timeout_s=5.0,
        approval=Approval(state=ApprovalState.APPROVED), correlation_id="c",
    )  # fmt: skip
    new = retried(old, NOW)
    assert (new.owner, new.revision, new.should_be_executed) == (Owner.NODE, 1, True)
    assert (new.from_date, new.to_date) == (None, None), "a window that has passed is dropped"
    assert (new.approval, new.requester, new.created_at) == (None, None, None)
    assert (new.recurring_id, new.nominal_at) == (None, None)
    assert (new.payload, new.app_names, new.timeout_s) == ({"x": 1}, ("web",), 5.0)
    assert (new.retry_of, new.correlation_id) == ("a1", "c")


def test_what_lies_ahead_of_its_window_stays() -> None:
    running = retried(make_definition(from_date=after(-60), to_date=after(60)), NOW)
    assert (running.from_date, running.to_date) == (None, after(60))
    future = retried(make_definition(from_date=after(10), to_date=after(60)), NOW)
    assert (future.from_date, future.to_date) == (after(10), after(60))


def test_an_approval_is_given_anew_and_a_schedule_is_not_taken_along() -> None:
    approval = Approval(state=ApprovalState.APPROVED, by="ann")
    old = make_definition(schedule=Schedule(every="5 minutes"))
    new = retried(old, NOW, approval)
    assert (new.approval, new.schedule) == (approval, None)
