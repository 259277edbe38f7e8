"""A definition that arrives, against what is there: the rulings on seed 002, step 2."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.action import apply
from agent.domain.definition import Owner
from agent.domain.lifecycle import FINAL, ExecutionStatus, Reason
from agent.domain.reconcile import Verdict, decide_definition
from tests.unit.domain.builders import NOW, after, make_action, make_definition

S = ExecutionStatus
CORE = {"owner": Owner.CORE}


def test_a_new_definition_is_inserted_and_due_at_its_date() -> None:
    change = decide_definition(None, make_definition(**CORE, from_date=after(60)), NOW)
    assert (change.verdict, change.due_at) == (Verdict.INSERTED, after(60))
    at_once = decide_definition(None, make_definition(**CORE), NOW)
    assert at_once.due_at == NOW


@given(st.sampled_from(list(S)), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_an_old_revision_never_replaces_a_newer_one(
    status: ExecutionStatus, have: int, comes: int, wanted: bool
) -> None:
    attempt = 0 if status in (S.NULL, S.WONT_START) else 1
    current = make_action(**CORE, revision=have, execution_status=status, attempt=attempt)
    incoming = make_definition(**CORE, revision=comes, should_be_executed=wanted, kind="other")
    change = decide_definition(current, incoming, NOW)
    if comes <= have:
        assert change.verdict is Verdict.UNCHANGED
        assert (change.definition, change.ends, change.stop_cause) == (None, None, None)
    elif status in FINAL:
        assert change.verdict is Verdict.TOO_LATE
        assert change.ends is None
    else:
        assert change.verdict is Verdict.UPDATED


def test_a_withdrawal_ends_what_waits_and_stops_what_runs() -> None:
    withdrawn = make_definition(**CORE, revision=2, should_be_executed=False)
    waiting = decide_definition(make_action(**CORE), withdrawn, NOW)
    again = decide_definition(make_action(**CORE, attempt=1, start_no=1), withdrawn, NOW)
    running = decide_definition(
        make_action(**CORE, execution_status=S.STARTED, attempt=1), withdrawn, NOW
    )
    assert waiting.ends is not None
    assert (waiting.ends.to, waiting.ends.reason) == (S.WONT_START, Reason.WITHDRAWN)
    assert again.ends is not None
    assert again.ends.to is S.WONT_FINISH
    assert running.ends is None
    assert running.stop_cause == "withdrawn"


def test_while_started_nothing_else_acts() -> None:
    current = make_action(**CORE, execution_status=S.STARTED, attempt=1, due_at=None)
    edit = make_definition(**CORE, revision=2, kind="other", from_date=after(99))
    change = decide_definition(current, edit, NOW)
    assert (change.due_at, change.ends, change.stop_cause) == (None, None, None)
    assert change.definition == edit, "kept whole, for the next attempt"


@pytest.mark.parametrize("mine", list(Owner))
def test_an_id_of_the_other_owner_is_refused_not_merged(mine: Owner) -> None:
    other = Owner.NODE if mine is Owner.CORE else Owner.CORE
    change = decide_definition(
        make_action(owner=mine), make_definition(owner=other, revision=99), NOW
    )
    assert change.verdict is Verdict.REFUSED
    assert "id_conflict" in change.faults[0].message
    assert change.definition is None


def test_an_edit_moves_the_due_time_but_shortens_no_retry() -> None:
    edit = make_definition(**CORE, revision=2, from_date=after(10))
    fresh = decide_definition(make_action(**CORE), edit, NOW)
    retrying = make_action(**CORE, attempt=1, start_no=1, due_at=after(300))
    assert fresh.due_at == after(10)
    assert decide_definition(retrying, edit, NOW).due_at == after(300)


def test_applying_the_same_definition_again_changes_nothing() -> None:
    incoming = make_definition(**CORE, revision=3, should_be_executed=False)
    current = make_action(**CORE, revision=1)
    change = decide_definition(current, incoming, NOW)
    assert change.ends is not None
    ended = apply(replace(current, definition=incoming), change.ends)
    assert decide_definition(ended, incoming, NOW).verdict is Verdict.UNCHANGED
