"""A pull into a real database: good items applied, bad ones refused alone, all or nothing."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus
from agent.node.catalogue import Kinds
from agent.node.store import actions, events, recurring
from agent.node.store.meta import read_meta
from agent.node.sync.apply import Applied, apply_pull
from agent.wire.canonical import digest_of_document
from agent.wire.execution import decode_execution
from agent.wire.messages import PullAnswer, Request, decode_message
from tests.integration.node.database import make_kinds, make_ledger, open_memory
from tests.unit.domain.builders import NOW, after, make_definition

SCHEMA = {"type": "object", "required": ["seconds"], "properties": {"seconds": {"type": "number"}}}


class Node:
    """What a pull acts on."""

    def __init__(self) -> None:
        self.connection = open_memory()
        self.ledger = make_ledger()
        self.kinds: Kinds = make_kinds(
            sleep={"payload_schema": SCHEMA, "parallel": True},
            plain={},
            risky={"risk_level": "dangerous"},
        )

    def pull(self, *documents: Any, cursor: str = "e.1.m", requests: Any = ()) -> Applied:
        answer = PullAnswer(cursor=cursor, actions=list(documents), requests=list(requests))
        return apply_pull(self.connection, self.ledger, self.kinds, answer, NOW)

    def status(self, action_id: str) -> tuple[str, str | None]:
        action = actions.by_id(self.connection, action_id)
        assert action is not None, f"{action_id} is not there"
        return action.execution_status.value, action.reason

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = [event.plain() for event in events.after(self.connection, 0, 1000)]
        return [event for event in found if kind is None or event["type"] == kind]


@pytest.fixture
def node() -> Node:
    return Node()


def core_definition(action_id: str, **fields: Any) -> dict[str, Any]:
    base = {"id": action_id, "owner": "core", "kind": "plain", "revision": 1}
    return base | fields


def test_good_and_bad_mixed_bad_ones_are_refused_alone_and_shown(node: Node) -> None:
    applied = node.pull(
        core_definition("good1"),
        core_definition("bad1", revision=7, from_date="tomorrow", timeout_s=-1),
        "not even an object",
        core_definition("mine", owner="node"),
        core_definition("good2", kind="sleep", payload={"seconds": 1}),
        cursor="e.9.m",
    )
    assert [action_id for action_id, _ in applied.refused] == ["bad1", None, "mine"]
    assert node.status("good1") == node.status("good2") == ("NULL", None)
    assert read_meta(node.connection).cursor == "e.9.m"
    refused = node.events("definition_refused")
    assert refused[0]["action_id"] == "bad1"
    assert refused[0]["revision"] == 7
    assert {fault["path"] for fault in refused[0]["faults"]} == {"from_date", "timeout_s"}
    shown = node.connection.execute("SELECT faults FROM refused WHERE id = 'bad1'").fetchone()
    assert "from_date" in json.loads(shown["faults"])[0]["path"]


def test_a_repeat_changes_nothing(node: Node) -> None:
    documents = [core_definition("a"), core_definition("w", should_be_executed=False)]
    node.pull(*documents)
    before = node.events()
    applied = node.pull(*documents)
    assert node.events() == before
    assert applied.changed == 0


def test_what_cannot_run_here_says_so_at_once(node: Node) -> None:
    node.pull(
        core_definition("unknown", kind="plainn"),
        core_definition("payload", kind="sleep", payload={"seconds": "x"}),
        core_definition("dry", dry_run=True),
        core_definition("unwanted", should_be_executed=False),
    )
    assert node.status("unknown") == ("WONT_START", "unknown_kind")
    assert node.status("payload") == ("WONT_START", "bad_payload")
    assert node.status("dry") == ("WONT_START", "dry_run_unsupported")
    assert node.status("unwanted") == ("WONT_START", "withdrawn")
    told = {event["action_id"]: event["execution"]["error"] for event in node.events("transition")}
    assert "did you mean 'plain'" in told["unknown"]
    assert "payload.seconds" in told["payload"]


def test_dangerous_needs_an_approval_record(node: Node) -> None:
    approved = {"state": "approved", "by": "ann", "at": "2026-01-01T00:00:00Z"}
    applied = node.pull(
        core_definition("no", kind="risky"),
        core_definition("pending", approval={"state": "pending"}),
        core_definition("yes", kind="risky", approval=approved),
    )
    assert [action_id for action_id, _ in applied.refused] == ["no", "pending"]
    assert node.status("yes") == ("NULL", None)


def test_a_withdrawal_needs_nobody_s_approval(node: Node) -> None:
    """What was harmless when it came may be dangerous by now: all the more it can be withdrawn."""
    node.pull(core_definition("a"), core_definition("r", schedule={"every": "1h"}))
    node.kinds = make_kinds(plain={"risk_level": "dangerous"})
    applied = node.pull(
        core_definition("a", revision=2, should_be_executed=False),
        core_definition("r", revision=2, should_be_executed=False, schedule={"every": "1h"}),
        core_definition("unseen", should_be_executed=False, approval={"state": "pending"}),
        core_definition("wanted"),
    )
    assert [action_id for action_id, _ in applied.refused] == ["wanted"]
    assert node.status("a") == node.status("unseen") == ("WONT_START", "withdrawn")
    rule = recurring.by_id(node.connection, "r")
    assert rule is not None
    assert rule.ended_at is not None


def test_somebody_must_have_approved_what_is_dangerous(node: Node) -> None:
    applied = node.pull(
        core_definition("nobody", kind="risky", approval={"state": "approved"}),
        core_definition("empty", kind="risky", approval={"state": "approved", "by": ""}),
        core_definition("harmless", approval={"state": "approved"}),
    )
    assert [action_id for action_id, _ in applied.refused] == ["nobody", "empty"]


def approved(document: dict[str, Any], **record: Any) -> dict[str, Any]:
    given = {"state": "approved", "by": "ann", "digest": digest_of_document(document)}
    return document | {"approval": given | record}


def test_an_approval_is_for_the_definition_that_it_names(node: Node) -> None:
    """What is not what was approved is refused; the revision that was stays in force."""
    asked = core_definition("a", kind="risky", payload={"n": 1.0}, x_new={"of": "later"})
    other = approved(asked) | {"payload": {"n": 2}, "revision": 2}
    assert node.pull(approved(asked), approved(asked) | {"revision": 3}).refused == []
    refused = node.pull(other | {"revision": 4}, approved(core_definition("b")) | {"kind": "risky"})
    assert [action_id for action_id, _ in refused.refused] == ["a", "b"]
    assert "approved again" in refused.refused[0][1]
    [fault] = node.events("definition_refused")[0]["faults"]
    assert fault["path"] == "approval.digest"
    assert node.status("a") == ("NULL", None)
    kept = actions.by_id(node.connection, "a")
    assert kept is not None
    assert (kept.definition.revision, kept.definition.payload) == (3, {"n": 1.0})
    assert actions.by_id(node.connection, "b") is None
    withdrawn = approved(asked) | {"revision": 5, "should_be_executed": False}
    assert node.pull(withdrawn).refused == [], "a withdrawal is no other content"
    assert node.status("a") == ("WONT_START", "withdrawn")


def test_no_rule_approves_what_is_dangerous(node: Node) -> None:
    by_rule = approved(core_definition("a", kind="risky"), by="policy:all")
    safe = approved(core_definition("b"), by="policy:all")
    applied = node.pull(by_rule, safe)
    assert [action_id for action_id, _ in applied.refused] == ["a"]
    assert "person" in applied.refused[0][1]
    assert node.status("b") == ("NULL", None)


def test_an_approved_recurring_action_is_checked_as_it_came(node: Node) -> None:
    """Its occurrences carry its record; they are made here, and nobody compares them."""
    rule = core_definition("r", kind="risky", schedule={"every": "1h"})
    applied = node.pull(approved(rule), approved(rule) | {"id": "s"})
    assert [action_id for action_id, _ in applied.refused] == ["s"]


def test_an_empty_pull_cancels_nothing(node: Node) -> None:
    node.pull(core_definition("a"))
    node.pull(cursor="e.2.m")
    assert node.status("a") == ("NULL", None)


def test_a_withdrawal_and_its_cursor_are_one_transaction(node: Node) -> None:
    node.pull(core_definition("a"), cursor="e.1.m")
    node.connection.execute("BEGIN IMMEDIATE")
    node.pull(core_definition("a", revision=2, should_be_executed=False), cursor="e.2.m")
    node.connection.execute("ROLLBACK")
    assert node.status("a") == ("NULL", None)
    assert read_meta(node.connection).cursor == "e.1.m"
    node.pull(core_definition("a", revision=2, should_be_executed=False), cursor="e.2.m")
    assert node.status("a") == ("WONT_START", "withdrawn")


def test_an_id_of_this_node_is_not_overwritten(node: Node) -> None:
    node.ledger.accept(node.connection, make_definition(id="local"), NOW, lane=Lane.EXCLUSIVE)
    applied = node.pull(core_definition("local", revision=99))
    assert "id_conflict" in applied.refused[0][1]
    assert actions.by_id(node.connection, "local").definition.revision == 1  # type: ignore[union-attr]


def test_requests_are_served_once(node: Node) -> None:
    node.ledger.accept(node.connection, make_definition(id="local"), NOW, lane=Lane.EXCLUSIVE)
    asked = [
        Request(id="r1", type="cancel_local", action_id="local"),
        Request(id="r2", type="send_state"),
        Request(id="r3", type="cancel_local", action_id="nobody"),
        Request(id="r4", type="of_a_later_version"),
    ]
    node.pull(requests=asked)
    assert read_meta(node.connection).state_owed == 1
    assert node.status("local") == ("WONT_START", "cancelled_on_node")
    node.pull(requests=asked)
    assert read_meta(node.connection).state_owed == 1


def test_the_decision_holds_only_for_the_state_it_was_made_for(node: Node) -> None:
    """NULL → anything is conditional in the database (seed 002's scheduler race)."""
    from agent.domain.lifecycle import Reason
    from agent.domain.starting import unstart

    node.pull(core_definition("a"))
    seen = actions.by_id(node.connection, "a")
    assert seen is not None
    node.pull(core_definition("a", revision=2, should_be_executed=False))
    with pytest.raises(actions.StaleAction):
        node.ledger.move(node.connection, seen, unstart(seen, Reason.MISSED, NOW))
    assert node.status("a") == ("WONT_START", "withdrawn")


def test_due_actions_come_by_due_time_then_arrival_and_busy_apps_are_passed_over(
    node: Node,
) -> None:
    for name, due, apps in (
        ("late", 5, []), ("b", -1, ["db"]), ("c", -1, []), ("first", -9, ["web"]),
    ):  # fmt: skip
        moment = after(due).isoformat()
        node.pull(core_definition(name, from_date=moment, app_names=apps), cursor=name)
    free = {"lane": Lane.EXCLUSIVE, "limit": 9}
    found = actions.due(node.connection, NOW, busy_apps=[], **free)  # type: ignore[arg-type]
    assert [one.definition.id for one in found] == ["first", "b", "c"]
    found = actions.due(node.connection, NOW, busy_apps=["db", "x"], **free)  # type: ignore[arg-type]
    assert [one.definition.id for one in found] == ["first", "c"]
    assert actions.next_instant(node.connection, NOW) == after(5)


def test_counts_are_kept_exactly(node: Node) -> None:
    for number in range(5):
        node.pull(core_definition(f"a{number}"))
    node.pull(core_definition("a0", revision=2, should_be_executed=False))
    kept = actions.counts(node.connection)
    counted: dict[str, int] = dict.fromkeys(kept, 0)
    rows: list[sqlite3.Row] = node.connection.execute(
        "SELECT execution_status AS s, count(*) AS n FROM actions GROUP BY 1"
    ).fetchall()
    counted |= {row["s"]: row["n"] for row in rows}
    assert kept == counted
    assert kept[ExecutionStatus.NULL.value] == 4


def test_an_item_that_no_decoder_takes_is_refused_alone_under_its_name(node: Node) -> None:
    text = (
        '{"cursor": "e.2.m", "actions": [{"id": "big", "owner": "core", "kind": "plain",'
        ' "revision": 3, "payload": {"n": 18446744073709551616}},'
        ' {"id": "good", "owner": "core", "kind": "plain", "revision": 1}]}'
    )
    answer = decode_message(text.encode(), PullAnswer)
    apply_pull(node.connection, node.ledger, node.kinds, answer, NOW)
    assert node.status("good") == ("NULL", None)
    (refused,) = node.events("definition_refused")
    assert (refused["action_id"], refused["revision"]) == ("big", 3)
    assert "64 bits" in refused["faults"][0]["message"]
    assert read_meta(node.connection).cursor == "e.2.m"


def test_the_last_instant_there_is_stops_nobody(node: Node) -> None:
    far = core_definition("far", from_date="9999-12-31T23:59:59Z", start_deadline_s=1e6)
    node.pull(far, core_definition("good"))
    assert node.status("far") == node.status("good") == ("NULL", None)
    assert node.events("definition_refused") == []


class Stumbling(Kinds):
    """Kinds with a fault of ours that one definition runs into."""

    def check(self, kind: str, payload: Any, *, dry_run: bool) -> Any:
        if payload.get("stumble"):
            raise OverflowError("date value out of range")
        return super().check(kind, payload, dry_run=dry_run)


def test_a_fault_of_ours_refuses_the_one_item_that_has_it(node: Node) -> None:
    kinds = Stumbling()
    kinds.replace(node.kinds.catalogue)
    node.kinds = kinds
    node.pull(core_definition("a"), core_definition("b", payload={"stumble": True}))
    assert node.status("a") == ("NULL", None)
    assert actions.by_id(node.connection, "b") is None
    (refused,) = node.events("definition_refused")
    assert refused["action_id"] == "b"
    assert "out of range" in refused["faults"][0]["message"]


def test_a_payload_that_its_fault_quotes_outgrows_no_event(node: Node) -> None:
    """A core refuses to read more; the status would be lost to it."""
    node.pull(core_definition("a", kind="sleep", payload={"seconds": "x" * 60_000}))
    assert node.status("a") == ("WONT_START", "bad_payload")
    (told,) = node.events("transition")
    assert decode_execution(told["execution"]).error is not None


def test_what_a_pull_ends_is_told_for_the_metrics(node: Node) -> None:
    node.pull(core_definition("a1"), core_definition("a2"), cursor="e.1.m")
    applied = node.pull(
        core_definition("a1", revision=2, should_be_executed=False),
        core_definition("a3", should_be_executed=False),
        core_definition("a4", kind="none"),
        cursor="e.2.m",
    )
    assert [(action.definition.id, action.reason) for action in applied.ended] == [
        ("a1", "withdrawn"), ("a3", "withdrawn"), ("a4", "unknown_kind"),
    ]  # fmt: skip
