"""Rules of a running core: reload all or nothing, and what a test of them tells."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from agent.core.rules.keeper import LiveRules, RuleKeeper
from agent.core.rules.loading import load_rules
from agent.core.store.inline import InlineStore
from agent.core.store.schema import agents, audit, events
from agent.core.wakeups import Wakeups
from agent.domain.errors import InvalidDocument, NotFound, Refused
from tests.fakes.dispatching_core import SteppedClock
from tests.unit.core.rules.conftest import NOW, rule

GOOD = rule("{field: node.id, eq: web-1}", "{type: schedule, delay_seconds: 60}", "delay")


class Running:
    """A keeper over a store in memory."""

    def __init__(self, directory: Path | None) -> None:
        self.clock = SteppedClock()
        self.store = InlineStore.in_memory()
        book = load_rules(directory) if directory else None
        self.live = LiveRules(self.clock, book)
        counter = itertools.count(1)
        self.keeper = RuleKeeper(
            self.store, self.clock, lambda bits: next(counter), Wakeups(), self.live, directory
        )

    def reload(self) -> dict[str, Any]:
        return asyncio.run(self.keeper.reload("anna"))

    def test(self, **document: Any) -> dict[str, Any]:
        return asyncio.run(self.keeper.test(document))

    def rows(self, *columns: Any) -> list[tuple[Any, ...]]:
        return asyncio.run(
            self.store.read(lambda c: [tuple(row) for row in c.execute(select(*columns))])
        )


@pytest.fixture
def running(tmp_path: Path) -> Running:
    (tmp_path / "a.yaml").write_text(GOOD)
    return Running(tmp_path)


def test_a_reload_takes_all_files_and_is_told(running: Running, tmp_path: Path) -> None:
    before = running.keeper.list()
    (tmp_path / "b.cel").write_text("true ? suppress() : allow()")
    running.clock.pass_by(5)
    after = running.reload()
    assert [one["name"] for one in after["rules"]] == ["delay", "b.cel#1"]
    assert after["digest"] != before["digest"]
    assert after["loaded_at"] > before["loaded_at"]
    assert running.live.judge({"kind": "x"}, {"id": "web-2"}).rule == "b.cel#1"
    ((agent_id, kind, body),) = running.rows(events.c.agent_id, events.c.type, events.c.body)
    assert (agent_id, kind) == ("", "rules_reloaded")
    assert json.loads(body) == {"digest": after["digest"], "rules": 2, "requested_by": "anna"}
    assert running.rows(audit.c.who, audit.c.what) == [("anna", "rules_reload")]


def test_one_fault_keeps_all_the_old_rules(running: Running, tmp_path: Path) -> None:
    before = running.keeper.list()
    (tmp_path / "a.yaml").write_text(GOOD.replace("60", "70"))
    (tmp_path / "b.cel").write_text("nonsense(")
    with pytest.raises(InvalidDocument):
        running.reload()
    after = running.keeper.list()
    refused = after.pop("refused")
    assert {name: before[name] for name in after} == after
    assert refused["by"] == "anna"
    assert [fault["path"] for fault in refused["faults"]] == ["b.cel:1", "b.cel:1"]
    assert running.live.judge({}, {"id": "web-1"}).delay_s == 60
    ((kind,),) = running.rows(events.c.type)
    assert kind == "rules_refused"
    (tmp_path / "b.cel").unlink()
    assert running.reload()["refused"] is None
    assert running.live.judge({}, {"id": "web-1"}).delay_s == 70


def test_without_a_directory_there_is_nothing_to_reload() -> None:
    running = Running(None)
    with pytest.raises(Refused, match="--rules-dir"):
        running.reload()
    assert running.keeper.list()["rules"] == []
    assert running.test(action={"kind": "x"})["result"] == "allow"


def test_a_test_says_which_rule_and_why(running: Running) -> None:
    found = running.test(action={"action_type": "x"}, node={"id": "web-1"})
    assert (found["result"], found["rule"], found["delay_seconds"]) == ("schedule", "delay", 60)
    assert found["trail"] == [
        {
            "rule": "delay",
            "file": "a.yaml",
            "line": 2,
            "matched": True,
            "why": "its condition holds",
        }
    ]
    found = running.test(action={"kind": "x"})
    assert (found["result"], found["rule"], found["node"]) == ("allow", None, None)
    assert found["trail"][0]["why"] == "there is no node.id"
    assert running.rows(events.c.id) == []


def test_a_test_looks_the_node_up(running: Running) -> None:
    with pytest.raises(NotFound):
        running.test(action={"kind": "x", "node": "web-1"})
    row = {"id": "web-1", "enrolled_at": NOW, "stream_epoch": "e", "acked_mark": "m"}
    asyncio.run(running.store.write(lambda c: c.execute(insert(agents), [row])))
    found = running.test(action={"kind": "x", "node": "web-1"})
    assert found["rule"] == "delay"
    assert found["node"]["labels"] == {"node": "web-1"}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"action": 3},
        {"action": {}},
        {"action": {"kind": "x", "timout_s": 3}},
        {"action": {"kind": "x"}, "node": 3},
        {"action": {"kind": "x"}, "node": ""},
        {"action": {"kind": "x"}, "more": 1},
    ],
)
def test_a_bad_test_is_told_its_faults(running: Running, document: Any) -> None:
    with pytest.raises(InvalidDocument):
        asyncio.run(running.keeper.test(document))


def test_a_rule_that_cannot_be_answered_is_told(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(rule("{field: action.kind, gt: 3}"))
    running.reload()
    found = running.test(action={"kind": "x"})
    assert (found["result"], found["rule"]) == (None, "r")
    assert found["failed"] == "action.kind: gt cannot compare 'x' with 3"
