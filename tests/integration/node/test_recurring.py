"""Recurring actions against a real database: which instants get which rows, and when."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest

from agent.domain.instants import parse_instant
from tests.integration.node.recurring_node import RecurringNode, at, instant


@pytest.fixture
def node() -> RecurringNode:
    """At one second past midnight, so that midnight itself is nobody's."""
    node = RecurringNode()
    node.now = at("00:00:01")
    return node


def test_an_occurrence_is_created_when_due_never_ahead(node: RecurringNode) -> None:
    rule = node.add("r", {"cron": "0 3 * * *"}, payload={"n": 1}, labels={"tier": "db"})
    assert instant(rule.next_at) == "2026-03-01T03:00:00Z"
    before = node.turn("02:59:59")
    assert before.next_at == at("03:00")
    assert node.occurrences("r") == []
    node.turn("03:00")
    assert node.occurrences("r") == [("03:00:00Z", "STARTED", "due")]
    made = node.action("r@2026-03-01T03:00:00Z").definition
    assert (made.payload, made.labels, made.recurring_id) == ({"n": 1}, {"tier": "db"}, "r")
    assert made.nominal_at == made.from_date == at("03:00")
    assert made.schedule is None
    assert node.turn().next_at == at("2026-03-02T03:00:00Z")
    assert node.rule("r").state.run_count == 1


def test_the_zone_is_the_definitions_else_the_nodes(node: RecurringNode) -> None:
    rule = node.add("a", {"cron": "0 3 * * *", "timezone": "Europe/Berlin"})
    assert instant(rule.next_at) == "2026-03-01T02:00:00Z"


def test_a_window_and_a_stable_offset(node: RecurringNode) -> None:
    rule = node.add("r", {"cron": "0 22 * * *", "duration": "8h", "jitter": "10m"})
    offset_s = rule.offset_s(node.ledger.place)
    assert 0 <= offset_s < 600
    starts_at = at("22:00") + timedelta(seconds=offset_s)
    assert rule.next_at == starts_at
    assert node.turn("22:00").started == []
    (started,) = node.turn(starts_at).started
    assert started.definition.id == "r@2026-03-01T22:00:00Z"
    assert started.definition.from_date == starts_at
    assert started.definition.to_date is not None
    assert started.definition.to_date > at("2026-03-02T05:59:59Z")


def test_after_downtime_the_latest_runs_and_the_rest_is_one_row(node: RecurringNode) -> None:
    node.add("r", {"cron": "*/10 * * * *"})
    node.turn("00:10")
    node.end("r@2026-03-01T00:10:00Z")
    node.turn("03:55")
    assert node.occurrences("r") == [
        ("00:10:00Z", "FINISHED", "exit_zero"),
        ("00:20:00Z", "WONT_START", "missed"),
        ("03:50:00Z", "STARTED", "due"),
    ]
    folded = node.action("r@2026-03-01T00:20:00Z")
    assert folded.missed is not None
    assert folded.missed["first"] == "2026-03-01T00:20:00Z"
    assert folded.missed["last"] == "2026-03-01T03:40:00Z"
    assert folded.missed["count"] == 21
    assert "21 instants missed" in (folded.error or "")
    assert node.rule("r").state.run_count == 2, "misses are not counted"


