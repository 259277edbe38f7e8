"""Recurring actions that this version cannot read or plan: what they do not do is told."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import pytest

from agent.domain.errors import InvalidDocument
from agent.domain.recurring import Ended
from agent.node.recurring_views import rule_view
from agent.node.store import recurring
from agent.node.stored import count_rules
from agent.node.sync.push import _state_part
from agent.wire.definition import decode_definition
from tests.integration.node.recurring_node import RecurringNode, at

HOURLY = {"cron": "0 * * * *"}


@pytest.fixture
def node() -> RecurringNode:
    node = RecurringNode()
    node.now = at("00:00:01")
    return node


def make_unreadable(node: RecurringNode, name: str, word: str) -> None:
    node.connection.execute(
        "UPDATE recurring SET definition = replace(definition, ?, 'blue moon') WHERE id = ?",
        (word, name),
    )


def missed(node: RecurringNode, action_id: str) -> dict[str, Any]:
    found = node.action(action_id).missed
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("unreadable", [False, True])
def test_an_end_that_a_parked_rule_would_have_followed_is_told(
    node: RecurringNode, unreadable: bool
) -> None:
    node.add("first", HOURLY)
    node.add("behind", {"after": "first", "overlap": "queue"})
    if unreadable:
        make_unreadable(node, "behind", "queue")
    else:
        recurring.park(node.connection, "behind", "its zone is gone")
    node.turn("01:00")
    node.end("first@2026-03-01T01:00:00Z", "01:00:10")
    told = missed(node, "behind@2026-03-01T01:00:10Z")
    assert told["count"] == 1
    assert ("cannot be read" if unreadable else "its zone is gone") in told["why"]
    recurring.unpark(node.connection)
    node.turn("01:30")
    assert len(node.occurrences("behind")) == 1, "it is not followed later"


@pytest.mark.parametrize("how", ["edit", "withdraw", "remove"])
@pytest.mark.parametrize("unreadable", [False, True])
def test_what_a_parked_rule_did_not_plan_is_told_before_it_changes(
    node: RecurringNode, how: str, unreadable: bool
) -> None:
    node.add("r", HOURLY)
    if unreadable:
        make_unreadable(node, "r", "0 * * * *")
    else:
        recurring.park(node.connection, "r", "its zone is gone")
    node.now = at("03:30")
    if how == "edit":
        node.add("r", HOURLY, revision=2)
    elif how == "withdraw":
        node.add("r", HOURLY, revision=2, should_be_executed=False)
    else:
        node.planner().end(node.rule("r"), Ended.WITHDRAWN)
    told = missed(node, "r@2026-03-01T01:00:00Z")
    assert (told["last"], told["counted_all"]) == ("2026-03-01T03:30:00Z", False)
    node.turn("04:00")
    assert len(node.occurrences("r")) == (2 if how == "edit" else 1)


def test_a_parked_rule_that_missed_nothing_tells_nothing(node: RecurringNode) -> None:
    node.add("r", HOURLY)
    recurring.park(node.connection, "r", "its zone is gone")
    node.now = at("00:30")
    node.add("r", HOURLY, revision=2)
    assert node.occurrences("r") == []


def test_the_core_is_shown_the_stored_definition(node: RecurringNode) -> None:
    node.add("r", HOURLY, payload={"n": 1})
    make_unreadable(node, "r", "0 * * * *")
    item = next(one for one in _state_part(node.connection, "r:")[0] if one["action_id"] == "r")
    assert item["definition"]["payload"] == {"n": 1}
    assert item["definition"]["schedule"]["cron"] == "blue moon"
    view = rule_view(node.connection, node.rule("r"), node.ledger.place, node.now)
    assert (view["payload"], view["schedule"]["cron"]) == ({"n": 1}, "blue moon")


def test_counting_them_reads_no_definition(node: RecurringNode) -> None:
    read: list[str] = []
    node.connection.set_trace_callback(read.append)
    assert count_rules(node.connection) == {"active": 0, "paused": 0, "ended": 0}
    node.connection.set_trace_callback(None)
    plan = [row["detail"] for row in node.connection.execute(f"EXPLAIN QUERY PLAN {read[0]}")]
    looks = [one for one in plan if " recurring " in one]
    assert len(looks) == 3, plan
    assert all("COVERING INDEX" in one for one in looks), plan


def test_no_instant_is_caught_up_that_lies_further_back_than_a_year() -> None:
    catch_up = {"mode": "all", "max_age_s": 50 * 365 * 86_400}
    document = {"id": "r", "kind": "job", "schedule": {"cron": "* * * * * *", "catch_up": catch_up}}
    with pytest.raises(InvalidDocument, match=r"schedule\.catch_up\.max_age_s"):
        decode_definition(document, owner="node")


def test_the_slowest_turn_that_is_accepted_stays_short(node: RecurringNode) -> None:
    """A year of seconds: found and counted in the engine's one transaction."""
    catch_up = {"mode": "all", "max_age_s": 366 * 86_400, "max_count": 1000}
    node.add("r", {"cron": "* * * * * *", "catch_up": catch_up})
    node.now = at("2027-03-01T00:00:00Z")
    begin = time.process_time()
    assert node.planner().plan_due()
    assert time.process_time() - begin < 1.0


def test_a_hundred_thousand_are_counted_at_once(node: RecurringNode) -> None:
    node.add("r", HOURLY)
    _multiply(node.connection, 100_000)
    begin = time.process_time()
    assert count_rules(node.connection) == {"active": 100_000, "paused": 0, "ended": 0}
    assert time.process_time() - begin < 0.1


def _multiply(connection: sqlite3.Connection, number: int) -> None:
    columns = [row["name"] for row in connection.execute("PRAGMA table_info(recurring)")]
    others = ", ".join(columns[1:])
    connection.execute(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number} - 1)"
        f" INSERT INTO recurring ({columns[0]}, {others}) SELECT 'r' || i, {others}"
        " FROM n, recurring WHERE id = 'r'"
    )
