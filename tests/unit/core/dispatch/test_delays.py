"""Delayed actions: listed, moved, called off until they start; and what was approved stays so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.core.actions.listing import ActionRef
from agent.core.approvals.judging import ApprovalTerms
from agent.core.store.schema import actions, approvals, audit, events
from agent.domain.approval import ApprovalPolicy
from agent.domain.errors import Refused
from tests.fakes.dispatching_core import START, DispatchingCore, scenario
from tests.unit.core.dispatch.test_pipeline import KINDS, in_seconds
from tests.unit.core.dispatch.test_targets import paths


async def reschedule(core: DispatchingCore, name: str, **body: Any) -> dict[str, Any]:
    who = {key: body.pop(key) for key in ("by", "may_approve") if key in body}
    return await core.dispatch.reschedule(ActionRef(id=name), body, **who)


async def refusal(call: Any) -> str:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value.code


async def delayed(core: DispatchingCore, **more: Any) -> str:
    answer = await core.send(node="a", from_date=in_seconds(3600), **more)
    return str(answer["action_id"])


@scenario
async def test_a_delayed_action_is_moved_and_its_node_told() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    name = await delayed(core)
    shown = await reschedule(core, name, from_date=in_seconds(7200), reason="too early")
    assert (shown["phase"], shown["from_date"]) == ("SCHEDULED", in_seconds(7200))
    assert (shown["revision"], shown["requested"]["type"]) == (2, "reschedule")
    assert shown["requested"]["why"] == "too early"
    assert await core.delivered("a") == [name, name]
    assert [event.type for event in await core.rows(events)] == ["dispatched", "rescheduled"]
    assert [line.what for line in await core.rows(audit)] == ["dispatch", "reschedule"]
    again = await reschedule(core, name, from_date=in_seconds(60), to_date=in_seconds(90))
    assert (again["revision"], again["to_date"]) == (3, in_seconds(90))
    same = await reschedule(core, name, from_date=in_seconds(70), to_date=None)
    assert (same["revision"], same["to_date"]) == (4, in_seconds(90)), "null says nothing"
    now = await reschedule(core, name, from_date=in_seconds(-60))
    assert now["phase"] == "QUEUED", "a time that has passed means now"


@scenario
async def test_what_a_new_time_must_be() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    name = await delayed(core, to_date=in_seconds(4000))
    before = await core.counts()
    assert await paths(reschedule(core, name)) == ["from_date"]
    assert await paths(reschedule(core, name, from_date="tomorrow", to=1)) == ["from_date", "to"]
    assert await paths(reschedule(core, name, from_date=in_seconds(5000))) == ["to_date"]
    late = {"from_date": in_seconds(-20), "to_date": in_seconds(-10)}
    assert await paths(reschedule(core, name, **late)) == ["to_date"]
    assert await refusal(reschedule(core, "nobody", from_date=in_seconds(1))) == "not_found"
    assert await core.counts() == before


@scenario
async def test_what_has_started_or_ended_is_not_moved() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    soon = in_seconds(60)
    for columns, code in (
        ({"status": "STARTED", "attempt": 1}, "already_started"),
        ({"status": "FINISHED"}, "already_ended"),
        ({"lost_at": START}, "already_ended"),
        ({"wanted": False}, "already_ended"),
        ({"refused": "{}"}, "already_ended"),
        ({"owner": "node"}, "not_the_cores"),
        ({"definition": None}, "definition_unknown"),
        ({"recurring_id": "r"}, "occurrence"),
    ):
        name = await delayed(core)
        await core.report(name, **columns)
        before = await core.counts()
        assert await refusal(reschedule(core, name, from_date=soon)) == code, columns
        assert await core.counts() == before
    rule = (await core.send(node="a", schedule={"every": "1h"}))["action_id"]
    assert await refusal(reschedule(core, rule, from_date=soon)) == "recurring"


@scenario
async def test_a_change_voids_the_approval_and_waits_while_the_old_one_stays() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    answer = await core.send(
        "delete", node="a", from_date=in_seconds(3600), approve=True, may_approve=True, by="anna"
    )
    name = answer["action_id"]
    shown = await reschedule(core, name, from_date=in_seconds(7200), by="olga")
    assert (shown["from_date"], shown["revision"]) == (in_seconds(3600), 1), "stays in force"
    assert (shown["approval"]["state"], shown["requested"]) == ("approved", None)
    (question,) = await core.rows(approvals)
    assert (question.is_edit, question.state, question.requested_by) == (True, "pending", "olga")
    assert in_seconds(7200) in question.definition
    assert "voids the approval" in question.why
    assert await core.delivered("a") == [name]
    refused = reschedule(core, name, from_date=in_seconds(60), approve=True, by="olga")
    assert await refusal(refused) == "forbidden"
    moved = await reschedule(
        core, name, from_date=in_seconds(9000), approve=True, may_approve=True, by="anna"
    )
    assert (moved["from_date"], moved["revision"]) == (in_seconds(9000), 2)
    assert (moved["approval"]["by"], moved["approval"]["state"]) == ("anna", "approved")
    (question,) = await core.rows(approvals)
    assert question.state == "superseded", "a newer edit took its place"
    assert await core.delivered("a") == [name, name]


@scenario
async def test_what_was_asked_to_be_approved_once_is_asked_again() -> None:
    """The rule that required it is not asked again; that it was required is known all the same."""
    core = DispatchingCore()
    await core.add_nodes("a")
    answer = await core.send(
        node="a", approval_required=True, from_date=in_seconds(60), approve=True, may_approve=True
    )
    await core.report(answer["action_id"], definition=await without(core, answer["action_id"]))
    await reschedule(core, answer["action_id"], from_date=in_seconds(90))
    (question,) = await core.rows(approvals)
    assert "voids" in question.why


async def without(core: DispatchingCore, name: str) -> str:
    """The stored definition, as if a rule alone had asked for the approval."""
    (row,) = [row for row in await core.rows(actions) if row.id == name]
    document = json.loads(row.definition)
    del document["approval_required"]
    return json.dumps(document)


@scenario
async def test_four_eyes_also_look_at_a_new_time() -> None:
    terms = ApprovalTerms(policy=ApprovalPolicy(four_eyes=True))
    core = DispatchingCore(approvals=terms)
    await core.add_nodes("a", kinds=KINDS)
    name = (await core.send("delete", node="a", from_date=in_seconds(60)))["action_id"]
    moved = reschedule(core, name, from_date=in_seconds(90), approve=True, may_approve=True)
    assert await refusal(moved) == "four_eyes"


@scenario
async def test_who_approved_a_new_time_is_in_the_audit_log() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    name = (await core.send("delete", node="a"))["action_id"]
    await reschedule(core, name, from_date=in_seconds(90), approve=True, may_approve=True, by="ann")
    line = (await core.rows(audit))[-1]
    assert (line.who, line.what, json.loads(line.detail)["approved"]) == ("ann", "reschedule", True)


@scenario
async def test_a_waiting_one_is_moved_where_it_waits() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    name = (await core.send("delete", node="a"))["action_id"]
    shown = await reschedule(core, name, from_date=in_seconds(60))
    assert (shown["phase"], shown["from_date"]) == ("PENDING_APPROVAL", in_seconds(60))
    asked = await core.rows(approvals)
    states = [(row.state, row.is_edit) for row in asked]
    assert states == [("superseded", False), ("pending", False)]
    assert "changed while it waited" in asked[1].why, "it never had an approval to be voided"
    assert await core.delivered("a") == []