def test_catch_up_all_runs_each_one_after_another(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 * * * *", "catch_up": {"mode": "all"}})
    node.turn("04:30")
    assert [one[:2] for one in node.occurrences("r")] == [
        ("01:00:00Z", "STARTED"), ("02:00:00Z", "NULL"), ("03:00:00Z", "NULL"),
        ("04:00:00Z", "NULL"),
    ]  # fmt: skip
    for hour in (1, 2, 3, 4):
        assert list(node.running) == [f"r@2026-03-01T0{hour}:00:00Z"]
        node.end(f"r@2026-03-01T0{hour}:00:00Z")


def test_catch_up_skip_runs_nothing_late(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 * * * *", "catch_up": "skip"})
    node.turn("04:30")
    assert node.occurrences("r") == [("01:00:00Z", "WONT_START", "missed")]
    assert node.turn().next_at == at("05:00")


def test_a_storm_of_misses_is_one_row(node: RecurringNode) -> None:
    node.add("r", {"every": "1s"})
    node.turn("2026-03-08T00:00:30Z")
    statuses = [one[1:] for one in node.occurrences("r")]
    assert statuses.count(("WONT_START", "missed")) == 1
    assert len(statuses) < 120, "a week of every second is not a week of rows"
    assert node.rule("r").state.last_nominal_at == at("2026-03-08T00:00:30Z")


def test_a_clock_set_back_repeats_nothing_and_forward_loses_nothing(node: RecurringNode) -> None:
    node.add("r", {"cron": "* * * * *"})
    node.live("00:05:30")
    first = node.occurrences("r")
    assert len(first) == 5
    node.now = at("00:02:10")
    node.live("00:05:30")
    assert node.occurrences("r") == first
    node.live("00:06:30")
    assert len(node.occurrences("r")) == 6
    node.now = at("00:20:10")
    node.live("00:20:20")
    seen = node.occurrences("r")[6:]
    assert seen[0] == ("00:07:00Z", "WONT_START", "missed")
    assert seen[-1] == ("00:20:00Z", "FINISHED", "exit_zero")
    missed = node.action("r@2026-03-01T00:07:00Z").missed
    assert missed is not None
    assert (missed["last"], missed["count"]) == ("2026-03-01T00:19:00Z", 13)


class Crashing(sqlite3.Connection):
    """Fails at the n-th statement that writes, as a kill between any two steps does."""

    left = -1

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if self.left >= 0 and statement.split(" ", 1)[0] in ("INSERT", "UPDATE", "DELETE"):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        return super().execute(statement, *values)  # type: ignore[arg-type]


def test_a_crash_between_any_two_steps_repeats_and_loses_nothing() -> None:
    """The turn is one transaction: each kill leaves all of it or nothing."""
    survived = 0
    for step in range(60):
        connection = sqlite3.connect(":memory:", isolation_level=None, factory=Crashing)
        connection.row_factory = sqlite3.Row
        from agent.node.store.versions import bring_up_to_date

        bring_up_to_date(connection)
        node = RecurringNode(connection)
        node.now = at("00:00:01")
        node.add("r", {"cron": "0 * * * *", "max_runs": 3})
        node.add("f", {"after": "r"})
        node.now = at("05:30")
        connection.left = step
        connection.execute("BEGIN")
        try:
            node.turn()
            connection.execute("COMMIT")
            survived += 1
        except KeyboardInterrupt:
            connection.execute("ROLLBACK")
            node.running.clear()
        connection.left = -1
        node.turn()
        assert [one[0] for one in node.occurrences("r")] == ["01:00:00Z", "05:00:00Z"], step
        assert node.rule("r").state.run_count == 1
    assert 0 < survived < 60, "some steps were crashed into, and the turn has fewer than 60"


def test_max_runs_and_ends_at_end_it_visibly(node: RecurringNode) -> None:
    node.add("m", {"every": "1m", "max_runs": 2})
    node.add("e", {"every": "1m", "ends_at": "2026-03-01T00:03:30Z"})
    node.live("00:10:00")
    assert len(node.occurrences("m")) == 2
    assert len(node.occurrences("e")) == 3
    assert (node.rule("m").word, node.rule("m").ended_reason) == ("ended", "max_runs")
    assert node.rule("e").ended_reason == "ends_at"
    assert node.told("m")[-1]["recurring"]["state"] == "ended"
    assert node.turn().next_at is None


def test_a_past_date_is_shown_as_missed(node: RecurringNode) -> None:
    node.now = at("12:00")
    node.add("late", {"date": "2026-03-01T06:00:00Z", "catch_up": "skip"})
    node.turn()
    assert node.occurrences("late") == [("06:00:00Z", "WONT_START", "missed")]
    assert (node.rule("late").word, node.rule("late").ended_reason) == ("ended", "once")


def test_an_interval_from_completion_counts_from_every_end(node: RecurringNode) -> None:
    node.now = at("00:00")
    node.add("r", {"every": "10m", "count_from": "completion"})
    node.turn("00:10")
    assert node.turn("00:25").started == [], "nothing while it runs"
    assert node.turn().next_at is None
    node.end("r@2026-03-01T00:10:00Z", "00:27")
    assert node.turn().next_at == at("00:37")
    node.turn("00:37")
    node.end("r@2026-03-01T00:37:00Z", "00:40", code=3)
    assert node.rule("r").next_at == at("00:50"), "a failure is an end too"


def test_an_interval_from_completion_goes_on_after_an_end_without_a_start(
    node: RecurringNode,
) -> None:
    node.now = at("00:00")
    node.add("r", {"every": "10m", "count_from": "completion"}, start_deadline_s=60)
    node.turn("00:10")
    node.end("r@2026-03-01T00:10:00Z", "00:11", code=None, spawn_error="unknown_kind: gone")
    assert node.status("r@2026-03-01T00:10:00Z") == ("FAILED", "unknown_kind")
    assert node.rule("r").next_at == at("00:21")


def test_while_paused_nothing_is_created_and_resume_is_as_after_downtime(
    node: RecurringNode,
) -> None:
    from agent.node.recurring import pause, resume

    node.add("r", {"cron": "0 * * * *"})
    pause(node.planner(), node.rule("r"), "database moves")
    node.turn("03:30")
    assert node.occurrences("r") == []
    assert (node.rule("r").word, node.rule("r").paused) == ("paused", "database moves")
    node.now = at("03:31")
    resume(node.planner(), node.rule("r"))
    node.turn()
    assert node.occurrences("r") == [
        ("01:00:00Z", "WONT_START", "missed"), ("03:00:00Z", "STARTED", "due"),
    ]  # fmt: skip
    assert [one["recurring"]["state"] for one in node.told("r")] == ["paused", "active"]


def test_a_paused_node_plans_nothing_until_it_is_resumed(node: RecurringNode) -> None:
    node.add("r", {"cron": "0 * * * *"})
    node.paused = True
    node.turn("03:30")
    assert node.occurrences("r") == []
    node.paused = False
    node.turn("03:31")
    assert [one[1] for one in node.occurrences("r")] == ["WONT_START", "STARTED"]


def test_a_rule_that_cannot_be_planned_stops_no_other(
    node: RecurringNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.domain import recurring as domain
    from agent.domain.schedule.recurrence import plan as real

    def stumbling(schedule: object, *rest: object, **named: object) -> object:
        if getattr(schedule, "every", None) == "2m":
            raise OverflowError("no such instant")
        return real(schedule, *rest, **named)  # type: ignore[arg-type]

    node.add("bad", {"every": "2m"})
    node.add("good", {"every": "1m"})
    monkeypatch.setattr(domain, "plan", stumbling)
    found = node.turn("00:02:01")
    assert [one[0] for one in found.parked] == ["bad"]
    assert "no such instant" in (node.rule("bad").parked or "")
    assert node.occurrences("bad") == []
    assert len(node.occurrences("good")) == 2
    assert node.turn("00:04:01").parked == [], "it is told once"


def test_an_instant_whose_id_somebody_took_has_its_row_all_the_same(node: RecurringNode) -> None:
    from agent.domain.lane import Lane
    from tests.unit.domain.builders import make_definition

    node.add("r", {"cron": "0 3 * * *"})
    taken = make_definition(id="r@2026-03-01T03:00:00Z", from_date=at("2026-04-01T00:00:00Z"))
    node.ledger.accept(node.connection, taken, node.now, lane=Lane.PARALLEL)
    node.turn("03:00")
    assert node.occurrences("r") == [("03:00:00Z.b1", "STARTED", "due")]


def test_ten_thousand_idle_rules_cost_nothing(node: RecurringNode) -> None:
    for number in range(300):
        node.add(f"r{number}", {"cron": f"{number % 60} {number % 24} 1 1 *"})
    plan = node.connection.execute(
        "EXPLAIN QUERY PLAN SELECT id FROM recurring INDEXED BY recurring_next WHERE next_at IS"
        " NOT NULL AND paused IS NULL AND parked IS NULL AND next_at <= ? ORDER BY next_at LIMIT 9",
        (1,),
    ).fetchall()
    told = " ".join(row["detail"] for row in plan)
    assert "SEARCH recurring USING" in told
    assert "TEMP B-TREE" not in told
    assert not node.turn("00:30").changed


def test_the_last_instant_of_a_day_that_never_comes_again(node: RecurringNode) -> None:
    rule = node.add("r", {"cron": "0 0 29 2 *"})
    assert rule.next_at == parse_instant("2028-02-29T00:00:00Z")
