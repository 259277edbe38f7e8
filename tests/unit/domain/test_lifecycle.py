"""The lifecycle table: what is in it happens, everything else is refused and changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.action import Action, Transition, apply
from agent.domain.errors import IllegalTransition
from agent.domain.lifecycle import (
    FINAL,
    TABLE,
    ExecutionStatus,
    Move,
    Reason,
    State,
    check,
    is_final,
    state_of,
)
from tests.unit.domain.builders import NOW, make_action

statuses = st.sampled_from(list(ExecutionStatus))
reasons = st.sampled_from(list(Reason))
attempts = st.integers(0, 5)


@given(statuses, attempts, statuses, reasons)
def test_exactly_the_table_is_allowed(
    status: ExecutionStatus, attempt: int, to: ExecutionStatus, reason: Reason
) -> None:
    allowed = reason in TABLE.get((state_of(status, attempt), to), frozenset())
    if allowed:
        check(status, attempt, Move(to, reason))
    else:
        with pytest.raises(IllegalTransition):
            check(status, attempt, Move(to, reason))


@given(statuses, attempts, st.lists(st.tuples(statuses, reasons), max_size=30))
def test_final_absorbs_everything(
    status: ExecutionStatus, attempt: int, moves: list[tuple[ExecutionStatus, Reason]]
) -> None:
    action = make_action(execution_status=status, attempt=attempt, start_no=attempt)
    finals: list[Action] = []
    for to, reason in moves:
        try:
            action = apply(action, Transition(to=to, reason=reason, at=NOW))
        except IllegalTransition:
            continue
        if action.is_final:
            finals.append(action)
    assert len(finals) <= 1, "an action became final twice"
    assert not finals or action == finals[0]


@given(st.lists(st.tuples(statuses, reasons), max_size=40))
def test_start_numbers_rise_and_are_never_given_twice(
    moves: list[tuple[ExecutionStatus, Reason]],
) -> None:
    action, seen = make_action(), set()
    for to, reason in moves:
        try:
            action = apply(action, Transition(to=to, reason=reason, at=NOW))
        except IllegalTransition:
            continue
        if to is ExecutionStatus.STARTED:
            assert action.start_no not in seen
            seen.add(action.start_no)
        assert 0 <= action.attempt <= action.start_no


def test_a_start_that_never_happened_is_not_counted() -> None:
    started = apply(
        make_action(), Transition(to=ExecutionStatus.STARTED, reason=Reason.DUE, at=NOW)
    )
    back = apply(started, Transition(to=ExecutionStatus.NULL, reason=Reason.NEVER_STARTED, at=NOW))
    assert (back.attempt, back.start_no) == (0, 1)
    assert state_of(back.execution_status, back.attempt) is State.FRESH


def test_only_the_four_final_statuses_have_no_way_out() -> None:
    ways_out = {state for state, _ in TABLE}
    assert {ExecutionStatus(s.value) for s in State if s not in ways_out and "," not in s} == FINAL
    assert all(is_final(status) for status in FINAL)


def test_every_reason_is_used_by_the_table() -> None:
    used = {reason for allowed in TABLE.values() for reason in allowed}
    assert set(Reason) == used
