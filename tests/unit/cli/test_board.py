"""The board, line by line, at the sizes people have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from agent.cli.board import as_block, board
from agent.cli.lines import Line, width_of
from agent.cli.snapshot import Snapshot
from tests.fakes.board_values import ended, fire, running, status, summary

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
BRAKE = {
    "id": 3, "kind": "deploy", "labels": {}, "reason": "freeze", "by": "root",
    "created_at": "2026-01-15T11:00:00Z", "expires_at": "2026-01-15T13:00:00Z",
}  # fmt: skip


def seen(**members: Any) -> Snapshot:
    busy = {
        "status": status(
            running=[
                running("backup@2026-01-15T03:00:00Z"),
                running("b", attempt=2, stopping="timeout", progress=None),
            ],
            paused=True,
            pause_reason="kernel upgrade",
            brakes=[BRAKE],
        ),
        "waiting": [summary("q1")],
        "upcoming": [fire(), fire("0192f0a0-1234-7000-8000-000000000000", notes=["DST"])],
        "ended": [
            ended(),
            ended("e2", phase="DONE", execution_status="FINISHED", reason="exit_zero", exit_code=0),
        ],
    }
    return Snapshot(**{**busy, **members})


def drawn(snapshot: Snapshot, width: int, height: int) -> list[str]:
    lines = board(snapshot, NOW, width, height, foot="q ends")
    return [line.shown(width, colours=False) for line in lines]


def test_at_80_columns() -> None:
    assert drawn(seen(), 80, 24) == [
        "n1: agentd 0.1.0 is running, pid 100, up 1 d 2 h",
        "  actions  0 running, 1 queued, 2 scheduled",
        "  ended    12 finished, 1 failed, 0 not finished, 2 not started",
        "  core     none; this node works alone",
        "  runner   0.1.0 is running, pid 101",
        "  PAUSED   kernel upgrade; nothing starts until `agentctl resume`",
        "  BRAKE    3 holds kind deploy for 1 h more: freeze (by root)",
        "RUNNING",
        "  backup@2026…5T03:00:00Z  backup     [#####.......]  40 %   1 min 12 s  copying",
        "  b                        backup #2  stopping: timeout      1 min 12 s",
        "WAITING",
        "  q1  backup  due 1 min ago",
        "NEXT",
        "  in 4 min 12 s  nightly                               backup",
        "  in 4 min 12 s  0192f0a0-1234-7000-8000-000000000000  backup  DST",
        "LAST ENDED",
        "         12 s ago  FAILED  e1  backup  exit_nonzero (7)",
        "         12 s ago  DONE    e2  backup  exit_zero",
        "q ends",
    ]


def test_at_60_columns() -> None:
    assert drawn(seen(), 60, 20) == [
        "n1: agentd 0.1.0 is running, pid 100, up 1 d 2 h",
        "  actions  0 running, 1 queued, 2 scheduled",
        "  ended    12 finished, 1 failed, 0 not finished, 2 not",
        "           started",
        "  core     none; this node works alone",
        "  runner   0.1.0 is running, pid 101",
        "  PAUSED   kernel upgrade; nothing starts until `agentctl",
        "           resume`",
        "  BRAKE    3 holds kind deploy for 1 h more: freeze (by",
        "           root)",
        "RUNNING",
        "  backup@2026-…-15T03:00:00Z  [##....]  40 %      1 min 12 s",
        "  b                           stopping: timeout   1 min 12 s",
        "WAITING",
        "  q1  backup  due 1 min ago",
        "NEXT",
        "  in 4 min 12 s  nightly  backup",
        "LAST ENDED",
        "         12 s ago  FAILED  e1  backup  exit_nonzero (7)",
        "q ends",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [4, 10, 16, 24, 60])
def test_no_size_is_overrun(width: int, height: int) -> None:
    many = [running(f"r{n}") for n in range(40)]
    snapshot = seen(
        status=status(running=many, queued=500, store_problem="disk full " * 30),
        waiting=[summary(f"q{n}") for n in range(20)],
        upcoming=[fire(f"日本{n}") for n in range(20)],
        ended=[ended(f"e{n}") for n in range(20)],
    )
    lines = drawn(snapshot, width, height)
    assert len(lines) <= height
    assert all(width_of(line) <= width for line in lines)
    if height >= 16:
        assert lines[-1] == "q ends", "the foot has its place"
        assert not any(title.isupper() and after.isupper() for title, after in pairwise(lines)), (
            "no title without a row"
        )
    if height >= 24:
        used = sum(1 for line in lines if line.startswith("  "))
        assert used > height // 2, "the lists use the room there is"


def test_a_daemon_that_went_away_is_said_so_first() -> None:
    down = status(daemon="down", core={**status()["core"], "problem": "agentd is down"})
    away = seen(status=down, away_since=NOW - timedelta(seconds=75), problem="nobody listens")
    lines = drawn(away, 80, 24)
    assert lines[0].startswith("n1: agentd is DOWN since ")
    assert "(1 min 15 s)" in lines[0]
    assert "  nobody listens" in lines


def test_a_pipe_gets_everything_whole() -> None:
    many = seen(status=status(running=[running(f"r{n}") for n in range(40)]))
    block = list(as_block(board(many, NOW)))
    assert sum(1 for line in block if "[########............]  40 %" in line) == 40
    assert not any("\x1b" in line or "…" in line for line in block)


def test_news_is_what_differs_beside_the_clocks() -> None:
    first = seen(status=status(uptime_s=1.0, seq=1))
    assert first.essence() == seen(status=status(uptime_s=9.0, seq=5)).essence()
    assert first.essence() != seen(status=status(paused=True)).essence()
    assert first.document()["uptime_s"] == 1.0


def test_styles_say_nothing_that_the_text_does_not() -> None:
    for line in board(seen(), NOW, 80, 24):
        assert isinstance(line, Line)
        if line.style in ("warn", "bad"):
            words = ("PAUSED", "BRAKE", "FAILED", "stopping", "DOWN", "NOT_")
            assert any(word in line.text for word in words), line
