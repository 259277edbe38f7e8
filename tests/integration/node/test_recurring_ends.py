"""An interval from completion goes on, also where the end that it waits for came unheard."""

from __future__ import annotations

import pytest

from agent.domain.recurring import Ended
from agent.node.recurring import pause, resume
from agent.node.store import recurring
from tests.integration.node.recurring_node import RecurringNode, at

EVERY_10 = {"every": "10m", "count_from": "completion"}


@pytest.fixture
def node() -> RecurringNode:
    node = RecurringNode()
    node.now = at("00:00:01")
    return node


def test_an_end_while_the_rule_was_parked_does_not_stop_it_for_ever(node: RecurringNode) -> None:
    node.add("r", EVERY_10)
    node.turn("00:10:01")
    recurring.park(node.connection, "r", "its zone is gone")
    node.end("r@2026-03-01T00:10:01Z", "00:15:00")
    recurring.unpark(node.connection)
    node.turn("00:16:01")
    assert node.rule("r").next_at == at("00:25:00"), "counted from that end"


def test_what_waits_for_an_end_that_will_come_is_left_alone(node: RecurringNode) -> None:
    node.add("r", EVERY_10)
    node.add("over", EVERY_10)
    node.add("follows", {"after": "r"})
    node.turn("00:10:01")
    node.planner().end(node.rule("over"), Ended.WITHDRAWN)
    recurring.unpark(node.connection)
    node.turn("00:16:01")
    assert [node.rule(name).next_at for name in ("r", "over", "follows")] == [None] * 3
    assert len(node.occurrences("r")) == 1


@pytest.mark.parametrize("ended", [True, False])
def test_an_instant_that_has_its_row_already_does_not_stop_it_either(
    node: RecurringNode, ended: bool
) -> None:
    """A restored watermark lies before an occurrence that the runner's records brought back."""
    node.add("r", EVERY_10)
    name = "r@2026-03-01T00:10:01Z"
    before = node.rule("r")
    node.turn("00:10:01")
    if ended:
        node.end(name, "00:12:00")
    recurring.update(node.connection, before)
    node.turn("00:10:20" if not ended else "00:13:00")
    if not ended:
        assert node.rule("r").next_at is None
        node.end(name, "00:12:00")
    assert node.turn().next_at == at("00:22:00")
    assert len(node.occurrences("r")) == 1


def test_an_end_of_which_nothing_is_left_is_taken_to_be_now(node: RecurringNode) -> None:
    node.add("r", EVERY_10)
    node.turn("00:10:01")
    node.connection.execute("DELETE FROM actions")
    recurring.unpark(node.connection)
    node.turn("00:16:00")
    assert node.rule("r").next_at == at("00:26:00")


def test_an_end_while_it_was_parked_counts_after_a_pause_as_well(node: RecurringNode) -> None:
    node.add("r", EVERY_10)
    node.turn("00:10:01")
    recurring.park(node.connection, "r", "its zone is gone")
    node.end("r@2026-03-01T00:10:01Z", "00:15:00")
    pause(node.planner(), node.rule("r"), "later")
    recurring.unpark(node.connection)
    resume(node.planner(), node.rule("r"))
    node.turn("00:16:01")
    assert node.rule("r").next_at == at("00:25:00")
