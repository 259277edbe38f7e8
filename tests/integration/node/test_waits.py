"""What an action had waited for, once it has started late or may not start any more."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.lane import Lane
from agent.node.store import brakes
from agent.node.store.events import of_action
from agent.node.store.meta import write_meta
from agent.node.waits import Waits
from tests.integration.node.recurring_node import RecurringNode, at
from tests.integration.node.test_why import accept, why


@pytest.fixture
def node() -> RecurringNode:
    node = RecurringNode()
    node.now = at("00:00:01")
    node.waits = Waits(began=at("00:00"))
    return node


def evidence(node: RecurringNode, name: str) -> dict[str, Any]:
    """Of its last transition."""
    events = of_action(node.connection, node.action(name).row, 100)
    found: dict[str, Any] = dict(events[-1].body["evidence"])
    return found


def waited(node: RecurringNode, name: str) -> dict[str, Any]:
    found = evidence(node, name)
    for other in ("late_s", "revision"):
        found.pop(other, None)
    return found


def test_the_exclusive_place_was_taken_by_the_one_before(node: RecurringNode) -> None:
    for name in ("first", "second", "third"):
        accept(node, name)
    node.turn("00:00:01")
    assert waited(node, "first") == {}
    node.end("first", "00:00:04")
    node.end("second", "00:00:09")
    assert waited(node, "third") == {
        "waited_for": "exclusive_busy", "holder": "second", "until": "2026-03-01T00:00:09Z",
    }  # fmt: skip
    node.end("third", "00:00:10")
    assert why(node, "third")["answer"] == (
        "Attempt 1 exited 0 after 1.0 s, 8.0 s after it was due. It started late because its "
        "place, the exclusive one, was taken by second until 2026-03-01T00:00:09Z."
    )


def test_an_application_was_in_use_and_another_end_beside_it_is_not_it(node: RecurringNode) -> None:
    accept(node, "user", Lane.PARALLEL, app_names=("db",))
    accept(node, "other", Lane.PARALLEL, app_names=("web",))
    accept(node, "waits", Lane.PARALLEL, app_names=("db", "cache"))
    node.turn("00:00:01")
    node.end("user", "00:00:05")
    found = waited(node, "waits")
    assert (found["waited_for"], found["holder"], found["lock"]) == ("app_busy", "user", "db")


def test_a_pause_that_is_over(node: RecurringNode) -> None:
    node.turn()
    write_meta(
        node.connection, paused=1, paused_at="2026-03-01T00:00:02Z", paused_by="bob",
        pause_reason="upgrade",
    )  # fmt: skip
    accept(node, "a1", from_date=at("00:01"))
    node.turn("00:00:02")
    node.turn("00:01")
    write_meta(node.connection, paused=0, paused_at="", paused_by="", pause_reason="")
    node.turn("00:02")
    assert waited(node, "a1") == {
        "waited_for": "paused", "since": "2026-03-01T00:00:02Z", "by": "bob", "why": "upgrade",
        "until": "2026-03-01T00:02:00Z",
    }  # fmt: skip


def test_a_brake_that_was_lifted_held_only_what_it_names(node: RecurringNode) -> None:
    values = {"kind": "deploy", "labels": {}, "reason": "incident", "by": "ann"}
    brake = brakes.insert(node.connection, values | {"expires_at": at("00:05")}, node.now)
    accept(node, "held", kind="deploy")
    node.turn("00:00:01")
    accept(node, "other", Lane.PARALLEL, from_date=at("00:04"))
    node.turn("00:05")
    found = waited(node, "held")
    assert (found["waited_for"], found["brake"], found["by"]) == ("braked", brake.id, "ann")
    assert waited(node, "other") == {}  # nobody looked in time: nothing is made up


def test_a_window_that_passed_tells_what_was_in_the_way(node: RecurringNode) -> None:
    accept(node, "long")
    accept(node, "short", to_date=at("00:01"))
    accept(node, "deadline", start_deadline_s=30.0)
    node.turn("00:00:01")
    node.turn("00:01")
    for name in ("short", "deadline"):
        found = waited(node, name)
        assert (found["waited_for"], found["holder"]) == ("exclusive_busy", "long")
    assert why(node, "short")["answer"].endswith(
        "It could not start because its place, the exclusive one, was taken by long."
    )


def test_agentd_was_not_running(node: RecurringNode) -> None:
    accept(node, "late", from_date=at("00:10"))
    accept(node, "gone", from_date=at("00:10"), to_date=at("00:20"))
    accept(node, "behind", from_date=at("00:11"))
    node.waits = Waits(began=at("01:00"))
    node.runner_away = True  # as at the beginning of every life
    node.turn("01:00")
    node.runner_away = False
    node.turn("01:00:01")
    down = {"waited_for": "daemon_down", "until": "2026-03-01T01:00:00Z"}
    assert waited(node, "late") == down
    assert waited(node, "gone") == down
    node.end("late", "01:00:05")
    assert waited(node, "behind")["holder"] == "late"


def test_a_runner_that_was_away_for_longer_than_agentd(node: RecurringNode) -> None:
    accept(node, "late", from_date=at("00:59"))
    node.waits = Waits(began=at("01:00"))
    node.runner_away = True
    node.turn("01:00")
    node.runner_away = False
    node.turn("01:30")
    assert waited(node, "late")["waited_for"] == "runner_away"


def test_what_starts_in_time_says_nothing_and_parallel_places_must_have_been_full(
    node: RecurringNode,
) -> None:
    accept(node, "a", Lane.PARALLEL)
    node.turn("00:00:01")
    accept(node, "b", Lane.PARALLEL, from_date=at("00:00:02"))
    node.end("a", "00:00:03")  # the turn was late, and nothing else was in the way
    assert waited(node, "b") == {}
