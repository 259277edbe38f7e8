"""What holds a node back, as the list of nodes shows it: about now, not about last year."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.cli.core_commands.nodes import _held_back

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
QUIET: dict[str, Any] = {
    "decommissioned_at": None, "fenced_count": 0, "fenced_at": None, "skew_ms": 0, "silent": False,
    "freezes": [], "brakes": [],
}  # fmt: skip
FREEZE = {"id": "f", "kind": "backup", "state": "lifted_on_node"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, ""),
        ({"fenced_count": 2, "fenced_at": "2026-01-15T11:59:00Z"}, "fenced 1 min ago"),
        ({"fenced_count": 2, "fenced_at": "2026-01-13T11:59:00Z"}, ""),
        ({"skew_ms": -9_000}, "clock behind by 9.0 s"),
        ({"skew_ms": -9_000, "silent": True}, ""),
        ({"freezes": [FREEZE]}, "frozen for backup (lifted on node)"),
        ({"decommissioned_at": "2026-01-15T11:59:00Z"}, "out of service"),
        ({"pause": {"paused": True}}, "paused"),
    ],
)
def test_what_holds_a_node_back(members: dict[str, Any], expected: str) -> None:
    assert _held_back({**QUIET, **members}, NOW) == expected
