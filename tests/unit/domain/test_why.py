"""The sentences: one for every word, each with its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.domain import ending
from agent.domain.brake import Brake
from agent.domain.definition import Approval, ApprovalState, Owner
from agent.domain.instants import format_instant
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.recurring import Ended
from agent.domain.spans import span_text
from agent.domain.starting import Wait
from agent.domain.waited import DAEMON_DOWN, tell_waited
from agent.domain.waited import TELLERS as WAITED_TELLERS
from agent.domain.why import TELLERS, VERDICTS, Told, tell_again, tell_ended, tell_running
from agent.domain.why_rule import ENDINGS, FATES, Fate
from agent.domain.why_waiting import PARKED, PENDING_APPROVAL, Holder, Standing, tell_waiting
from agent.domain.why_waiting import TELLERS as WAIT_TELLERS
from tests.unit.domain.builders import NOW, after, make_action

S = ExecutionStatus


def test_every_reason_has_a_sentence() -> None:
    assert {reason.value for reason in Reason} == set(TELLERS), "agent/domain/why.py"


def test_every_wait_has_a_sentence() -> None:
    missing = {wait.value for wait in Wait} - set(WAIT_TELLERS)
    assert not missing, "agent/domain/why_waiting.py"


def test_every_wait_that_is_over_has_a_clause() -> None:
    words = {wait.value for wait in Wait} - {Wait.NOT_DUE.value} | {DAEMON_DOWN}
    assert words == set(WAITED_TELLERS), "agent/domain/waited.py"
    assert tell_waited({}) is None
    for word in (*words, "of a later version"):
        told = tell_waited({"waited_for": word})
        assert told is not None
        assert "None" not in told


@pytest.mark.parametrize(
    ("evidence", "clause"),
    [
        ({"waited_for": "app_busy", "lock": "db", "holder": "a"},
         "the application db was in use by a"),
        ({"waited_for": "app_busy", "lock": "@r", "holder": "r@x"}, "an occurrence of r ran, r@x"),
        ({"waited_for": "paused", "by": "bob", "why": "upgrade", "until": "2026-03-01T00:00:00Z"},
         "this node was paused by bob (upgrade) until 2026-03-01T00:00:00Z"),
        ({"waited_for": "braked", "brake": 3, "by": "ann", "what": "kind x", "why": "incident"},
         "brake 3 by ann held kind x (incident)"),
        ({"waited_for": "daemon_down", "until": "2026-03-01T00:00:00Z"},
         "agentd was not running until 2026-03-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_what_was_waited_for(evidence: dict[str, Any], clause: str) -> None:
    assert tell_waited(evidence) == clause


def test_every_verdict_every_end_of_a_rule_and_every_fate_has_a_sentence() -> None:
    verdicts = {
        ending.ADOPTED, ending.FINISHED_WHILE_AWAY, ending.NEVER_STARTED, ending.OUTCOME_UNKNOWN,
    }  # fmt: skip
    assert verdicts == set(VERDICTS)
    assert {word.value for word in Ended} == set(ENDINGS), "agent/domain/why_rule.py"
    assert set(Fate) == set(FATES)


def test_every_sentence_can_be_told_of_the_barest_action() -> None:
    """No number is needed that may be missing."""
    for status in S:
        for reason in Reason:
            action = make_action(execution_status=status, reason=reason.value, due_at=None)
            told = tell_ended(Told(action=action, now=NOW))
            assert told.endswith(".")
            assert "None" not in told
    for wait in WAIT_TELLERS:
        told = tell_waiting(wait, make_action(parked="new words"), Standing(now=NOW))
        assert told.endswith(".")
        assert "None" not in told


def ended(status: ExecutionStatus, reason: Reason | str, **fields: Any) -> Any:
    values: dict[str, Any] = {"started_at": NOW, "ended_at": after(65), "attempt": 1}
    values |= {"due_at": None} | fields
    return make_action(execution_status=status, reason=str(reason), **values)


@pytest.mark.parametrize(
    ("action", "more", "sentence"),
    [
        (
            ended(S.FINISHED, "exit_zero", exit_code=0), {"late_s": 0.25},
            "Attempt 1 exited 0 after 1 min 5 s, 0.25 s after it was due.",
        ),
        (
            ended(S.FAILED, "exit_nonzero", exit_code=3, attempt=2), {"attempts_max": 2},
            "Attempt 2 of 2 exited 3 after 1 min 5 s; no attempt is left.",
        ),
        (
            ended(S.FAILED, "timeout"), {"timeout_s": 60.0},
            "Attempt 1 was stopped because its timeout of 1 min passed after 1 min 5 s.",
        ),
        (
            ended(S.FAILED, "timeout"),
            {"timeout_s": 60.0, "evidence": {
                "stopped_at": format_instant(after(60)), "killed_at": format_instant(after(65)),
            }},
            ("Attempt 1 was stopped because its timeout of 1 min passed after 1 min 5 s (TERM "
            "after 1 min, and KILL 5.0 s later, as it still ran)."),
        ),
        (
            ended(S.WONT_FINISH, "cancelled_on_node"),
            {"was_running": True, "evidence": {"stopped_at": format_instant(after(62))}},
            ("It was cancelled on this node while attempt 1 ran, and was stopped after 1 min 5 s "
            "(TERM after 1 min 2 s; it ended 3.0 s later)."),
        ),
        (
            ended(S.FAILED, "signalled", signal=24), {"evidence": {"limit": "cpu_s"}},
            ("Attempt 1 exceeded its limit cpu_s and was ended by signal 24 (SIGXCPU) after "
            "1 min 5 s."),
        ),
        (
            ended(S.FAILED, "exit_nonzero", exit_code=1), {"evidence": {"limit": "memory_bytes"}},
            "Attempt 1 exited 1 after 1 min 5 s, beyond its limit memory_bytes.",
        ),
        (
            ended(S.FINISHED, "exit_zero", exit_code=0),
            {"late_s": 7.9, "start": {
                "waited_for": "exclusive_busy", "holder": "a0", "until": format_instant(NOW),
            }},
            ("Attempt 1 exited 0 after 1 min 5 s, 7.9 s after it was due. It started late because "
            f"its place, the exclusive one, was taken by a0 until {format_instant(NOW)}."),
        ),
        (
            ended(S.FAILED, "interrupted", verdict="outcome_unknown"), {},
            ("Attempt 1 was interrupted, and its kind or definition says on_restart = never, so it "
            "is not run again; it had been started, and neither agentd nor the runner saw how it "
            "ended."),
        ),
        (
            ended(S.FINISHED, "exit_zero", verdict="finished_while_away"), {},
            ("Attempt 1 exited 0 after 1 min 5 s; it ended while no agentd was there, and the "
            "runner had kept the record."),
        ),
        (
            ended(S.WONT_START, "window_passed", attempt=0, started_at=None, to_date=after(60)), {},
            ("Its window closed at 2026-03-01T12:01:00Z before it could start: it was due at "
            "2026-03-01T12:00:00Z and had waited 1 min 5 s."),
        ),
        (
            ended(S.WONT_START, "window_passed", attempt=0, to_date=after(-60)), {},
            "Its window had closed at 2026-03-01T11:59:00Z, 1 min before it came here.",
        ),
        (
            ended(S.WONT_START, "missed", attempt=0, started_at=None, start_deadline_s=30.0), {},
            ("Its start deadline of 30 s passed before it could start: it was due at "
            "2026-03-01T12:00:00Z and had waited 1 min 5 s."),
        ),
        (
            ended(
                S.WONT_START, "missed", attempt=0, recurring_id="r",
                missed={"first": "F", "last": "L", "count": 7, "why": "catch_up is skip"},
            ), {},
            "7 instants of r from F to L were missed and are not made up for (catch_up is skip).",
        ),
        (
            ended(S.WONT_START, "withdrawn", attempt=0, owner=Owner.CORE), {},
            "It was withdrawn by the core before it started.",
        ),
        (
            ended(S.WONT_FINISH, "cancelled_on_node"), {"was_running": True},
            "It was cancelled on this node while attempt 1 ran, and was stopped after 1 min 5 s.",
        ),
        (
            ended(S.WONT_FINISH, "cancelled_on_node"), {},
            "It was cancelled on this node while it waited to be tried again after attempt 1.",
        ),
        (
            ended(S.WONT_FINISH, "window_closed", to_date=after(60)), {"was_running": True},
            ("Attempt 1 was stopped after 1 min 5 s because its window closed at "
            "2026-03-01T12:01:00Z."),
        ),
        (
            ended(S.WONT_START, "overlap", attempt=0, error="r@x still runs"), {},
            "It was skipped (overlap) because an earlier occurrence had not ended: r@x still runs.",
        ),
        (
            ended(
                S.WONT_START, "rejected", attempt=0,
                approval=Approval(state=ApprovalState.REJECTED, by="ann", reason="not now"),
            ), {},
            "Its approval was refused by ann: not now.",
        ),
        (
            ended(S.FAILED, "spawn_failed", error="unsafe_script: mode 0777"), {},
            "Attempt 1 could not be started: unsafe_script: mode 0777.",
        ),
        (
            ended(S.FAILED, "a_word_of_next_year"), {},
            "It ended with the reason a_word_of_next_year.",
        ),
    ],
)  # fmt: skip
def test_how_it_ended(action: Any, more: dict[str, Any], sentence: str) -> None:
    assert tell_ended(Told(action=action, now=after(100), **more)) == sentence


def test_why_it_runs() -> None:
    action = ended(S.STARTED, "due", ended_at=None, verdict="adopted", to_date=after(600))
    assert tell_running(Told(action=action, now=after(30), late_s=2.0)) == (
        "It is running: attempt 1, started 2026-03-01T12:00:00Z (30 s ago, 2.0 s after it was "
        "due); it is stopped at its window's end, 2026-03-01T12:10:00Z; it still ran when a new "
        "agentd came, which took it over."
    )
    stopping = replace(action, stop_cause="withdrawn", verdict=None)
    told = tell_running(Told(action=stopping, now=after(30)))
    assert told.endswith("(30 s ago), and it is being stopped (withdrawn).")


def test_why_it_is_tried_again() -> None:
    action = ended(S.NULL, "retry", due_at=after(90), error="exit code 3", failures=1)
    told = Told(
        action=action, now=after(70), attempts_max=3,
        evidence={"failure": "exit_nonzero", "failures": 1},
    )  # fmt: skip
    assert tell_again(told) == (
        "Attempt 1 failed (exit_nonzero: exit code 3) and is tried again, with growing delays; "
        "1 of 3 attempts are used up."
    )


LONG = Holder(id="long", kind="sleep", since=after(-300))
BRAKE = Brake(id=4, kind="sleep", labels={}, reason="incident 7", by="ann", created_at=NOW)


@pytest.mark.parametrize(
    ("wait", "fields", "standing", "sentence"),
    [
        ("not_due", {"due_at": after(90)}, {},
         "It is not due before 2026-03-01T12:01:30Z, in 1 min 30 s."),
        ("paused", {"due_at": after(-60)},
         {"paused_since": after(-120), "paused_by": "ann", "pause_reason": "upgrade"},
         ("This node is paused since 2026-03-01T11:58:00Z by ann (upgrade); `agentctl resume` lets "
         "it start; it has been due for 1 min.")),
        ("runner_away", {"due_at": NOW}, {"runner_problem": "no runner at X"},
         ("The runner cannot be reached, and nothing starts without it: no runner at X; it has "
         "been due for 0.00 s.")),
        ("exclusive_busy", {"due_at": after(-5)}, {"exclusive": (LONG,), "ahead": 2},
         ("Its place, the exclusive one, is taken by long (sleep, since 2026-03-01T11:55:00Z), and "
         "2 more are due before it; it has been due for 5.0 s.")),
        ("app_busy", {"due_at": after(-5), "app_names": ("web", "db")},
         {"same_app": (replace(LONG, locks=("db",)),)},
         ("The application db is in use by long (sleep, since 2026-03-01T11:55:00Z); it has been "
         "due for 5.0 s.")),
        ("parallel_full", {"due_at": after(-5)}, {"parallel": (LONG,) * 7, "parallel_max": 7},
         "All 7 parallel places (max_parallel) are taken, by "
         + ", ".join(["long (sleep, since 2026-03-01T11:55:00Z)"] * 5)
         + " and 2 more; it has been due for 5.0 s."),
        ("braked", {"due_at": after(-5), "to_date": after(600)}, {"brake": BRAKE},
         ("Brake 4 by ann holds kind sleep until it is lifted: incident 7; it has been due for "
         "5.0 s; its window closes at 2026-03-01T12:10:00Z.")),
        ("clock_doubtful", {"due_at": after(-5)}, {"clock_problem": "it shows 1970"},
         ("The wall clock is doubtful, and nothing starts by it until it is confirmed: it shows "
         "1970; it has been due for 5.0 s.")),
        (PENDING_APPROVAL, {"due_at": after(5)}, {}, "It waits for somebody's approval."),
        (PARKED, {"parked": "no such word"}, {},
         "It is put aside and does not start: no such word."),
        ("a_word_of_next_year", {"due_at": after(5)}, {}, "It waits (a_word_of_next_year)."),
    ],
)  # fmt: skip
def test_why_it_waits(
    wait: str, fields: dict[str, Any], standing: dict[str, Any], sentence: str
) -> None:
    assert tell_waiting(wait, make_action(**fields), Standing(now=NOW, **standing)) == sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.004, "0.00 s"), (9.94, "9.9 s"), (60, "1 min"), (3661, "1 h 1 min"), (-90, "1 min 30 s")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span_text(seconds) == text
