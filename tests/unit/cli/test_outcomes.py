"""What a dispatch was answered, in words that claim nothing that was not done."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.cli.outcomes import ended_line, outcome_told

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
ASKED = {"rule": "r", "reason": "big", "why": "the rule r requires approval: big"}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"outcome": "dry_run", "would_be": "queued"},
         "would be queued on n (dry run: nothing was changed)"),
        ({"outcome": "dry_run", "would_be": "pending_approval", **ASKED},
         ("would wait for approval on n: the rule r requires approval: big "
         "(dry run: nothing was changed)")),
        ({"outcome": "dry_run", "would_be": "suppressed", "rule": "r", "reason": "no"},
         "would be suppressed on n: rule r: no (dry run: nothing was changed)"),
        ({"outcome": "queued", "action_id": "a"}, "a queued on n"),
    ],
)  # fmt: skip
def test_one(outcome: dict[str, Any], expected: str) -> None:
    assert outcome_told(outcome, "n", NOW) == expected


def test_a_dry_run_of_several_names_nothing_that_is_not_there() -> None:
    part = {"node": "n", "outcome": "dry_run", "would_be": "pending_approval", "action_id": "a"}
    whole = {"outcome": "dry_run", "would_be": "pending_approval", "correlation_id": "c"}
    told = outcome_told({**whole, "actions": [{**part, **ASKED}]}, None, NOW).splitlines()
    assert told[0] == "would wait for approval on 1 node (dry run: nothing was changed)"
    assert told[2].split(maxsplit=3) == ["n", "pending_approval", "-", ASKED["why"]]


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("PENDING_APPROVAL",
         "a PENDING_APPROVAL: nobody has decided yet (corectl approve a)"),
        ("QUEUED", "a QUEUED: it has not ended yet (corectl show a says why)"),
        ("FAILED", "a FAILED (exit code 3, exit_nonzero)"),
    ],
)  # fmt: skip
def test_what_was_waited_for(phase: str, expected: str) -> None:
    document = {"id": "a", "phase": phase, "exit_code": 3, "reason": "exit_nonzero", "error": None}
    assert ended_line(document) == expected
