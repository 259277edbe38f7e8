"""Why, against a real database: actions, recurring actions, and instants that have no row."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.errors import NotFound
from agent.domain.lane import Lane
from agent.domain.lifecycle import Reason
from agent.domain.recurring import Ended
from agent.domain.starting import Running, Slots, unstart
from agent.node.store import brakes
from agent.node.store.meta import write_meta
from agent.node.why import Look, explain
from tests.integration.node.recurring_node import RecurringNode, at
from tests.unit.domain.builders import make_definition


@pytest.fixture
def node() -> RecurringNode:
    node = RecurringNode()
    node.now = at("00:00:01")
    return node


def why(node: RecurringNode, action_id: str, *, down: bool = False) -> dict[str, Any]:
    running = tuple(node.running.values())
    slots = Slots.beside([Running(lane=a.lane, app_names=a.locks) for a in running], 2)
    look = Look(
        now=node.now, slots=None if down else slots, running=running, place=node.ledger.place
    )
    return explain(node.connection, action_id, look)


def accept(node: RecurringNode, name: str, lane: Lane = Lane.EXCLUSIVE, **fields: Any) -> None:
    definition = make_definition(id=name, **fields)
    node.ledger.accept(node.connection, definition, node.now, lane=lane)


def test_one_that_waits_for_its_place_names_who_has_it(node: RecurringNode) -> None:
    for name in ("first", "second", "third"):
        accept(node, name)
    node.turn("00:00:01")
    found = why(node, "third")
    assert found["answer"] == (
        "Its place, the exclusive one, is taken by first (sleep, since 2026-03-01T00:00:01Z), and "
        "1 more are due before it; it has been due for 0.00 s."
    )
    assert found["now"]["wait"] == "exclusive_busy"
    assert [one["id"] for one in found["now"]["held_by"]] == ["first"]
    assert [one["what"] for one in found["decisions"]] == ["accepted here", "waits"]
    assert found["decisions"][-1]["evidence"]["ahead"] == 1


def test_an_application_in_use(node: RecurringNode) -> None:
    accept(node, "user", Lane.PARALLEL, app_names=("db",))
    accept(node, "waits", Lane.PARALLEL, app_names=("web", "db"))
    node.turn("00:00:01")
    assert why(node, "waits")["answer"].startswith("The application db is in use by user (sleep")


def test_a_pause_and_a_brake_are_read_from_the_database(node: RecurringNode) -> None:
    accept(node, "a1", kind="deploy")
    values = {"kind": "deploy", "labels": {}, "reason": "incident", "by": "ann"}
    brake = brakes.insert(node.connection, values | {"expires_at": at("06:00")}, node.now)
    assert why(node, "a1")["answer"].startswith(
        f"Brake {brake.id} by ann holds kind deploy until 2026-03-01T06:00:00Z: incident"
    )
    write_meta(
        node.connection, paused=1, paused_at="2026-03-01T00:00:00Z", paused_by="bob",
        pause_reason="upgrade",
    )  # fmt: skip
    found = why(node, "a1")
    assert found["phase"] == "PAUSED"
    assert found["answer"].startswith(
        "This node is paused since 2026-03-01T00:00:00Z by bob (upgrade)"
    )


def test_without_a_daemon_only_what_stands_in_the_database_is_told(node: RecurringNode) -> None:
    accept(node, "due")
    accept(node, "later", from_date=at("09:00"))
    assert why(node, "due", down=True)["answer"].startswith("agentd is down")
    assert why(node, "later", down=True)["answer"].startswith("It is not due before 2026-03-01T09")


def test_what_ended_tells_every_decision_with_its_evidence(node: RecurringNode) -> None:
    node.add("r", {"every": "1 hour"})
    node.turn("01:00:01")
    occurrence = "r@2026-03-01T01:00:01Z"
    assert why(node, occurrence)["answer"].startswith("It is running: attempt 1")
    node.end(occurrence, "01:00:31", code=3)
    found = why(node, occurrence)
    assert found["answer"] == "Attempt 1 exited 3 after 30 s."
    assert found["now"] is None
    assert [(one["what"], one["reason"]) for one in found["decisions"]] == [
        ("accepted here", None), ("started attempt 1", "due"), ("ended FAILED", "exit_nonzero"),
    ]  # fmt: skip
    assert found["decisions"][-1]["evidence"]["code"] == 3
    assert found["decisions"][1]["evidence"]["late_s"] == 0.0


def test_a_cancel_before_the_start(node: RecurringNode) -> None:
    accept(node, "a1", from_date=at("09:00"))
    ending = unstart(node.action("a1"), Reason.CANCELLED_ON_NODE, node.now)
    node.ledger.move(node.connection, node.action("a1"), ending)
    assert why(node, "a1")["answer"] == "It was cancelled on this node before it started."


def test_a_recurring_action_tells_what_is_next_and_its_last_outcomes(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 * * * *"})
    assert why(node, "r")["answer"] == (
        "It starts next at 2026-03-01T01:00:00Z, in 59 min 59 s; 0 runs so far."
    )
    node.turn("01:00")
    node.end("r@2026-03-01T01:00:00Z", "01:00:05")
    found = why(node, "r")
    assert found["phase"] == "ACTIVE"
    assert found["decisions"][-1]["what"] == "r@2026-03-01T01:00:00Z DONE"
    node.planner().end(node.rule("r"), Ended.CANCELLED_ON_NODE)
    assert why(node, "r")["answer"] == (
        "It is over since 2026-03-01T01:00:05Z: it was cancelled on this node; 1 run so far."
    )


def test_every_instant_has_a_fate(node: RecurringNode) -> None:
    node.add("r", {"cron": "*/10 * * * *", "catch_up": "skip"})
    node.turn("00:10")
    node.end("r@2026-03-01T00:10:00Z")
    node.turn("01:05")  # agentd was away for an hour
    assert [one[0] for one in node.occurrences("r")] == ["00:10:00Z", "00:20:00Z"]

    def answer(instant: str) -> tuple[str, str]:
        found = why(node, f"r@2026-03-01T{instant}")
        return found["decisions"][0]["reason"], found["answer"]

    assert answer("01:10:00Z") == (
        "to_come",
        (
            "The instant 2026-03-01T01:10:00Z of r is to come in 5 min; its row is made when it is "
            "due."
        ),
    )
    fate, told = answer("00:40:00Z")
    assert fate == "folded"
    assert "is counted with others in r@2026-03-01T00:20:00Z" in told
    assert answer("00:45:00Z") == (
        "never",
        "2026-03-01T00:45:00Z is no instant of r; the next one after it is 2026-03-01T00:50:00Z.",
    )
    assert answer("00:10:00Z.b1")[0] == "no_backfill"
    assert answer("00:00:00Z")[0] == "before"
    folded = why(node, "r@2026-03-01T00:20:00Z")
    assert folded["answer"].startswith("5 instants of r from 2026-03-01T00:20:00Z to 2026-03-01T01")
    node.connection.execute("DELETE FROM actions WHERE id = 'r@2026-03-01T00:10:00Z'")
    assert answer("00:10:00Z")[0] == "settled"


@pytest.mark.parametrize(
    "name", ["none", "none@2026-03-01T00:00:00Z", "r@2026-13-01T00:00:00Z", "r@x"]
)
def test_what_names_nothing_is_not_found(node: RecurringNode, name: str) -> None:
    node.add("r", {"cron": "0 * * * *"})
    with pytest.raises(NotFound):
        why(node, name)


def test_a_rule_says_how_many_more_it_has_and_never_leaves_out_what_was_missed(
    node: RecurringNode,
) -> None:
    node.add("r", {"every": "1 hour", "catch_up": "skip"})
    node.turn("03:30")  # three were missed
    for hour in range(4, 18):
        node.turn(f"{hour:02}:00:01")
        node.end(f"r@2026-03-01T{hour:02}:00:01Z", f"{hour:02}:00:05", code=0)
    decisions = why(node, "r")["decisions"]
    assert decisions[0]["what"] == "4 older ones are not told here"
    assert decisions[0]["evidence"] == {"see": "agentctl list --recurring r"}
    assert decisions[1]["evidence"]["missed"]["count"] == 3
    assert len(decisions) == 12
    assert decisions[-1]["what"] == "r@2026-03-01T17:00:01Z DONE"


def test_a_rule_tells_why_an_occurrence_was_skipped(node: RecurringNode) -> None:
    node.add("r", {"every": "1 hour"})
    node.turn("01:00:01")
    node.turn("02:00:01")
    skipped = why(node, "r")["decisions"][-1]
    assert skipped["reason"] == "overlap"
    assert "r@2026-03-01T01:00:01Z" in skipped["evidence"]["error"]


def test_an_instant_that_is_due_is_not_planned_while_agentd_is_down(node: RecurringNode) -> None:
    node.add("r", {"every": "1 hour"})
    node.now = at("01:30")
    assert "in this moment" in why(node, "r")["answer"]
    assert why(node, "r", down=True)["answer"] == (
        "An instant of it has been due since 2026-03-01T01:00:01Z, and agentd is down: its "
        "`catch_up` decides when it is back; 0 runs so far."
    )
