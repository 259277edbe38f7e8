"""Recurring actions that a core sends: accepted, changed, withdrawn, refused, told, forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.lifecycle import ExecutionStatus
from agent.node.catalogue import Kinds
from agent.node.recurring import pause
from agent.node.recurring_views import page_view, rule_view
from agent.node.retention import remove_ended_rules
from agent.node.state_pages import behind, state_page
from agent.node.store import actions, recurring
from agent.node.stored import count_rules
from agent.node.sync.apply import Applied, apply_pull
from agent.wire.messages import PullAnswer, Request
from tests.integration.node.database import make_kinds
from tests.integration.node.recurring_node import RecurringNode, at

SCHEMA = {"type": "object", "required": ["seconds"]}


class PulledNode(RecurringNode):
    """A node whose recurring actions are the core's."""

    def __init__(self) -> None:
        super().__init__()
        self.now = at("00:00:01")
        self.kinds: Kinds = make_kinds(
            job={"parallel": True},
            strict={"payload_schema": SCHEMA},
            risky={"risk_level": "dangerous"},
        )

    def pull(self, *documents: Any, requests: Any = ()) -> Applied:
        answer = PullAnswer(cursor="e.1.m", actions=list(documents), requests=list(requests))
        return apply_pull(self.connection, self.ledger, self.kinds, answer, self.now)


@pytest.fixture
def node() -> PulledNode:
    return PulledNode()


def core_rule(name: str, schedule: Any = "* * * * *", **fields: Any) -> dict[str, Any]:
    base = {"id": name, "owner": "core", "kind": "job", "revision": 1, "schedule": schedule}
    return base | fields


def test_it_runs_here_and_its_occurrences_are_the_cores(node: PulledNode) -> None:
    node.pull(core_rule("r"))
    (applied,) = node.told("r")
    assert (applied["type"], applied["verdict"]) == ("definition_applied", "inserted")
    node.turn("00:01")
    made = node.action("r@2026-03-01T00:01:00Z").definition
    assert (made.owner.value, made.recurring_id) == ("core", "r")
    told = node.told("r@2026-03-01T00:01:00Z")
    assert [one["type"] for one in told] == ["local_definition", "transition"]


def test_a_repeat_or_an_older_revision_changes_nothing(node: PulledNode) -> None:
    node.pull(core_rule("r", revision=3))
    before = node.rule("r")
    node.pull(core_rule("r", revision=3), core_rule("r", "0 0 * * *", revision=2))
    assert node.rule("r") == before
    assert len(node.told("r")) == 1


def test_a_withdrawal_starts_nothing_any_more(node: PulledNode) -> None:
    node.pull(core_rule("r", {"cron": "* * * * *", "overlap": "queue"}))
    node.turn("00:01")
    node.turn("00:02")
    node.pull(core_rule("r", revision=2, should_be_executed=False))
    assert node.status("r@2026-03-01T00:02:00Z") == ("WONT_START", "withdrawn")
    assert node.status("r@2026-03-01T00:01:00Z") == ("STARTED", "due")
    assert node.told("r")[-1]["verdict"] == "updated"
    assert node.turn("00:10").started == []


def test_a_withdrawal_that_comes_first_keeps_it_from_ever_beginning(node: PulledNode) -> None:
    node.pull(core_rule("r", revision=2, should_be_executed=False))
    assert (node.rule("r").word, node.rule("r").ended_reason) == ("ended", "withdrawn")
    node.turn("00:10")
    assert node.occurrences("r") == []


def test_bad_ones_are_refused_alone_and_at_once(node: PulledNode) -> None:
    applied = node.pull(
        core_rule("good"),
        core_rule("words", "every sometimes"),
        core_rule("kind", kind="nope"),
        core_rule("payload", kind="strict"),
        core_rule("risk", kind="risky"),
        core_rule("loop", {"after": "loop"}),
        core_rule("x" * 97),
    )
    refused = [name for name, _ in applied.refused]
    assert refused == ["words", "kind", "payload", "risk", "loop", "x" * 97]
    assert recurring.exists(node.connection, "good")
    assert count_rules(node.connection)["active"] == 1


def test_an_id_is_of_one_owner_and_one_sort(node: PulledNode) -> None:
    node.add("mine", "0 0 * * *")
    action = {"id": "once", "owner": "core", "kind": "job", "revision": 1}
    node.pull(action)
    applied = node.pull(
        core_rule("mine"), core_rule("once", revision=2), core_rule("r"), {**action, "id": "mine"}
    )
    assert [name for name, _ in applied.refused] == ["mine", "once", "mine"]
    assert all("id_conflict" in why for _, why in applied.refused)
    assert node.rule("mine").definition.owner.value == "node"


