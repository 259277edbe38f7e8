"""A recurring action that its owner paused: held as by this node's own pause, beside it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.errors import Refused
from agent.domain.recurring import recurring_view
from agent.node.recurring import pause, resume
from agent.node.recurring_commands import _resumable
from agent.node.restraint_file import _AS_DEFINED
from agent.node.stored import count_rules
from tests.integration.node.recurring_node import at
from tests.integration.node.test_recurring_pull import PulledNode, core_rule

CRON: dict[str, Any] = {"cron": "*/10 * * * *", "catch_up": "skip"}
HELD = CRON | {"paused": True, "paused_reason": "a move"}


@pytest.fixture
def node() -> PulledNode:
    return PulledNode()


def view(node: PulledNode) -> dict[str, Any]:
    return recurring_view(node.rule("r"), node.ledger.place)


def missed(node: PulledNode, action_id: str) -> dict[str, Any]:
    found = node.action(action_id).missed
    assert found is not None
    return dict(found)


def test_what_falls_due_meanwhile_is_missed_and_told_in_one_row(node: PulledNode) -> None:
    node.pull(core_rule("r", CRON))
    node.live("00:11")
    node.pull(core_rule("r", HELD, revision=2))
    assert (node.rule("r").word, view(node)["paused_by"]) == ("paused", "owner")
    assert view(node)["paused"] == "by the core: a move"
    assert count_rules(node.connection) == {"active": 0, "paused": 1, "ended": 0}
    node.live("00:45")
    assert node.occurrences("r") == [("00:10:00Z", "FINISHED", "exit_zero")]
    node.pull(core_rule("r", CRON, revision=3))
    node.turn()
    assert node.occurrences("r")[1:] == [("00:20:00Z", "WONT_START", "missed")]
    told = missed(node, "r@2026-03-01T00:20:00Z")
    assert (told["count"], told["last"]) == (3, "2026-03-01T00:40:00Z")
    assert "paused from 2026-03-01T00:11:00Z to 2026-03-01T00:45:00Z" in told["why"]
    assert "by the core: a move" in told["why"]
    node.live("00:55")
    assert node.occurrences("r")[2:] == [("00:50:00Z", "FINISHED", "exit_zero")]


def test_the_core_is_told_how_it_stands(node: PulledNode) -> None:
    node.pull(core_rule("r", CRON))
    node.pull(core_rule("r", HELD, revision=2))
    told = node.told("r")
    assert [one["type"] for one in told] == [
        "definition_applied", "local_definition", "definition_applied",
    ]  # fmt: skip
    assert [one["recurring"]["state"] for one in told] == ["active", "paused", "paused"]
    node.pull(core_rule("r", CRON, revision=3))
    node.live("00:10")
    (made, _) = node.told("r@2026-03-01T00:10:00Z")
    assert (made["rule"]["run_count"], made["rule"]["next_at"]) == (1, "2026-03-01T00:20:00Z")


def test_catch_up_runs_what_it_would_after_downtime(node: PulledNode) -> None:
    latest = {"cron": "*/10 * * * *", "catch_up": "latest"}
    node.pull(core_rule("r", latest | {"paused": True}))
    assert view(node)["paused"] == "by the core: paused without a reason"
    node.live("00:35")
    assert node.occurrences("r") == []
    node.pull(core_rule("r", latest, revision=2))
    node.turn()
    assert node.occurrences("r") == [
        ("00:10:00Z", "WONT_START", "missed"), ("00:30:00Z", "STARTED", "due"),
    ]  # fmt: skip


def test_a_pause_of_the_node_stays_when_the_core_resumes_and_the_other_way_round(
    node: PulledNode,
) -> None:
    node.pull(core_rule("r", CRON))
    pause(node.planner(), node.rule("r"), "ours")
    node.pull(core_rule("r", HELD, revision=2))
    assert (view(node)["paused"], view(node)["paused_by"]) == ("ours", "both")
    node.pull(core_rule("r", CRON, revision=3))
    assert (view(node)["paused"], view(node)["paused_by"]) == ("ours", "node")
    node.live("00:25")
    assert node.occurrences("r") == []
    node.pull(core_rule("r", HELD, revision=4))
    resume(node.planner(), node.rule("r"))
    assert view(node)["paused_by"] == "owner"
    with pytest.raises(Refused, match="corectl recurring resume"):
        _resumable(node.planner(), "r")
    node.live("00:45")
    assert node.occurrences("r") == []
    node.pull(core_rule("r", CRON, revision=5))
    node.live("00:55")
    assert [one[:2] for one in node.occurrences("r")] == [
        ("00:10:00Z", "WONT_START"), ("00:50:00Z", "FINISHED"),
    ]  # fmt: skip


def test_a_pause_does_not_begin_an_interval_anew(node: PulledNode) -> None:
    every = {"every": "10m", "catch_up": "skip"}
    node.pull(core_rule("r", every))
    node.live("00:10:05")
    anchor = node.rule("r").state.anchor_at
    node.pull(core_rule("r", every | {"paused": True}, revision=2))
    node.live("00:14")
    node.pull(core_rule("r", every, revision=3))
    assert node.rule("r").state.anchor_at == anchor
    node.live("00:20:05")
    assert [one[0] for one in node.occurrences("r")] == ["00:10:01Z", "00:20:01Z"]


def test_an_edit_while_paused_settles_what_was_missed_by_the_old_one(node: PulledNode) -> None:
    node.pull(core_rule("r", HELD))
    node.live("00:25")
    node.pull(core_rule("r", {"cron": "*/30 * * * *", "paused": True}, revision=2))
    told = missed(node, "r@2026-03-01T00:10:00Z")
    assert told["count"] == 2
    assert told["why"] == "the recurring action was paused: by the core: a move"
    node.live("00:35")
    node.pull(core_rule("r", {"cron": "*/30 * * * *", "catch_up": "skip"}, revision=3))
    node.turn()
    assert missed(node, "r@2026-03-01T00:30:00Z")["count"] == 1


def test_one_that_is_over_is_not_begun_again_by_a_pause(node: PulledNode) -> None:
    once = {"date": "2026-03-01T00:05:00Z"}
    node.pull(core_rule("r", once))
    node.live("00:10")
    assert node.rule("r").ended_reason == "once"
    node.pull(core_rule("r", once | {"paused": True}, revision=2))
    node.pull(core_rule("r", once, revision=3))
    assert (node.rule("r").ended_reason, node.rule("r").definition.revision) == ("once", 3)
    node.live("00:20")
    assert len(node.occurrences("r")) == 1


def test_a_follower_shows_what_it_did_not_follow(node: PulledNode) -> None:
    node.pull(
        core_rule("first", {"cron": "10 * * * *"}),
        core_rule("r", {"after": "first", "paused": True, "paused_reason": "a move"}),
    )
    node.live("00:11")
    ((_, status, reason),) = node.occurrences("r")
    assert (status, reason) == ("WONT_START", "missed")


def test_it_survives_a_restart_and_a_restore_of_the_nodes_own_pauses(node: PulledNode) -> None:
    node.pull(core_rule("r", HELD), core_rule("s", CRON))
    pause(node.planner(), node.rule("r"), "ours")
    pause(node.planner(), node.rule("s"), "ours")
    node.connection.execute(_AS_DEFINED)
    assert view(node)["paused_by"] == "owner"
    assert node.rule("s").held is None
    node.live("00:25")
    assert node.occurrences("r") == []


OCCURRENCE = {
    "id": "r@2026-02-28T10:00:00Z.b10001", "owner": "core", "kind": "job", "revision": 1,
    "recurring_id": "r", "nominal_at": "2026-02-28T10:00:00Z",
    "from_date": "2026-02-28T10:00:00Z",
}  # fmt: skip


def test_an_occurrence_that_the_core_asks_for_is_like_one_made_by_hand(node: PulledNode) -> None:
    node.pull(core_rule("r", {"cron": "10 * * * *"}))
    node.pull(OCCURRENCE)
    made = node.action(str(OCCURRENCE["id"]))
    assert made.alone, "never beside another of its rule"
    assert made.due_at == node.now, "its turn is behind what is due already"
    node.turn("00:01")
    node.turn("00:10")
    assert node.occurrences("r") == [
        ("r@2026-02-28T10:00:00Z.b10001", "STARTED", "due"),
        ("00:10:00Z", "WONT_START", "overlap"),
    ]  # fmt: skip
    node.end(str(OCCURRENCE["id"]))
    assert node.rule("r").state.run_count == 0, "not counted"
    told = [one["type"] for one in node.told(str(OCCURRENCE["id"]))]
    assert told == ["local_definition", "definition_applied", "transition", "transition"]
    assert node.rule("r").state.last_nominal_at == at("00:10")


def test_with_overlap_allowed_it_runs_beside_them(node: PulledNode) -> None:
    node.pull(core_rule("r", {"cron": "10 * * * *", "overlap": "allow"}))
    node.turn("00:10")
    node.pull(OCCURRENCE)
    node.turn()
    assert node.status(str(OCCURRENCE["id"])) == ("STARTED", "due")


def test_a_withdrawal_ends_what_the_core_had_asked_for(node: PulledNode) -> None:
    node.pull(core_rule("r", {"cron": "10 * * * *"}), OCCURRENCE)
    node.pull(core_rule("r", revision=2, should_be_executed=False))
    assert node.status(str(OCCURRENCE["id"])) == ("WONT_START", "withdrawn")


@pytest.mark.parametrize("known", [True, False])
def test_one_that_comes_behind_the_withdrawal_does_not_run(
    node: PulledNode, *, known: bool
) -> None:
    """What was changed several times while the node was away is sent once, in its first place."""
    if known:
        node.pull(core_rule("r", {"cron": "10 * * * *"}))
    node.pull(core_rule("r", revision=2, should_be_executed=False), OCCURRENCE)
    assert node.status(str(OCCURRENCE["id"])) == ("WONT_START", "withdrawn")
    node.live("00:30")
    assert node.status(str(OCCURRENCE["id"])) == ("WONT_START", "withdrawn")
