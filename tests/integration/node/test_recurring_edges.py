"""Recurring actions where something else goes wrong at the same time: each found by trying."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent.domain.instants import format_instant
from agent.domain.lane import Lane
from agent.domain.recurring import Ended
from agent.domain.schedule.recurrence import Plan, plan
from agent.domain.schedule.spec import Schedule
from agent.node.recurring import pause, resume
from agent.node.recurring_views import page_view
from agent.node.retention import remove_ended_rules
from agent.node.stored import read_stored, stored_view
from agent.node.views import history_view
from agent.node.why_rule import why_instant
from agent.wire.definition import decode_definition
from tests.integration.node.recurring_node import RecurringNode, at


@pytest.fixture
def node() -> RecurringNode:
    node = RecurringNode()
    node.now = at("00:00:01")
    return node


def test_what_follows_one_occurrence_hears_that_it_did_not_finish(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 3 * * *"})
    node.turn("03:00")
    node.add("f", {"after": "r@2026-03-01T03:00:00Z"})
    node.end("r@2026-03-01T03:00:00Z", "03:01", code=1)
    assert node.rule("f").ended_reason == "not_finished"


@pytest.mark.parametrize("change", [{"max_runs": 2}, {"ends_at": "2026-03-01T00:01:00Z"}])
def test_an_edit_that_ends_it_is_told(node: RecurringNode, change: dict[str, object]) -> None:
    node.add("r", {"cron": "* * * * *"})
    node.live("00:05:30")
    node.add("r", {"cron": "* * * * *"} | change, revision=2)
    assert node.told("r")[-1]["recurring"]["state"] == "ended"


def test_one_that_is_over_when_it_comes_is_told(node: RecurringNode) -> None:
    node.add("r", {"cron": "* * * * *", "ends_at": "2026-02-01T00:00:00Z"})
    assert [one["recurring"]["ended_reason"] for one in node.told("r")] == ["ends_at"]


def test_an_edit_after_a_long_downtime_loses_no_instant(node: RecurringNode) -> None:
    node.add("r", {"cron": "* * * * *", "catch_up": {"mode": "all", "max_count": 1000}})
    node.now = at("10:00:30")
    node.add("r", {"cron": "0 0 1 1 *"}, revision=2)
    found = node.occurrences("r")
    missed = node.action(f"r@2026-03-01T{found[-1][0]}").missed
    assert missed is not None
    assert len(found) - 1 + missed["count"] == 600
    assert missed["last"] == "2026-03-01T10:00:00Z"
    assert "changed" in missed["why"]


@pytest.mark.parametrize("change", [{}, {"jitter": "1s"}, {"overlap": "allow"}])
def test_an_edit_before_the_jitter_is_over_loses_no_instant(
    node: RecurringNode, change: dict[str, str]
) -> None:
    schedule = {"cron": "0 * * * *", "jitter": "30m"}
    rule = node.add("r", schedule)
    offset_s = rule.offset_s(node.ledger.place)
    assert offset_s > 120
    node.turn(at("01:00") + timedelta(seconds=offset_s))
    node.end("r@2026-03-01T01:00:00Z")
    node.now = at("02:00") + timedelta(seconds=offset_s - 30)
    node.add("r", schedule | change, revision=2)
    node.turn(at("02:00") + timedelta(seconds=offset_s + 1))
    assert [one[:2] for one in node.occurrences("r")] == [
        ("01:00:00Z", "FINISHED"),
        ("02:00:00Z", "STARTED"),
    ]


def test_catch_up_all_runs_as_many_as_it_says(node: RecurringNode) -> None:
    node.add("r", {"cron": "* * * * *", "catch_up": {"mode": "all", "max_count": 300}})
    node.turn("04:00:30")
    ends = [one[1] for one in node.occurrences("r")]
    assert (ends.count("STARTED"), ends.count("NULL")) == (1, 238), "more than usually may wait"
    assert ends[239:] == ["WONT_START"], "the one on time finds the others in its way"


def test_one_of_a_hundred_followers_can_be_edited(node: RecurringNode) -> None:
    for number in range(100):
        node.add(f"f{number}", {"after": "x"})
    assert "no more may" in node.faults("one-more", {"after": "x"})
    assert node.faults("f5", {"after": "x"}, revision=2) == ""


@pytest.mark.parametrize("do", ["pause", "resume", "end"])
def test_what_cannot_be_read_stays_as_it_is_stored(node: RecurringNode, do: str) -> None:
    node.add("r", {"cron": "0 3 * * *"}, payload={"n": 1})
    node.connection.execute(
        "UPDATE recurring SET definition = replace(definition, '0 3 * * *', 'every blue moon')"
    )
    before = node.connection.execute("SELECT * FROM recurring").fetchone()
    rule = node.rule("r")
    assert rule.parked is not None
    if do == "pause":
        assert pause(node.planner(), rule, "a move").paused == "a move"
    elif do == "resume":
        resume(node.planner(), rule)
    else:
        node.planner().end(rule, Ended.CANCELLED_ON_NODE)
    after = node.connection.execute("SELECT * FROM recurring").fetchone()
    assert after["definition"] == before["definition"]
    assert node.told("r")[-1]["definition"]["payload"] == {"n": 1}


@pytest.mark.parametrize("schedule", [{"every": "1h"}, {"every": "1h", "count_from": "completion"}])
def test_what_cannot_be_read_can_be_replaced(node: RecurringNode, schedule: dict[str, str]) -> None:
    node.add("r", {"cron": "* * * * *"})
    node.live("00:02:30")
    node.connection.execute(
        "UPDATE recurring SET definition = replace(definition, '* * * * *', 'every blue moon')"
    )
    rule = node.add("r", schedule, revision=2)
    assert (rule.parked, rule.next_at) == (None, at("01:02:30"))


def test_completion_is_counted_also_where_somebody_took_the_name(node: RecurringNode) -> None:
    rule = node.add("r", {"every": "10m", "count_from": "completion"})
    assert rule.next_nominal_at is not None
    name = f"r@{format_instant(rule.next_nominal_at)}"
    theirs = decode_definition(
        {"id": name, "kind": "job", "from_date": "2027-01-01T00:00:00Z"}, owner="node"
    )
    node.ledger.accept(node.connection, theirs, node.now, lane=Lane.PARALLEL)
    node.live("01:00")
    assert len(node.occurrences("r")) == 5
    assert node.rule("r").next_at is not None


def test_an_instant_at_the_end_of_time_is_answered(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 3 * * *"})
    told = why_instant(node.connection, "r@9999-12-31T00:00:00Z", node.now, node.ledger.place)
    assert told is not None


def test_many_that_are_over_are_all_forgotten(node: RecurringNode) -> None:
    for number in range(700):
        rule = node.add(f"r{number}", {"cron": "0 3 * * *"})
        node.planner().end(rule, Ended.WITHDRAWN)
    gone = 0
    while more := remove_ended_rules(node.connection, node.now + timedelta(days=40)):
        gone += more
    assert gone == 700


def test_a_page_of_large_ones_is_shorter_and_loses_none(node: RecurringNode) -> None:
    for number in range(60):
        node.add(f"r{number:02}", {"cron": "0 3 * * *"}, payload={"x": "y" * 60_000})
    seen: list[str] = []
    after, pages = None, 0
    while True:
        page = page_view(node.connection, node.ledger.place, node.now, after=after, limit=500)
        seen += [one["id"] for one in page["recurring"]]
        after, pages = page["next"], pages + 1
        if after is None:
            break
    assert seen == [f"r{number:02}" for number in range(60)]
    assert pages > 1


def test_history_of_a_rule_is_what_happened_to_it(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 3 * * *"})
    node.ledger.tell_recurring(node.connection, node.rule("r"), node.now)
    node.add("r2", {"cron": "0 3 * * *"})
    node.ledger.tell_recurring(node.connection, node.rule("r2"), node.now)
    pause(node.planner(), node.rule("r"), "a move")
    told = history_view(node.connection, "r")
    assert told["id"] == "r"
    assert [one["recurring"]["state"] for one in told["events"]] == ["active", "paused"]


@pytest.mark.parametrize("do", ["withdraw", "edit", "edit when due", "cancel"])
def test_what_cannot_be_planned_can_be_ended_and_changed(
    node: RecurringNode, monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    def stumbling(schedule: Schedule, *rest: Any, **named: Any) -> Plan:
        if schedule.timezone == "Europe/Berlin":
            raise OverflowError("the zone has gone")
        return plan(schedule, *rest, **named)

    node.add("r", {"cron": "0 3 * * *", "timezone": "Europe/Berlin"})
    monkeypatch.setattr("agent.domain.recurring.plan", stumbling)
    if do == "cancel":
        node.planner().end(node.rule("r"), Ended.CANCELLED_ON_NODE)
    elif do == "withdraw":
        node.add("r", {"cron": "0 3 * * *"}, revision=2, should_be_executed=False)
    else:
        node.now = at("03:00") if do == "edit when due" else node.now
        node.add("r", {"cron": "0 4 * * *"}, revision=2)
    rule = node.rule("r")
    if do.startswith("edit"):
        assert (rule.word, rule.parked, rule.next_at) == ("active", None, at("04:00"))
    else:
        assert rule.word == "ended"


def test_no_instant_runs_again_when_its_row_is_forgotten(node: RecurringNode) -> None:
    node.add("r", {"cron": "*/10 * * * *"})
    node.turn("00:10")
    node.end("r@2026-03-01T00:10:00Z", "00:11")
    node.connection.execute("DELETE FROM actions")
    node.turn("00:05")
    node.turn("00:12")
    assert node.occurrences("r") == []


def test_counts_are_of_the_status(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 3 * * *"})
    pause(node.planner(), node.add("p", {"cron": "0 3 * * *"}), None)
    told = stored_view(read_stored(node.connection, node.now))["recurring"]
    assert told == {"active": 1, "paused": 1, "ended": 0}


def test_a_broken_row_stops_no_page(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 3 * * *"})
    node.connection.execute("UPDATE recurring SET definition = '{'")
    page = page_view(node.connection, node.ledger.place, node.now)
    assert page["recurring"][0]["parked"]
