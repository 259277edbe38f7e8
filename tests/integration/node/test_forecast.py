"""The forecast against a real database: in order, bounded, with what bears upon it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.brake import Brake
from agent.domain.lane import Lane
from agent.node.forecast import Circumstances, Question, forecast_view
from agent.node.recurring import pause
from tests.integration.node.recurring_node import RecurringNode, at
from tests.unit.domain.builders import make_definition


@pytest.fixture
def node() -> RecurringNode:
    node = RecurringNode()
    node.now = at("00:00:01")
    return node


def look(node: RecurringNode, until: str = "2026-03-02T00:00:00Z", **asked: Any) -> dict[str, Any]:
    given = {name: asked.pop(name) for name in ("paused", "brakes") if name in asked}
    question = Question(now=node.now, until=at(until), **asked)
    return forecast_view(node.connection, question, Circumstances(place=node.ledger.place, **given))


def test_all_that_comes_in_order(node: RecurringNode) -> None:
    node.add("six", "0 */6 * * *")
    node.add("four", {"cron": "0 4 * * *", "duration": "1h"})
    once = make_definition(id="once", from_date=at("05:00"))
    node.ledger.accept(node.connection, once, node.now, lane=Lane.EXCLUSIVE)
    found = look(node)
    assert [(one["id"], one["starts_at"][11:16]) for one in found["fires"]] == [
        ("four", "04:00"), ("once", "05:00"), ("six", "06:00"), ("six", "12:00"), ("six", "18:00"),
        ("six", "00:00"),
    ]  # fmt: skip
    assert found["fires"][0]["ends_at"] == "2026-03-01T05:00:00Z"
    assert not found["truncated"]


def test_it_is_what_the_turn_then_does(node: RecurringNode) -> None:
    node.add("a", {"every": "7m", "jitter": "3m"})
    node.add("b", {"cron": "*/9 * * * *", "max_runs": 4})
    told = [one["nominal_at"] for one in look(node, "01:30")["fires"] if one["id"] == "b"]
    told_a = [one["nominal_at"] for one in look(node, "01:30", id="a")["fires"]]
    node.live("01:30")
    for name, expected in (("a", told_a), ("b", told)):
        assert [f"2026-03-01T{one[0]}" for one in node.occurrences(name)] == expected


def test_it_is_bounded_and_says_so(node: RecurringNode) -> None:
    node.add("r", {"every": "1s"})
    for number in range(40):
        node.add(f"n{number:02}", f"{number} 12 * * *")
    found = look(node, "2026-03-31T00:00:00Z", limit=10)
    assert found["truncated"]
    assert len(found["fires"]) == 10


def test_what_bears_upon_it_is_noted(node: RecurringNode) -> None:
    node.add("r", "0 3 * * *", timeout_s=90_000)
    node.add("held", "0 4 * * *")
    pause(node.planner(), node.rule("held"), "later")
    brake = Brake(id=1, kind="job", labels={}, reason="change freeze", by="ann",
                  created_at=node.now, expires_at=at("03:30"))  # fmt: skip
    fires = look(node, "2026-03-03T00:00:00Z", paused="work", brakes=[brake])["fires"]
    notes = {(one["id"], one["nominal_at"][8:10]): " / ".join(one["notes"]) for one in fires}
    assert "held by a brake: change freeze" in notes["r", "01"]
    assert "brake" not in notes["r", "02"]
    assert "it takes 1 d 1 h" in notes["r", "02"]
    assert "would be skipped" in notes["r", "02"]
    assert "paused: later" in notes["held", "01"]
    assert all("the node is paused: work" in one for one in notes.values())


def test_a_clock_change_is_noted(node: RecurringNode) -> None:
    node.add("gap", {"cron": "30 2 * * *", "timezone": "Europe/Berlin"})
    fires = look(node, "2026-03-30T00:00:00Z", id="gap")["fires"]
    moved = [one for one in fires if one["notes"]]
    assert [one["nominal_at"][:10] for one in moved] == ["2026-03-29"]


def test_instants_that_a_gap_swallows_are_told(node: RecurringNode) -> None:
    node.add("r", {"cron": "*/20 2 * * *", "timezone": "Europe/Berlin"})
    node.add("over", {"cron": "*/20 2 * * *", "timezone": "Europe/Berlin",
                      "ends_at": "2026-03-10T00:00:00Z"})  # fmt: skip
    note = "no instant: 02:00–03:00 does not exist on 2026-03-29 (Europe/Berlin)"
    gap = {"id": "r", "kind": "job", "at": "2026-03-29T01:00:00Z", "note": note}
    assert look(node, "2026-03-30T12:00:00Z", limit=500)["gaps"] == [gap]
    assert look(node, "2026-03-30T12:00:00Z", limit=5)["gaps"] == [], "only where fires are told"
    node.now = at("2026-03-28T12:00:00Z")
    node.turn()
    assert look(node, "2026-03-29T12:00:00Z")["gaps"] == [gap], "on a day without any fire"


def test_of_one_id_it_looks_as_far_as_its_next_fire(node: RecurringNode) -> None:
    node.add("yearly", "0 0 1 2 *")
    found = look(node, id="yearly", stretch=True)
    assert [one["starts_at"] for one in found["fires"]] == ["2027-02-01T00:00:00Z"]
    assert found["until"] == found["next_at"] == "2027-02-01T00:00:00Z"
    found = look(node, id="yearly")
    assert (found["fires"], found["next_at"]) == ([], "2027-02-01T00:00:00Z")
