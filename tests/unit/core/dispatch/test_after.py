"""After the dispatch: retried, called off together, sent in a batch, found in lists."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agent.core.actions.listing import ActionRef, Filter
from agent.core.rules.verdict import Result, Verdict
from agent.core.store.schema import actions, approvals, audit
from agent.domain.errors import AgentError, InvalidDocument, NotFound
from tests.fakes.dispatching_core import START, DispatchingCore, FunctionRules, scenario
from tests.unit.core.dispatch.test_delays import refusal
from tests.unit.core.dispatch.test_pipeline import KINDS, in_seconds
from tests.unit.core.dispatch.test_targets import paths

FAILED = {"status": "FAILED", "reason": "exit", "attempt": 1}


async def retry(core: DispatchingCore, name: str, **body: Any) -> dict[str, Any]:
    return await core.dispatch.retry(ActionRef(id=name), body)


@scenario
async def test_a_retry_is_a_new_action_in_a_window_of_its_own() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    old = await core.send(
        node="a", payload={"n": 1}, labels={"x": "y"}, service="billing", timeout_s=5,
        correlation_id="c", to_date=in_seconds(30), x_own="kept",
    )  # fmt: skip
    assert await refusal(retry(core, old["action_id"])) == "not_final"
    await core.report(old["action_id"], **FAILED)
    core.clock.pass_by(60)
    window = {"from_date": in_seconds(3600), "to_date": in_seconds(7200)}
    new = await retry(core, old["action_id"], **window)
    assert (new["outcome"], new["scheduled_for"]) == ("scheduled", in_seconds(3600))
    shown = await core.get(new["action_id"])
    kept = ("retry_of", "payload", "labels", "service", "timeout_s")
    assert {key: shown[key] for key in kept} == {
        "retry_of": old["action_id"], "payload": {"n": 1}, "labels": {"x": "y"},
        "service": "billing", "timeout_s": 5,
    }  # fmt: skip
    assert (shown["correlation_id"], shown["x_own"], shown["to_date"]) == (
        "c", "kept", in_seconds(7200),
    )  # fmt: skip
    assert (shown["revision"], shown["node"], shown["phase"]) == (1, "a", "SCHEDULED")
    assert await core.ids(retry_of=old["action_id"]) == [new["action_id"]]
    assert (await core.get(old["action_id"]))["phase"] == "FAILED", "final stays final"
    plain = await core.get((await retry(core, old["action_id"]))["action_id"])
    assert (plain["phase"], plain.get("to_date")) == ("QUEUED", None), "the old window is over"


@scenario
async def test_a_retry_goes_the_way_of_any_dispatch() -> None:
    verdict = Verdict(result=Result.SCHEDULE, rule="offpeak", delay_s=600)
    rules = FunctionRules(lambda action, _: verdict if action.get("retry_of") else Verdict())
    core = DispatchingCore(rules=rules)
    await core.add_nodes("a", kinds=KINDS)
    old = (await core.send(node="a", payload={"seconds": 1}))["action_id"]
    await core.report(old, **FAILED)
    answer = await retry(core, old)
    assert (answer["outcome"], answer["rule"]) == ("scheduled", "offpeak")
    assert await paths(retry(core, old, payload={})) == ["payload"]
    assert await paths(retry(core, old, kind="other", approve="yes")) == ["kind", "approve"]
    assert await refusal(retry(core, old, approve=True)) == "forbidden"
    assert await refusal(retry(core, "nobody")) == "not_found"
    first = await retry(core, old, dedup_key="once")
    assert (await retry(core, old, dedup_key="once"))["action_id"] == first["action_id"]


@scenario
async def test_a_node_s_own_action_is_repeated_as_one_of_the_core_s() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    name = (await core.send(node="a", payload={"n": 1}))["action_id"]
    await core.report(name, owner="node", **FAILED)
    shown = await core.get((await retry(core, name))["action_id"])
    assert (shown["owner"], shown["payload"], shown["retry_of"]) == ("core", {"n": 1}, name)


@scenario
async def test_what_cannot_be_repeated_is_told() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    rule = (await core.send(node="a", schedule={"every": "1h"}))["action_id"]
    assert await refusal(retry(core, rule)) == "recurring"
    unknown = (await core.send(node="a"))["action_id"]
    await core.report(unknown, definition=None, **FAILED)
    assert await refusal(retry(core, unknown)) == "definition_unknown"


@scenario
async def test_every_fault_of_a_retry_is_told() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    name = (await core.send(node="a", payload={"n": 1}))["action_id"]
    await core.report(name, **FAILED)
    wrong = {"paylod": {}, "to_date": "soon", "approve": "yes", "payload": 5}
    assert sorted(await paths(retry(core, name, **wrong))) == [
        "approve", "payload", "paylod", "to_date",
    ]  # fmt: skip
    assert await paths(core.dispatch.retry(ActionRef(id=name), [])) == [""]
    again = await core.get((await retry(core, name, payload=None))["action_id"])
    assert again["payload"] == {"n": 1}, "a null says nothing"


@scenario
async def test_everything_of_a_correlation_is_called_off_together() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", labels={"r": "w"}, kinds=KINDS)
    for_all = {"correlation_id": "alarm", "payload": {"seconds": 1}}
    both = await core.send(selector="r=w", from_date=in_seconds(1800), **for_all)
    waiting = await core.send("delete", node="a", correlation_id="alarm")
    running = await core.send(node="a", **for_all)
    done = await core.send(node="b", **for_all)
    other = await core.send(node="b", correlation_id="other", payload={"seconds": 1})
    await core.report(running["action_id"], status="STARTED", attempt=1)
    await core.report(done["action_id"], status="FINISHED")
    streams = len(await core.delivered("a")), len(await core.delivered("b"))
    told = await core.dispatch.cancel_correlated("alarm", {"reason": "acknowledged"}, by="olga")
    assert [(one["outcome"], one.get("error")) for one in told["actions"]] == [
        ("requested", None), ("requested", None), ("cancelled", None),
        ("refused", "already_started"),
    ]  # fmt: skip
    assert (told["correlation_id"], told["more"]) == ("alarm", False)
    for one in both["actions"]:
        shown = await core.get(one["action_id"])
        assert (shown["phase"], shown["requested"]["why"]) == ("CANCELLED", "acknowledged")
    assert (await core.get(waiting["action_id"]))["phase"] == "CANCELLED"
    (question,) = await core.rows(approvals)
    assert question.state == "withdrawn"
    assert (await core.get(other["action_id"]))["phase"] == "QUEUED"
    now = len(await core.delivered("a")), len(await core.delivered("b"))
    assert now == (streams[0] + 1, streams[1] + 1), "what never left is not withdrawn there"
    assert [line.target for line in await core.rows(audit) if line.what == "cancel"] == ["alarm"]
    before = await core.counts()
    again = await core.dispatch.cancel_correlated("alarm")
    assert {one["outcome"] for one in again["actions"]} == {"requested", "cancelled", "refused"}
    assert await core.counts() == before, "asked once"
    stopped = await core.dispatch.cancel_correlated("alarm", {"if_started": "stop"})
    assert "refused" not in {one["outcome"] for one in stopped["actions"]}
    with pytest.raises(NotFound, match="correlation id"):
        await core.dispatch.cancel_correlated("nothing of that name")


@scenario
async def test_a_waiting_action_is_called_off_for_good() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    name = (await core.send("delete", node="a"))["action_id"]
    shown = await core.dispatch.cancel(ActionRef(id=name), {"reason": "no"}, by="olga")
    assert (shown["phase"], shown["requested"]) == ("CANCELLED", None)
    assert await core.delivered("a") == []
    assert await core.ids(phase=None, approval="pending") in ([], [name])
    (question,) = await core.rows(approvals)
    assert (question.state, question.decided_by) == ("withdrawn", "olga")


@scenario
async def test_in_a_batch_each_stands_alone() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", labels={"r": "w"}, kinds=KINDS)
    one = {"kind": "sleep", "node": "a", "payload": {"seconds": 1}}
    documents: list[Any] = [
        one, {**one, "payload": {}}, {**one, "node": "nobody"}, {**one, "selector": "r=w"},
        {"kind": "sleep", "selector": "r=w", "payload": {"seconds": 1}}, "no dispatch",
        {**one, "id": "mine"}, {**one, "id": "mine"}, {**one, "dedup_key": "k"},
        {**one, "dedup_key": "k"},
    ]  # fmt: skip
    before = await core.counts()
    dry = await core.dispatch.dispatch_batch({"actions": documents}, dry_run=True)
    assert await core.counts() == before
    assert isinstance(dry[0], dict)
    assert dry[0]["outcome"] == "dry_run"
    found = await core.dispatch.dispatch_batch({"actions": documents})
    told = [item["outcome"] if isinstance(item, dict) else type(item).__name__ for item in found]
    assert told == [
        "queued", "InvalidDocument", "NotFound", "InvalidDocument", "queued", "InvalidDocument",
        "queued", "Refused", "queued", "deduplicated",
    ]  # fmt: skip
    assert isinstance(found[1], AgentError)
    assert isinstance(found[4], dict)
    assert len(found[4]["actions"]) == 2
    assert len(await core.rows(actions)) == 5


@scenario
async def test_a_batch_is_bounded() -> None:
    core = DispatchingCore()
    bad: list[Any] = [
        [], {}, {"actions": []}, {"actions": {}}, {"actions": [{}] * 501},
        {"actions": [{}], "dry_run": True},
    ]  # fmt: skip
    for document in bad:
        with pytest.raises(InvalidDocument):
            await core.dispatch.dispatch_batch(document)


@scenario
async def test_lists_are_filtered_by_what_belongs_together() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    made = []
    for at in range(6):
        more = {"correlation_id": f"c{at % 2}", "service": f"s{at % 3}"}
        made.append((await core.send(node="a", **more))["action_id"])
        core.clock.pass_by(3 * 86_400)
    assert await core.ids(correlation_id="c1") == [made[5], made[3], made[1]]
    assert await core.ids(service="s0") == [made[3], made[0]]
    assert await core.ids(correlation_id="c0", service="s0") == [made[0]]
    days = timedelta(days=1)
    assert await core.ids(since=START + 9 * days) == [made[5], made[4], made[3]]
    assert await core.ids(until=START + 3 * days) == [made[0]]
    assert await core.ids(since=START + 3 * days, until=START + 7 * days) == [made[2], made[1]]
    assert await core.ids(since=START + 99 * days) == []
    page = await core.dispatch.list(Filter(correlation_id="c1", limit=2))
    rest = await core.dispatch.list(Filter(correlation_id="c1", limit=2, after=int(page["next"])))
    assert [one["id"] for one in page["actions"] + rest["actions"]] == [made[5], made[3], made[1]]
    assert rest["next"] is None


@scenario
async def test_waiting_for_several_answers_when_the_last_has_ended() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", labels={"r": "w"})
    answer = await core.send(selector="r=w", wait_s=0.02)
    assert answer["outcome"] == "queued", "nothing ended in time"

    async def judge_late() -> dict[str, Any]:
        return await core.send("late", selector="r=w", wait_s=10)

    waiting = asyncio.create_task(judge_late())
    while len(await core.ids(kind="late")) < 2:  # noqa: ASYNC110  (nothing else tells it)
        await asyncio.sleep(0)
    names = await core.ids(kind="late")
    await core.report(names[0], status="FINISHED")
    await core.report(names[1], **FAILED)
    core.wakeups.notify([("action", name) for name in names])
    ended = await waiting
    assert sorted(one["outcome"] for one in ended["actions"]) == ["executed", "failed"]
    assert (ended["outcome"], ended["actions"][0]["response"]["phase"]) == ("failed", "FAILED")
