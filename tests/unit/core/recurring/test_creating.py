"""Recurring actions of the core: created, listed, shown; whatever is wrong stores nothing."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.rules.verdict import Result, Verdict
from agent.core.store.schema import audit, events, recurring
from agent.domain.errors import Fault, InvalidDocument, NotFound, Refused
from agent.wire.canonical import digest_of
from agent.wire.definition import decode_definition
from tests.fakes.dispatching_core import FunctionRules, scenario
from tests.fakes.recurring_core import RecurringCore

SCHEMA = {"type": "object", "required": ["seconds"]}


async def faults_of(made: Any) -> list[Fault]:
    with pytest.raises(InvalidDocument) as caught:
        await made
    return list(caught.value.faults)


@scenario
async def test_for_one_node() -> None:
    core = RecurringCore()
    await core.add("a")
    made = await core.make(node="a", payload={"x": 1})
    assert (made["outcome"], made["id"], made["state"]) == ("scheduled", "r", "active")
    assert (made["node"], made["selector"], made["revision"]) == ("a", None, 1)
    assert await core.delivered("a") == ["r"]
    sent = (await core.on())["a"]
    assert sent["schedule"]["every"] == "every 5m"
    assert (sent["node"], sent["owner"], sent["revision"]) == ("a", "core", 1)
    assert [row.what for row in await core.rows(audit)] == ["recurring_create"]
    told = [(row.type, row.agent_id) for row in await core.rows(events)]
    assert ("recurring_created", "") in told
    assert ("dispatched", "a") in told


@scenario
async def test_for_all_that_match_each_has_it_under_the_same_id() -> None:
    core = RecurringCore()
    for name in ("a", "b"):
        await core.add(name, role="web")
    await core.add("c", role="db")
    made = await core.make(selector="role=web")
    assert [(one["node"], one["outcome"]) for one in made["actions"]] == [
        ("a", "scheduled"), ("b", "scheduled"),
    ]  # fmt: skip
    assert await core.wanted_on() == ["a", "b"]
    assert made["nodes"] == {"count": 2, "counted_all": True}
    by_labels = await core.make(id="s", labels={"role": "db"})
    assert (by_labels["selector"], by_labels["labels"]) == ("role=db", {"role": "db"})


@scenario
async def test_nobody_matches_yet() -> None:
    core = RecurringCore()
    made = await core.make(selector="role=web")
    assert (made["outcome"], made["nodes"]["count"]) == ("scheduled", 0)


@scenario
async def test_a_dispatch_with_a_schedule_is_the_same() -> None:
    core = RecurringCore()
    await core.add("a", role="web")
    answer = await core.send(node="a", id="r", schedule="every 5m")
    assert answer == {"outcome": "scheduled", "action_id": "r", "scheduled_for": None}
    several = await core.send(selector="role=web", id="s", schedule="every 5m")
    assert several["actions"] == [{"node": "a", "outcome": "scheduled", "action_id": "s"}]
    assert await core.listed() == ["r", "s"]
    dry = await core.send(node="a", id="t", schedule="every 5m", dry_run=True)
    assert (dry["outcome"], dry["would_be"]) == ("dry_run", "scheduled")
    assert await core.listed() == ["r", "s"]


@scenario
async def test_its_id_is_nobody_elses() -> None:
    core = RecurringCore()
    await core.add("a")
    await core.send(node="a", id="taken")
    await core.make(node="a")
    before = await core.counts()
    for again in (
        core.make(node="a"),
        core.send(node="a", id="r"),
        core.make(id="taken", node="a"),
    ):
        with pytest.raises(Refused, match="nothing was changed") as caught:
            await again
        assert caught.value.code == "exists"
    assert await core.counts() == before


@scenario
async def test_all_faults_are_told_together_and_nothing_is_stored() -> None:
    core = RecurringCore()
    await core.add("a")
    before = await core.counts()
    with pytest.raises(NotFound):
        await core.make(node="nobody")
    faults = await faults_of(core.make("every blue moon", node="a", timeout_s=-1, id="r" * 97))
    assert {fault.path for fault in faults} == {"schedule", "timeout_s", "id"}
    paths = [fault.path for fault in await faults_of(core.make(selector="x=y", pick="any"))]
    assert paths == ["pick"]
    no_schedule = core.recurring.create({"kind": "sleep", "node": "a"})
    assert [fault.path for fault in await faults_of(no_schedule)] == ["schedule"]
    assert [f.path for f in await faults_of(core.recurring.create([]))] == [""]
    assert [f.path for f in await faults_of(core.make(selector="a in b"))] == ["selector"]
    assert await core.counts() == before
    assert await core.rows(recurring) == []


@scenario
async def test_the_catalogue_is_asked_and_one_that_cannot_stops_nobody() -> None:
    core = RecurringCore()
    await core.add("a", role="web", kinds=[{"kind": "sleep", "payload_schema": SCHEMA}])
    await core.add("b", role="web", kinds=[])
    made = await core.make(selector="role=web", payload={"seconds": 1})
    assert [one["outcome"] for one in made["actions"]] == ["scheduled", "failed"]
    assert made["actions"][1]["faults"][0]["path"] == "kind"
    assert await core.wanted_on() == ["a"]
    faults = await faults_of(core.make(id="s", selector="role=web"))
    assert sorted(fault.path for fault in faults) == ["kind", "payload"]
    await core.report_of("b", role="web")
    assert await core.wanted_on() == ["a", "b"], "it can now, so it has it"


@scenario
async def test_rules_are_asked_once_for_each_node() -> None:
    def judge(_: Any, node: Any) -> Verdict:
        if node["id"] == "b":
            return Verdict(result=Result.SUPPRESS, rule="not-there", reason="maintenance")
        return Verdict(result=Result.SCHEDULE, rule="later", delay_s=60)

    rules = FunctionRules(judge)
    core = RecurringCore(rules=rules)
    for name in ("a", "b"):
        await core.add(name, role="web")
    made = await core.make(selector="role=web")
    assert len(rules.asked) == 2
    assert [one["outcome"] for one in made["actions"]] == ["scheduled", "suppressed"]
    assert "which a recurring action ignores" in made["actions"][0]["note"]
    assert "from_date" not in (await core.on())["a"]
    before = await core.counts()
    with pytest.raises(Refused, match="not-there"):
        await core.make(id="s", node="b")
    suppressed = await core.send(id="s", node="b", schedule="every 5m")
    assert (suppressed["outcome"], suppressed["rule"]) == ("suppressed", "not-there")
    assert await core.counts() == before


@scenario
async def test_what_a_node_is_sent_carries_an_approval_of_exactly_that() -> None:
    core = RecurringCore()
    await core.add("a", kinds=[{"kind": "sleep", "risk_level": "dangerous"}])
    made = await core.make(node="a", approve=True, may_approve=True, by="ann")
    assert (made["outcome"], made["approved_by"]) == ("scheduled", "ann")
    sent = decode_definition((await core.on())["a"])
    assert sent.approval is not None
    assert sent.approval.digest == digest_of(sent)


@scenario
async def test_lists_are_paged_and_filtered() -> None:
    core = RecurringCore()
    await core.add("a", role="web")
    await core.add("b", role="db")
    for name in ("r1", "r2", "r3"):
        await core.make(id=name, node="a")
    await core.make(id="r4", selector="role=db")
    assert await core.listed(limit=2) == ["r1", "r2"]
    assert await core.listed(after="r2") == ["r3", "r4"]
    assert await core.listed(node="b") == ["r4"]
    await core.recurring.delete("r1")
    assert await core.listed() == ["r2", "r3", "r4"]
    assert await core.listed(deleted=True) == ["r1", "r2", "r3", "r4"]
    with pytest.raises(NotFound):
        await core.recurring.get("nothing")


@scenario
async def test_it_is_shown_as_its_nodes_told_it() -> None:
    core = RecurringCore()
    for name in ("a", "b"):
        await core.add(name, role="web")
    await core.make(selector="role=web")
    await core.stands("a", next_at="2026-03-01T12:05:00Z", run_count=3, zone="UTC")
    found = await core.recurring.get("r")
    a, b = found["on"]
    assert (a["state"], a["run_count"], a["next_at"]) == ("active", 3, "2026-03-01T12:05:00Z")
    assert (b["state"], b["delivered"]) == (None, False), "it has not told yet"
    assert found["next_at"] == "2026-03-01T12:05:00Z"
    page = await core.recurring.get("r", limit=1)
    assert [one["node"] for one in page["on"]] == ["a"]
    assert [one["node"] for one in (await core.recurring.get("r", page["next"]))["on"]] == ["b"]