def test_what_this_node_cancelled_stays_so(node: PulledNode) -> None:
    from agent.domain.recurring import Ended

    node.pull(core_rule("r"))
    node.planner().end(node.rule("r"), Ended.CANCELLED_ON_NODE)
    node.pull(core_rule("r", revision=2))
    assert node.told("r")[-1]["verdict"] == "too_late"
    assert node.rule("r").ended_reason == "cancelled_on_node"


def test_a_pause_here_is_told_and_outlives_an_edit(node: PulledNode) -> None:
    node.pull(core_rule("r"))
    pause(node.planner(), node.rule("r"), "by hand")
    assert node.told("r")[-1]["recurring"]["paused"] == "by hand"
    node.pull(core_rule("r", "*/5 * * * *", revision=2))
    node.turn("00:30")
    assert node.occurrences("r") == []
    assert node.rule("r").paused == "by hand"


def test_the_core_asks_to_cancel_one_of_this_nodes(node: PulledNode) -> None:
    node.add("mine", "* * * * *")
    node.pull(core_rule("its"))
    asked = [Request(id=f"q{n}", type="cancel_local", action_id=n) for n in ("mine", "its")]
    node.pull(requests=asked)
    assert node.rule("mine").ended_reason == "cancelled_on_node"
    assert node.rule("its").word == "active"


def test_an_occurrence_is_cancelled_by_its_own_id(node: PulledNode) -> None:
    node.pull(core_rule("r", {"cron": "* * * * *", "overlap": "queue"}))
    node.turn("00:01")
    node.turn("00:02")
    waiting = "r@2026-03-01T00:02:00Z"
    document = {"id": waiting, "owner": "core", "kind": "job", "revision": 2,
                "recurring_id": "r", "nominal_at": "2026-03-01T00:02:00Z",
                "should_be_executed": False}  # fmt: skip
    node.pull(document)
    assert node.status(waiting) == ("WONT_START", "withdrawn")
    assert node.rule("r").word == "active"


def test_the_state_has_rules_too_in_pages(node: PulledNode) -> None:
    for number in range(5):
        node.pull(core_rule(f"r{number}", "0 0 1 1 *"))
        node.pull({"id": f"a{number}", "owner": "core", "kind": "job", "revision": 1})
    seen: list[str] = []
    after: str | None = None
    while True:
        found = state_page(node.connection, after, 2)
        seen += [one.definition.id for one in found.actions] + [rule.id for rule in found.rules]
        if found.next is None:
            break
        after = found.next
    last = recurring.by_id(node.connection, "r3")
    assert last is not None
    after_last = state_page(node.connection, behind(last), 2)
    assert [rule.id for rule in after_last.rules] == ["r4"]
    assert seen == [f"a{n}" for n in range(5)] + [f"r{n}" for n in range(5)]


def test_the_view_tells_how_it_stands(node: PulledNode) -> None:
    node.pull(core_rule("r", {"cron": "* * * * *", "timezone": "Europe/Berlin"}))
    node.turn("00:01")
    view = rule_view(node.connection, node.rule("r"), node.ledger.place, node.now)
    assert view["state"] == "active"
    assert view["last_nominal_at"] == "2026-03-01T00:01:00Z"
    assert view["next_at"] == "2026-03-01T00:02:00Z"
    assert view["zone"] == "Europe/Berlin"
    assert [one["id"] for one in view["latest"]] == ["r@2026-03-01T00:01:00Z"]
    assert page_view(node.connection, node.ledger.place, node.now, limit=1)["next"] is None


def test_ended_ones_are_forgotten_but_for_the_cores(node: PulledNode) -> None:
    node.add("mine", {"every": "1m", "max_runs": 1})
    node.pull(core_rule("its", {"every": "1m", "max_runs": 1}))
    node.live("00:10")
    assert remove_ended_rules(node.connection, at("00:00:30")) == 0, "not that old"
    assert remove_ended_rules(node.connection, at("2026-04-01T00:00:00Z")) == 1
    assert recurring.by_id(node.connection, "mine") is None
    node.pull(core_rule("its", {"every": "1m", "max_runs": 1}))
    node.live("00:20")
    assert len(node.occurrences("its")) == 1, "offered again, it does not begin anew"
    assert actions.counts(node.connection)[ExecutionStatus.NULL.value] == 0
