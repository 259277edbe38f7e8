"""Recurring actions where something else goes wrong at the same time: each found by trying."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent.domain.instants import format_instant
from agent.domain.lane import Lane
from agent.domain.recurring import Ended, by_hand, recurring_view
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
    assert (ends.count("STARTED"), ends.count("NULL")) == (1, 239), "more than usually may wait"
    assert len(ends) == 240, "the one on time waits behind the others"


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_running", "allow"])
def test_a_short_downtime_drops_nothing_as_overlap(node: RecurringNode, overlap: str) -> None:
    node.add("r", {"every": "4s", "overlap": overlap, "catch_up": "all"})
    node.now = at("00:01:14")
    node.live("00:01:14.4", takes_s=0.01)
    assert {one[1] for one in node.occurrences("r")} == {"FINISHED"}
    assert len(node.occurrences("r")) == 18
    assert node.rule("r").state.run_count == 18


def test_a_short_downtime_folds_all_but_the_newest(node: RecurringNode) -> None:
    node.add("r", {"every": "1s", "max_runs": 10})
    node.turn("00:00:21")
    assert node.occurrences("r") == [
        ("00:00:02Z", "WONT_START", "missed"), ("00:00:21Z", "STARTED", "due"),
    ]  # fmt: skip
    error = node.action("r@2026-03-01T00:00:02Z").error or ""
    assert "19 instants missed" in error
    assert "only the latest one, 2026-03-01T00:00:21Z, runs" in error


def test_what_overlap_ends_at_once_does_not_count_for_max_runs(node: RecurringNode) -> None:
    node.add("r", {"every": "1s", "max_runs": 3})
    node.live("00:00:10", takes_s=60)
    ends = [one[1] for one in node.occurrences("r")]
    assert (ends.count("STARTED"), ends.count("WONT_START")) == (1, 8)
    assert (node.rule("r").word, node.rule("r").state.run_count) == ("active", 1)
    node.live("00:10:00", takes_s=60)
    assert (node.rule("r").ended_reason, node.rule("r").state.run_count) == ("max_runs", 3)
    assert [one[2] for one in node.occurrences("r")].count("exit_zero") == 3


def test_nor_for_what_follows_or_is_counted_from_completion(node: RecurringNode) -> None:
    node.add("r", "* * * * *")
    node.add("f", {"after": "r", "max_runs": 2})
    node.add("c", {"every": "10m", "count_from": "completion", "max_runs": 1})
    rule = node.rule("c")
    by_hand_one = by_hand(rule, node.now, "c@x", node.now)
    node.planner().insert(rule, by_hand_one, due_at=node.now)
    node.turn("00:01")
    for minute in (1, 2):
        node.end(f"r@2026-03-01T00:0{minute}:00Z", f"00:0{minute}:30")
        node.turn(f"00:0{minute + 1}")
    assert [one[2] for one in node.occurrences("f")] == ["due", "overlap"]
    assert (node.rule("f").word, node.rule("f").state.run_count) == ("active", 1)
    node.turn("00:10:01")
    assert node.status("c@2026-03-01T00:10:01Z") == ("WONT_START", "overlap")
    assert (node.rule("c").word, node.rule("c").state.run_count) == ("active", 0)
    assert node.rule("c").next_at == at("00:20:01")


def test_what_waits_for_its_delay_does_not_skip_the_next(node: RecurringNode) -> None:
    node.add("f", {"after": "r", "delay": "90s"})
    node.add("r", "* * * * *")
    node.turn("00:01")
    node.end("r@2026-03-01T00:01:00Z", "00:01:10")
    node.turn("00:02")
    node.end("r@2026-03-01T00:02:00Z", "00:02:10")
    assert node.occurrences("f") == [("00:02:40Z", "NULL", None), ("00:03:40Z", "NULL", None)]
    node.turn("00:02:40")
    node.turn("00:03:40")
    assert [one[1] for one in node.occurrences("f")] == ["STARTED", "NULL"], "one after another"
    node.end("f@2026-03-01T00:02:40Z", "00:04:00")
    assert [one[1] for one in node.occurrences("f")] == ["FINISHED", "STARTED"]


def test_a_past_date_promises_no_start(node: RecurringNode) -> None:
    rule = node.add("r", {"date": "2026-01-01T00:00:00Z"})
    shown = recurring_view(rule, node.ledger.place)
    assert (shown["next_at"], shown["next_nominal_at"]) == (None, None)
    node.turn()
    assert (node.rule("r").word, node.occurrences("r")[0][2]) == ("ended", "missed")
    late = node.add("l", {"date": "2026-02-28T23:00:00Z"})
    assert recurring_view(late, node.ledger.place)["next_at"] == "2026-03-01T00:00:01Z"


def test_where_all_due_is_missed_the_view_shows_what_comes(node: RecurringNode) -> None:
    rule = node.add("r", {"cron": "0 * * * *", "catch_up": "skip"})
    pause(node.planner(), rule, "a move")
    node.now = at("02:30")
    resumed = resume(node.planner(), node.rule("r"))
    assert recurring_view(resumed, node.ledger.place)["next_at"] == "2026-03-01T03:00:00Z"
    node.turn()
    assert node.occurrences("r") == [("01:00:00Z", "WONT_START", "missed")]


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


def test_what_waits_for_its_place_does_not_start_after_the_rules_to_date(
    node: RecurringNode,
) -> None:
    node.add("r", {"cron": "*/10 * * * *", "overlap": "queue"}, to_date="2026-03-01T00:25:00Z")
    node.turn("00:10")
    node.turn("00:20")
    first, second = "r@2026-03-01T00:10:00Z", "r@2026-03-01T00:20:00Z"
    assert node.action(second).definition.to_date == at("00:25")
    assert node.turn().next_at == at("00:25")
    node.end(first, "00:25:00", code=None, signal=15, stop_cause="window")
    assert node.status(first) == ("WONT_FINISH", "window_closed")
    assert node.status(second) == ("WONT_START", "window_passed")


def test_a_window_that_ends_before_the_rule_does_stays_as_it_is(node: RecurringNode) -> None:
    node.add("r", {"cron": "*/10 * * * *", "duration_s": 60}, to_date="2026-03-01T00:25:00Z")
    node.turn("00:10")
    assert node.action("r@2026-03-01T00:10:00Z").definition.to_date == at("00:11")


def test_what_is_run_by_hand_is_not_bound_by_the_rules_to_date(node: RecurringNode) -> None:
    rule = node.add("r", "*/10 * * * *", to_date="2026-03-01T00:25:00Z")
    assert by_hand(rule, at("00:30"), "r@x", at("00:30")).to_date is None
