"""Every reason that the lifecycle knows is a sentence; a newer one is shown as it came."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.cli.sentences import explain
from agent.domain.lifecycle import FINAL, TABLE, ExecutionStatus, State

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
ENDINGS = sorted(
    (to.value, reason.value) for (_, to), reasons in TABLE.items() if to in FINAL
    for reason in reasons
)  # fmt: skip
WAITS = sorted(reason.value for reason in TABLE[State.STARTED, ExecutionStatus.NULL])


def action(**members: Any) -> dict[str, Any]:
    return {"execution_status": "NULL", "phase": "QUEUED", "due_at": None, **members}


@pytest.mark.parametrize(
    ("missed", "told"),
    [
        ({"count": 1}, "Its instant passed without a start."),
        ({"count": 7, "counted_all": True}, "It stands for 7 instants that passed without"),
        ({"count": 7, "counted_all": False}, "It stands for at least 7 instants"),
    ],
)
def test_a_row_that_stands_for_missed_instants_says_so(missed: dict[str, Any], told: str) -> None:
    ended = action(execution_status="WONT_START", reason="missed", missed=missed)
    assert explain(ended, NOW).startswith(told)


@pytest.mark.parametrize("reason", ["unknown_kind", "spawn_failed", "dry_run_unsupported"])
def test_how_long_a_script_took_that_never_ran_is_not_told(reason: str) -> None:
    at = "2026-01-15T11:59:00Z"
    ended = action(execution_status="FAILED", reason=reason, started_at=at, ended_at=at)
    assert " after " not in explain(ended, NOW)


@pytest.mark.parametrize(("status", "reason"), ENDINGS)
def test_every_ending_is_a_sentence(status: str, reason: str) -> None:
    told = explain(action(execution_status=status, reason=reason, exit_code=7, signal=9), NOW)
    assert told[0].isupper()
    assert told.endswith(".")
    assert reason not in told or "_" not in reason
    assert "?" not in told


@pytest.mark.parametrize("reason", WAITS)
def test_every_return_to_waiting_is_explained(reason: str) -> None:
    told = explain(action(reason=reason, due_at="2026-01-15T11:59:00Z"), NOW)
    assert told.startswith("It has been due for 1 min and waits for its turn: ")


def test_a_reason_of_a_newer_version_is_shown() -> None:
    assert "eaten_by_a_dog" in explain(
        action(execution_status="FAILED", reason="eaten_by_a_dog"), NOW
    )


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"phase": "SCHEDULED", "due_at": "2026-01-15T12:05:00Z"}, "It starts in 5 min."),
        ({"phase": "PENDING_APPROVAL"}, "It waits for approval."),
        ({"phase": "REJECTED"}, "It was rejected, and never started."),
        ({"phase": "EXPIRED"}, "Its approval expired before it started."),
        ({"phase": "PAUSED", "due_at": "2026-01-15T11:59:00Z"},
         "It has been due for 1 min, but this node is paused."),
        ({"execution_status": "STARTED", "started_at": "2026-01-15T11:59:00Z"},
         "It has been running for 1 min."),
        ({"execution_status": "STARTED", "started_at": "2026-01-15T11:59:00Z",
          "stopping": "withdrawn"},
         "It has been running for 1 min and is being stopped (withdrawn)."),
        ({"execution_status": "FAILED", "reason": "exit_nonzero", "exit_code": 7,
          "started_at": "2026-01-15T11:00:00Z", "ended_at": "2026-01-15T11:00:03Z",
          "verdict": "finished_while_away"},
         ("It ran and exited 7 after 3.0 s; "
          "it ended while agentd was away, and the runner kept the result.")),
    ],
)  # fmt: skip
def test_sentences(members: dict[str, Any], told: str) -> None:
    assert explain(action(**members), NOW) == told
