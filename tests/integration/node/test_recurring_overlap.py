"""An occurrence falls due while an earlier one has not ended; and what follows an end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.domain.ending import RunState
from agent.domain.manifest import Manifest
from agent.domain.overlap import QUEUED_PER_RULE_MAX
from agent.domain.recurring import by_hand
from agent.domain.schedule.recurrence import occurrence_id
from agent.node.engine import run_key
from agent.node.store import actions, brakes
from agent.node.turn import Ended
from tests.integration.node.recurring_node import RecurringNode, at

FIRST, SECOND, THIRD = (f"r@2026-03-01T00:0{minute}:00Z" for minute in (1, 2, 3))


@pytest.fixture
def node() -> RecurringNode:
    node = RecurringNode()
    node.now = at("00:00:01")
    return node


def busy(node: RecurringNode, overlap: str, **fields: object) -> None:
    """A rule of every minute whose first occurrence runs when the second falls due."""
    node.add("r", {"cron": "* * * * *", "overlap": overlap}, **fields)
    node.turn("00:01")
    assert list(node.running) == [FIRST]


def run_now(node: RecurringNode) -> str:
    """As `agentctl recurring run`."""
    rule, moment = node.rule("r"), node.now
    definition = by_hand(rule, moment, occurrence_id("r", moment, 1), moment)
    return node.planner().insert(rule, definition, due_at=moment).definition.id


def test_skip_is_the_default_and_says_what_was_in_the_way(node: RecurringNode) -> None:
    node.add("r", "* * * * *")
    node.turn("00:01")
    node.turn("00:02")
    assert node.status(SECOND) == ("WONT_START", "overlap")
    assert node.action(SECOND).error == f"{FIRST} still runs"
    node.end(FIRST, "00:02:30")
    node.turn("00:03")
    assert list(node.running) == [THIRD]


def test_skip_also_while_the_earlier_one_waits_for_its_place(node: RecurringNode) -> None:
    node.manifests = {"job": Manifest(kind="job")}
    node.add("other", {"cron": "1 0 1 3 *"})
    node.turn("00:01")
    node.now = at("00:01:10")
    node.add("r", "* * * * *")
    node.turn("00:02")
    node.turn("00:03")
    assert node.status(SECOND) == ("NULL", None)
    assert node.action(THIRD).error == f"{SECOND} has not started yet"


def test_queue_waits_behind_a_lock_of_its_own(node: RecurringNode) -> None:
    busy(node, "queue")
    node.turn("00:02")
    node.turn("00:03")
    assert node.status(SECOND) == node.status(THIRD) == ("NULL", None)
    assert node.action(SECOND).locks == ("@r",)
    node.end(FIRST, "00:03:10")
    assert list(node.running) == [SECOND], "in order, one at a time"
    node.end(SECOND, "00:03:20")
    assert list(node.running) == [THIRD]


def test_a_queue_is_bounded(node: RecurringNode) -> None:
    node.add("r", {"every": "1s", "overlap": "queue"})
    for second in range(2, QUEUED_PER_RULE_MAX + 10):
        node.turn(at("00:00:00") + timedelta(seconds=second))
    ends = [one[2] for one in node.occurrences("r")]
    assert ends.count(None) == QUEUED_PER_RULE_MAX
    assert ends.count("overlap") == len(ends) - QUEUED_PER_RULE_MAX - 1 > 0


def test_cancel_running_stops_the_earlier_and_starts_when_it_has_ended(
    node: RecurringNode,
) -> None:
    busy(node, "cancel_running")
    (stop,) = node.turn("00:02").stops
    assert (stop.definition.id, stop.stop_cause) == (FIRST, "overlap")
    assert node.status(FIRST) == ("STARTED", "due")
    assert node.status(SECOND) == ("NULL", None)
    node.end(FIRST, "00:02:03", code=None, signal=15, stop_cause="overlap")
    assert node.status(FIRST) == ("WONT_FINISH", "overlap")
    assert list(node.running) == [SECOND]


def _brake(node: RecurringNode) -> int:
    values: dict[str, Any] = {
        "kind": "job", "labels": {}, "reason": "r", "by": "ann", "expires_at": None,
    }  # fmt: skip
    return brakes.insert(node.connection, values, node.now).id


def test_under_a_brake_what_runs_goes_on_and_is_stopped_when_the_new_one_could_start(
    node: RecurringNode,
) -> None:
    busy(node, "cancel_running")
    number = _brake(node)
    assert node.turn("00:02").stops == []
    assert node.turn("00:03").stops == []
    assert node.status(SECOND) == ("WONT_START", "superseded"), "the newest waits"
    assert node.status(THIRD) == ("NULL", None)
    brakes.lift(node.connection, number)
    (stop,) = node.turn("00:03:30").stops
    assert (stop.definition.id, stop.stop_cause) == (FIRST, "overlap")
    assert node.turn().stops == [], "asked once; the engine asks on"
    node.end(FIRST, "00:03:33", code=None, signal=15, stop_cause="overlap")
    assert list(node.running) == [THIRD]


def test_under_a_brake_what_ends_meanwhile_has_ended_by_itself(node: RecurringNode) -> None:
    busy(node, "cancel_running")
    number = _brake(node)
    node.turn("00:02")
    node.end(FIRST, "00:02:30")
    assert (node.status(FIRST), node.running) == (("FINISHED", "exit_zero"), {})
    brakes.lift(node.connection, number)
    assert node.turn("00:02:40").stops == []
    assert list(node.running) == [SECOND]


def test_what_started_after_it_fell_due_is_not_stopped_by_it(node: RecurringNode) -> None:
    """Under one brake they waited together, and the one by hand had its turn first."""
    node.add("r", {"cron": "* * * * *", "overlap": "cancel_running"})
    number = _brake(node)
    by_hand = run_now(node)
    node.turn("00:01")
    brakes.lift(node.connection, number)
    assert node.turn("00:01:30").stops == []
    assert list(node.running) == [by_hand]
    assert node.turn("00:01:40").stops == []
    (stop,) = node.turn("00:02").stops
    assert stop.definition.id == by_hand, "by the next one, as ever"


def test_nor_does_an_end_elsewhere_stop_anything_while_the_node_is_paused(
    node: RecurringNode,
) -> None:
    node.add("b", {"after": "r", "overlap": "cancel_running"})
    busy(node, "skip")
    node.end(FIRST, "00:01:30")
    node.turn("00:02")
    followed = "b@2026-03-01T00:01:30Z"
    assert list(node.running) == [followed, SECOND]
    node.paused = True
    assert node.end(SECOND, "00:02:30").stops == []
    assert node.turn("00:02:40").stops == []
    node.paused = False
    assert [one.definition.id for one in node.turn("00:02:50").stops] == [followed]


def test_nor_before_a_delay_has_passed(node: RecurringNode) -> None:
    node.add("b", {"after": "r", "overlap": "cancel_running", "delay_s": 60})
    busy(node, "skip")
    node.end(FIRST, "00:01:30")
    node.turn("00:02")
    node.turn("00:02:30")
    assert node.end(SECOND, "00:02:40").stops == []
    assert node.turn("00:03:39").stops == []
    assert [one.definition.id for one in node.turn("00:03:40").stops] == ["b@2026-03-01T00:02:30Z"]


def test_late_ones_stop_nothing(node: RecurringNode) -> None:
    busy(node, "queue")
    late = {"cron": "*/2 * * * *", "overlap": "cancel_running", "catch_up": "all"}
    node.now = at("00:01:30")
    node.add("r", late, revision=2)
    node.paused = True
    node.turn("00:05:30")
    node.paused = False
    assert node.turn("00:05:40").stops == []
    assert [one[1] for one in node.occurrences("r")] == ["STARTED", "NULL", "NULL"]
    assert [one.definition.id for one in node.turn("00:06").stops] == [FIRST]


def test_nor_does_the_newest_that_comes_behind_late_ones(node: RecurringNode) -> None:
    busy(node, "queue")
    node.now = at("00:01:30")
    late = {"cron": "*/2 * * * *", "overlap": "cancel_running", "catch_up": "all"}
    node.add("r", late, revision=2)
    node.paused = True
    node.turn("00:06:10")
    node.paused = False
    assert node.turn("00:06:20").stops == []
    for _ in range(4):
        node.end(next(iter(node.running)))
    assert [one[1] for one in node.occurrences("r")] == ["FINISHED"] * 4, "each had its turn"


def test_cancel_running_replaces_what_waits(node: RecurringNode) -> None:
    busy(node, "cancel_running")
    node.turn("00:02")
    result = node.turn("00:03")
    assert node.status(SECOND) == ("WONT_START", "superseded")
    assert result.stops == [], "it has been asked to, and the engine asks on until it has ended"
    node.end(FIRST, "00:03:03")
    assert node.status(FIRST) == ("FINISHED", "exit_zero"), "the true result counts"
    assert list(node.running) == [THIRD]


def test_a_stop_for_overlap_survives_a_restart(node: RecurringNode) -> None:
    """The cause is committed: what is learned later of the run ends it, and does not repeat it."""
    busy(node, "cancel_running")
    node.turn("00:02")
    action = node.running.pop(FIRST)
    node.turn("00:02:10", Ended(key=run_key(action), state=RunState.UNKNOWN, away=True))
    assert node.status(FIRST) == ("WONT_FINISH", "overlap")


def test_a_stop_for_overlap_of_a_run_that_never_was(node: RecurringNode) -> None:
    busy(node, "cancel_running")
    node.turn("00:02")
    action = node.running.pop(FIRST)
    node.turn("00:02:10", Ended(key=run_key(action), state=RunState.NEVER_STARTED, away=True))
    assert node.status(FIRST) == ("WONT_START", "overlap")


def test_allow_runs_them_beside_each_other(node: RecurringNode) -> None:
    busy(node, "allow")
    node.turn("00:02")
    assert list(node.running) == [FIRST, SECOND]
    assert node.action(SECOND).locks == ()


def test_an_edit_while_one_runs_is_for_later_ones(node: RecurringNode) -> None:
    busy(node, "skip", payload={"n": 1})
    node.now = at("00:01:20")
    node.add("r", {"cron": "*/5 * * * *"}, payload={"n": 2}, revision=2)
    assert node.status(FIRST) == ("STARTED", "due")
    assert node.rule("r").next_at == at("00:05")
    node.end(FIRST, "00:01:30")
    node.turn("00:05")
    made = node.action("r@2026-03-01T00:05:00Z").definition
    assert (made.payload, made.revision) == ({"n": 2}, 2)
    assert node.action(FIRST).definition.revision == 1, "it keeps the revision it came from"


def test_an_edit_keeps_the_watermark_and_does_not_call_for_the_past(node: RecurringNode) -> None:
    node.add("r", "0 3 * * *")
    node.turn("03:00")
    node.end("r@2026-03-01T03:00:00Z")
    node.now = at("12:00:01")
    node.add("r", "0 * * * *", revision=2)
    node.turn()
    assert len(node.occurrences("r")) == 1, "04:00 to 12:00 were no instants of either revision"
    assert node.rule("r").next_at == at("13:00")
    assert node.rule("r").state.run_count == 1


def test_an_edit_settles_first_what_was_due_by_the_old_one(node: RecurringNode) -> None:
    node.add("r", "*/10 * * * *")
    node.now = at("00:30:20")
    node.add("r", "0 5 * * *", revision=2)
    assert [one[:2] for one in node.occurrences("r")] == [
        ("00:10:00Z", "WONT_START"), ("00:30:00Z", "NULL"),
    ]  # fmt: skip


def test_an_edit_brings_what_was_over_back_to_life(node: RecurringNode) -> None:
    node.add("r", {"every": "1m", "max_runs": 1})
    node.live("00:05:00")
    assert node.rule("r").word == "ended"
    node.add("r", {"every": "1m", "max_runs": 3}, revision=2)
    node.live("00:20:00")
    assert node.rule("r").state.run_count == 3
    assert len(node.occurrences("r")) == 3


def test_a_withdrawal_ends_what_waits_and_lets_run_what_runs(node: RecurringNode) -> None:
    busy(node, "queue")
    node.turn("00:02")
    node.add("r", "* * * * *", revision=2, should_be_executed=False)
    assert node.status(FIRST) == ("STARTED", "due")
    assert node.status(SECOND) == ("WONT_START", "withdrawn")
    assert (node.rule("r").word, node.rule("r").ended_reason) == ("ended", "withdrawn")
    node.end(FIRST, "00:05")
    assert len(node.occurrences("r")) == 2, "nothing more"


def test_what_was_not_planned_before_a_withdrawal_is_told(node: RecurringNode) -> None:
    node.add("r", "*/10 * * * *")
    node.paused = True
    node.turn("00:35")
    node.add("r", "*/10 * * * *", revision=2, should_be_executed=False)
    assert node.occurrences("r") == [("00:10:00Z", "WONT_START", "missed")]
    assert node.action("r@2026-03-01T00:10:00Z").missed["count"] == 3  # type: ignore[index]


def test_one_occurrence_for_each_end_of_another_rule(node: RecurringNode) -> None:
    node.add("b", {"after": "r"})
    node.add("r", "* * * * *")
    node.turn("00:01")
    result = node.end(FIRST, "00:01:30")
    assert [action.definition.id for action in result.started] == ["b@2026-03-01T00:01:30Z"]
    assert node.action("b@2026-03-01T00:01:30Z").definition.nominal_at == at("00:01:30")
    node.turn("00:02")
    node.end(SECOND, "00:02:10", code=1)
    assert len(node.occurrences("b")) == 1, "only what FINISHED has finished"
    assert node.rule("b").word == "active"


def test_two_ends_in_one_turn_are_two_instants(node: RecurringNode) -> None:
    node.add("b", {"after": "r", "overlap": "queue"})
    busy(node, "allow")
    node.turn("00:02")
    node.now = at("00:02:30")
    ended = []
    for name in (FIRST, SECOND):
        from tests.unit.domain.builders import make_record

        record = make_record(started_at=node.now, ended_at=node.now)
        ended.append(
            Ended(key=run_key(node.running.pop(name)), state=RunState.EXITED, record=record)
        )
    node.turn(None, *ended)
    assert [one[0] for one in node.occurrences("b")] == ["00:02:30Z", "00:02:31Z"]


def test_after_one_action_follows_once(node: RecurringNode) -> None:
    from agent.domain.lane import Lane
    from tests.unit.domain.builders import make_definition

    node.add("ok", {"after": "once"})
    node.add("never", {"after": "fails"})
    for name in ("once", "fails"):
        definition = make_definition(id=name, kind="job")
        node.ledger.accept(node.connection, definition, node.now, lane=Lane.PARALLEL)
    node.turn()
    node.end("once", "00:00:30")
    assert node.occurrences("ok") == [("00:00:30Z", "STARTED", "due")]
    assert (node.rule("ok").word, node.rule("ok").ended_reason) == ("ended", "once")
    node.end("fails", "00:00:40", code=1)
    assert node.occurrences("never") == []
    assert node.rule("never").ended_reason == "not_finished"
    assert "has ended already" in node.faults("late", {"after": "once"})


def test_a_paused_follower_shows_what_it_missed(node: RecurringNode) -> None:
    from agent.node.recurring import pause

    node.add("b", {"after": "r"})
    pause(node.planner(), node.rule("b"), "later")
    node.add("r", "* * * * *")
    node.turn("00:01")
    node.end(FIRST, "00:01:30")
    assert node.occurrences("b") == [("00:01:30Z", "WONT_START", "missed")]


def test_chains_have_no_loops_and_no_end(node: RecurringNode) -> None:
    assert "they would start each other" in node.faults("a", {"after": "a"})
    node.add("b", {"after": "a"})
    node.add("c", {"after": "b"})
    assert "they would start each other" in node.faults("a", {"after": "c"})
    node.add("a", "0 0 * * *")
    previous = "c"
    for number in range(40):
        if node.faults(f"d{number}", {"after": previous}):
            break
        previous = f"d{number}"
    else:
        pytest.fail("a chain without an end")


def test_an_id_is_an_actions_or_a_rules(node: RecurringNode) -> None:
    from agent.domain.lane import Lane
    from tests.unit.domain.builders import make_definition

    node.ledger.accept(node.connection, make_definition(id="mine"), node.now, lane=Lane.EXCLUSIVE)
    assert "id_conflict" in node.faults("mine", "* * * * *")


def test_a_removed_kind_ends_its_occurrences_visibly(node: RecurringNode) -> None:
    busy(node, "skip")
    node.end(FIRST, "00:01:01", code=None, spawn_error="unknown_kind: no such file")
    assert node.status(FIRST) == ("FAILED", "unknown_kind")


def test_a_parked_occurrence_keeps_its_lock(node: RecurringNode) -> None:
    busy(node, "queue")
    found = actions.by_id(node.connection, FIRST)
    assert found is not None
    assert found.alone
    assert replace(found, verdict="x").locks == ("@r",)
