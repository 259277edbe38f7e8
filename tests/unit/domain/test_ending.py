"""From evidence to verdict: exit records, retries, and the boot rules of seed 002."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.action import ERROR_CHARS_MAX, Transition, apply
from agent.domain.definition import OnRestart, Retry
from agent.domain.ending import Adopt, RunState, decide_end, decide_recovery
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.manifest import Manifest, Terms, agree_terms
from tests.unit.domain.builders import NOW, after, make_action, make_definition, make_record

S, R = ExecutionStatus, Reason


def started(**fields: Any) -> Any:
    return make_action(execution_status=S.STARTED, attempt=1, start_no=1, due_at=None, **fields)


def terms(**fields: Any) -> Terms:
    base: dict[str, Any] = {
        "timeout_s": None, "grace_s": 10, "on_restart": OnRestart.RERUN, "retry": Retry(),
    }  # fmt: skip
    return Terms(**(base | fields))


@pytest.mark.parametrize(
    ("record", "to", "reason"),
    [
        ({"code": 0}, S.FINISHED, R.EXIT_ZERO),
        ({"code": 3}, S.FAILED, R.EXIT_NONZERO),
        ({"code": 75}, S.FAILED, R.EXIT_NONZERO),
        ({"code": None, "signal": 9}, S.FAILED, R.SIGNALLED),
        ({"code": None, "signal": 15, "stop_cause": "timeout"}, S.FAILED, R.TIMEOUT),
        ({"code": 0, "stop_cause": "timeout"}, S.FAILED, R.TIMEOUT),
        ({"code": 0, "stop_cause": "withdrawn"}, S.WONT_FINISH, R.WITHDRAWN),
        ({"code": 143, "stop_cause": "cancelled_on_node"}, S.WONT_FINISH, R.CANCELLED_ON_NODE),
        ({"code": None, "signal": 15, "stop_cause": "window"}, S.WONT_FINISH, R.WINDOW_CLOSED),
        ({"code": None, "signal": 15, "stop_cause": "overlap"}, S.WONT_FINISH, R.OVERLAP),
        ({"code": None, "spawn_error": "unknown_kind: gone"}, S.FAILED, R.UNKNOWN_KIND),
        ({"code": None, "spawn_error": "exec_failed: bad"}, S.FAILED, R.SPAWN_FAILED),
        ({"code": None, "signal": 9, "stop_cause": "runner_stop"}, S.NULL, R.RERUN),
    ],
)
def test_what_an_exit_record_means(
    record: dict[str, Any], to: ExecutionStatus, reason: Reason
) -> None:
    transition = decide_end(started(), make_record(**record), terms(), NOW, 0.0)
    assert (transition.to, transition.reason) == (to, reason)
    apply(started(), transition)


def test_hold_mode_ends_well_with_its_window() -> None:
    record = make_record(code=None, signal=15, stop_cause="window")
    transition = decide_end(started(), record, terms(), NOW, 0.0, mode="hold")
    assert (transition.to, transition.reason) == (S.FINISHED, R.WINDOW_CLOSED)


def test_the_true_result_counts_if_it_ended_before_the_stop() -> None:
    stopping = started(stop_cause="withdrawn")
    ok = decide_end(stopping, make_record(code=0), terms(), NOW, 0.0)
    bad = decide_end(stopping, make_record(code=1), terms(retry=Retry(max_attempts=9)), NOW, 0.0)
    assert (ok.to, ok.reason) == (S.FINISHED, R.EXIT_ZERO)
    assert (bad.to, bad.reason) == (S.FAILED, R.EXIT_NONZERO), "nobody wants another attempt"


class TestRetry:
    def test_waits_longer_each_time_up_to_a_maximum(self) -> None:
        policy = Retry(max_attempts=5, delay_s=10, backoff=3, max_delay_s=60)
        waits = []
        action = started()
        for _ in range(4):
            transition = decide_end(action, make_record(code=1), terms(retry=policy), NOW, 0.0)
            assert transition.reason is R.RETRY
            assert transition.due_at is not None
            waits.append((transition.due_at - NOW).total_seconds())
            action = apply(action, transition)
            action = apply(action, Transition(to=S.STARTED, reason=R.DUE, at=NOW))
        last = decide_end(action, make_record(code=1), terms(retry=policy), NOW, 0.0)
        assert waits == [10, 30, 60, 60]
        assert (last.to, last.reason) == (S.FAILED, R.EXIT_NONZERO)

    def test_none_is_begun_that_the_window_would_not_let_start(self) -> None:
        action = started(to_date=after(20))
        policy = terms(retry=Retry(max_attempts=3, delay_s=30))
        transition = decide_end(action, make_record(code=1), policy, NOW, 0.0)
        assert (transition.to, transition.reason) == (S.FAILED, R.EXIT_NONZERO)

    def test_is_pointless_for_a_kind_that_is_not_there(self) -> None:
        record = make_record(code=None, spawn_error="unknown_kind: gone")
        policy = terms(retry=Retry(max_attempts=3))
        assert decide_end(started(), record, policy, NOW, 0.0).to is S.FAILED

    @given(st.integers(1, 60), st.floats(0, 0.999))
    def test_the_delay_is_bounded(self, failures: int, jitter: float) -> None:
        policy = Retry(max_attempts=100, delay_s=5, backoff=10, max_delay_s=600)
        action = started(failures=failures - 1)
        transition = decide_end(action, make_record(code=1), terms(retry=policy), NOW, jitter)
        assert transition.due_at is not None
        assert 4 <= (transition.due_at - NOW).total_seconds() <= 600


class TestRecovery:
    """DESIGN §3, "On start-up": by evidence, in this order."""

    def test_1_an_exit_record_is_the_true_result(self) -> None:
        found = decide_recovery(
            started(to_date=after(-5)), RunState.EXITED, make_record(code=7), terms(), NOW, 0.0
        )
        assert isinstance(found, Transition)
        assert (found.to, found.verdict) == (S.FAILED, "finished_while_away")
        assert apply(started(), found).exit_code == 7

    def test_2_a_script_that_runs_is_adopted_always(self) -> None:
        late = started(to_date=after(-5), should_be_executed=False)
        found = decide_recovery(late, RunState.RUNNING, None, terms(), NOW, 0.0)
        assert isinstance(found, Adopt)

    def test_3_one_that_never_started_is_not_counted(self) -> None:
        found = decide_recovery(started(), RunState.NEVER_STARTED, None, terms(), NOW, 0.0)
        assert isinstance(found, Transition)
        assert (found.to, found.reason) == (S.NULL, R.NEVER_STARTED)
        assert apply(started(), found).attempt == 0

    @pytest.mark.parametrize(
        ("fields", "on_restart", "to", "reason"),
        [
            ({}, OnRestart.RERUN, S.NULL, R.RERUN),
            ({}, OnRestart.NEVER, S.FAILED, R.INTERRUPTED),
            ({"to_date": after(-1)}, OnRestart.RERUN, S.WONT_FINISH, R.WINDOW_CLOSED),
            ({"to_date": NOW}, OnRestart.RERUN, S.WONT_FINISH, R.WINDOW_CLOSED),
            ({"to_date": after(1)}, OnRestart.RERUN, S.NULL, R.RERUN),
            ({"to_date": after(-1)}, OnRestart.NEVER, S.WONT_FINISH, R.WINDOW_CLOSED),
            ({"should_be_executed": False}, OnRestart.RERUN, S.WONT_FINISH, R.WITHDRAWN),
            ({"stop_cause": "cancelled_on_node"}, OnRestart.RERUN, S.WONT_FINISH,
             R.CANCELLED_ON_NODE),
        ],
    )  # fmt: skip
    def test_4_an_unknown_outcome(
        self, fields: dict[str, Any], on_restart: OnRestart, to: ExecutionStatus, reason: Reason
    ) -> None:
        action = started(**fields)
        found = decide_recovery(
            action, RunState.UNKNOWN, None, terms(on_restart=on_restart), NOW, 0.0
        )
        assert isinstance(found, Transition)
        assert (found.to, found.reason, found.verdict) == (to, reason, "outcome_unknown")
        moved = apply(action, found)
        assert moved.failures == 0, "a rerun is not counted against retry"


class TestTerms:
    """The manifest bounds, the definition tightens."""

    def test_the_shorter_timeout_and_the_fewer_attempts_win(self) -> None:
        manifest = Manifest(kind="k", timeout_s=60, retry=Retry(max_attempts=3))
        wide = make_definition(timeout_s=600, retry=Retry(max_attempts=9, delay_s=1))
        tight = make_definition(timeout_s=5, retry=Retry(max_attempts=2))
        assert agree_terms(wide, manifest).timeout_s == 60
        assert agree_terms(wide, manifest).retry == Retry(max_attempts=3, delay_s=1)
        assert agree_terms(tight, manifest).timeout_s == 5
        assert agree_terms(tight, manifest).retry.max_attempts == 2

    def test_never_from_either_side_wins(self) -> None:
        never, rerun = OnRestart.NEVER, OnRestart.RERUN
        for asked, bound in ((never, rerun), (rerun, never), (None, never), (never, never)):
            found = agree_terms(
                make_definition(on_restart=asked), Manifest(kind="k", on_restart=bound)
            )
            assert found.on_restart is never

    def test_the_manifests_grace_holds_where_nobody_asked(self) -> None:
        slow = Manifest(kind="k", grace_s=120)
        assert agree_terms(make_definition(), slow).grace_s == 120
        assert agree_terms(make_definition(grace_s=5), slow).grace_s == 5
        assert agree_terms(make_definition(grace_s=500), slow).grace_s == 120
        assert agree_terms(make_definition(), None).grace_s == 10


def test_an_error_is_kept_to_what_people_read() -> None:
    record = make_record(code=None, spawn_error="exec_failed: " + "x" * 9_000)
    moved = apply(started(), decide_end(started(), record, terms(), NOW, 0.0))
    assert moved.error is not None
    assert len(moved.error) == ERROR_CHARS_MAX
    assert moved.error.startswith("exec_failed: x")


def test_a_window_that_was_moved_while_it_ran_holds_for_the_next_attempt() -> None:
    action = started(from_date=after(900))
    again = decide_recovery(action, RunState.UNKNOWN, None, terms(), NOW, 0.0)
    assert isinstance(again, Transition)
    assert apply(action, again).due_at == after(900)


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({"code": None, "signal": 24, "limit": "cpu_s"},
         "exceeded its limit cpu_s (signal 24, SIGXCPU)"),
        ({"code": 1, "limit": "memory_bytes"}, "exceeded its limit memory_bytes (exit code 1)"),
        ({"code": None, "signal": 9, "stop_cause": "withdrawn", "survivors": 2},
         "2 of its processes survived KILL"),
        ({"code": None, "signal": 9, "stop_cause": "timeout", "survivors": 1},
         "stopped because its timeout passed; 1 of its processes survived KILL"),
        ({"code": None, "signal": 15, "stop_cause": "withdrawn"}, None),
    ],
)  # fmt: skip
def test_limits_and_survivors_are_told(record: dict[str, Any], error: str | None) -> None:
    transition = decide_end(started(), make_record(**record), terms(), NOW, 0.0)
    assert transition.outcome is not None
    assert transition.outcome.error == error
    told = {"limit", "survivors"} & set(record)
    assert all(transition.evidence[name] == record[name] for name in told)
