"""Who matches has it, who does not any more loses it, whenever that changes."""

from __future__ import annotations

from sqlalchemy import update

from agent.core.rules.verdict import Result, Verdict
from agent.core.store.schema import agents, approvals, timers
from tests.fakes.dispatching_core import FunctionRules, scenario
from tests.fakes.recurring_core import RecurringCore


@scenario
async def test_a_node_that_comes_later_gets_it() -> None:
    core = RecurringCore()
    await core.make(selector="role=web")
    await core.add("a", role="web")
    await core.add("b", role="db")
    assert await core.wanted_on() == ["a"]
    assert await core.delivered("a") == ["r"]
    assert await core.delivered("b") == []


@scenario
async def test_labels_that_change_take_it_and_give_it_back() -> None:
    core = RecurringCore()
    await core.add("a", role="web")
    await core.make(selector="role=web")
    await core.report_of("a", role="db")
    assert await core.wanted_on() == []
    first = (await core.on())["a"]["revision"]
    await core.report_of("a", role="web")
    assert await core.wanted_on() == ["a"]
    assert (await core.on())["a"]["revision"] > first, "a node takes higher ones only"
    settled = await core.counts()
    await core.report_of("a", role="web")
    assert await core.counts() == settled, "nothing changed, nothing is sent"


@scenario
async def test_it_costs_nothing_where_nothing_follows_labels() -> None:
    core = RecurringCore()
    await core.add("a", role="web")
    await core.make(node="a")
    await core.report_of("a", role="db")
    assert await core.rows(timers) == []
    assert await core.wanted_on() == ["a"]


@scenario
async def test_who_comes_later_is_judged_like_the_others() -> None:
    def judge(_: object, node: object) -> Verdict:
        prod = isinstance(node, dict) and node["labels"].get("env") == "prod"
        if prod:
            return Verdict(result=Result.REQUIRE_APPROVAL, rule="prod", reason="careful")
        return Verdict()

    core = RecurringCore(rules=FunctionRules(judge))
    await core.make(selector="role=web")
    await core.add("a", role="web")
    await core.add("p", role="web", env="prod")
    await core.report_of("p", role="web", env="prod", kinds=[{"kind": "sleep"}, {"kind": "x"}])
    assert await core.wanted_on() == ["a"]
    shown = await core.recurring.get("r")
    assert shown["question"]["why"].startswith("the rule prod requires approval")
    assert len(await core.rows(approvals)) == 1, "people are asked once"
    await core.answer(shown["question"]["approval_id"], by="ann")
    assert await core.wanted_on() == ["a", "p"]
    assert (await core.on())["p"]["approval"]["by"] == "ann"


@scenario
async def test_a_node_out_of_service_is_none_of_them() -> None:
    core = RecurringCore()
    await core.add("a", role="web")
    query = update(agents).values(decommissioned_at=core.clock.now())
    await core.store.write(lambda c: c.execute(query))
    made = await core.make(selector="role=web")
    assert made["nodes"]["count"] == 0
