"""What a row of missed instants says: why they were not planned in their time, and not made up."""

from __future__ import annotations

from agent.domain.clock_doubt import Mark, encode_mark
from agent.domain.starting import Slots
from agent.node.gaps import GAPS_MAX, Gaps
from agent.node.recurring import pause, resume
from agent.node.store import events
from tests.integration.node.recurring_node import RecurringNode, at

HOURLY = {"cron": "0 * * * *"}
FREE, AWAY = Slots(parallel_max=1), Slots(parallel_max=1, runner_away=True)


def begun() -> RecurringNode:
    """A rule of every hour, since just after midnight."""
    node = RecurringNode()
    node.now = at("00:00:01")
    node.add("r", HOURLY)
    return node


def missed_why(node: RecurringNode, name: str = "r") -> str:
    missed = node.action(f"{name}@2026-03-01T01:00:00Z").missed
    assert missed is not None
    return str(missed["why"])


def test_a_downtime_is_told_with_its_bounds() -> None:
    node = begun()
    kept = Mark(wall=at("00:50"), boottime_s=1.0, boot_id="b")
    node.gaps.begins(encode_mark(kept), at("03:30"))
    node.turn("03:30")
    assert missed_why(node) == (
        "agentd was not running until 2026-03-01T03:30:00Z (the last time it kept before: "
        "2026-03-01T00:50:00Z); catch_up is latest: only the latest one, 2026-03-01T03:00:00Z, runs"
    )
    assert missed_why(node) in (node.action("r@2026-03-01T01:00:00Z").error or "")


def test_a_pause_of_the_node_is_told_with_who_and_why() -> None:
    node = begun()
    view = {"paused_at": "2026-03-01T00:40:00Z", "paused_by": "ann", "pause_reason": "a move"}
    node.gaps.resumed(view, at("03:30"))
    node.turn("03:30")
    assert missed_why(node).startswith(
        "this node was paused from 2026-03-01T00:40:00Z to 2026-03-01T03:30:00Z by ann: a move; "
    )


def test_a_pause_of_the_rule_is_told_and_only_of_that_rule() -> None:
    node = begun()
    node.add("other", HOURLY)
    node.now = at("00:30")
    pause(node.planner(), node.rule("r"), "a move")
    node.now = at("03:30")
    resume(node.planner(), node.rule("r"))
    node.turn()
    assert missed_why(node).startswith(
        "the recurring action was paused from 2026-03-01T00:30:00Z to 2026-03-01T03:30:00Z: a move"
    )
    assert "paused" not in missed_why(node, "other")


def test_a_pause_that_is_forgotten_is_not_told() -> None:
    node = begun()
    pause(node.planner(), node.rule("r"), "a move")
    node.connection.execute("DELETE FROM events")
    node.now = at("03:30")
    resume(node.planner(), node.rule("r"))
    assert len(events.of_rule(node.connection, "r", 9)) == 1
    node.turn()
    assert missed_why(node).startswith("catch_up is latest")


def test_a_runner_that_was_away_and_a_doubted_clock_are_told() -> None:
    gaps = Gaps()
    gaps.turned(FREE, at("00:10"), None)
    gaps.turned(AWAY, at("00:20"), None)
    gaps.turned(AWAY, at("00:30"), None)
    assert gaps.during(at("00:15"), at("00:30")) == ()
    gaps.turned(FREE, at("00:40"), None)
    assert gaps.during(at("00:15"), at("00:30")) == (
        "agentd had no runner until 2026-03-01T00:40:00Z",
    )
    assert gaps.during(at("00:41"), at("00:50")) == ()
    doubtful = Slots(parallel_max=1, clock_doubtful=True)
    gaps.turned(doubtful, at("09:00"), "it jumped")
    gaps.turned(FREE, at("09:01"), None)
    (why,) = gaps.during(at("00:50"), at("08:00"))
    assert why == "the clock was in doubt (it jumped) until 2026-03-01T09:01:00Z"


def test_what_is_remembered_is_bounded() -> None:
    gaps = Gaps()
    for minute in range(GAPS_MAX * 2):
        slots = AWAY if minute % 2 else FREE
        gaps.turned(slots, at(f"{minute // 60:02}:{minute % 60:02}"), None)
    assert len(gaps.during(at("00:00"), at("23:00"))) <= GAPS_MAX


def test_a_late_run_is_marked_in_the_evidence_of_its_start() -> None:
    node = begun()
    node.turn("01:30")
    row = node.action("r@2026-03-01T01:00:00Z").row
    evidence = events.of_action(node.connection, row, 9)[-1].body["evidence"]
    assert evidence["run_late_by"] == "catch_up"
    assert evidence["planned_for"] == "2026-03-01T01:00:00Z"
    node.end("r@2026-03-01T01:00:00Z")
    node.turn("02:00:05")
    row = node.action("r@2026-03-01T02:00:00Z").row
    assert "run_late_by" not in events.of_action(node.connection, row, 9)[-1].body["evidence"]


def test_a_runner_that_comes_with_agentd_is_not_told_apart() -> None:
    gaps = Gaps()
    gaps.begins(encode_mark(Mark(wall=at("00:00"), boottime_s=1.0, boot_id="b")), at("00:10"))
    gaps.turned(AWAY, at("00:10"), None)
    gaps.turned(FREE, at("00:10:01"), None)
    assert len(gaps.during(at("00:05"), at("00:10"))) == 1
