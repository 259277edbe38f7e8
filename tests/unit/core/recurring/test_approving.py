"""Approved once as a definition with its target; what waits is on no node."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.actions.listing import ActionRef
from agent.core.rules.verdict import Result, Verdict
from agent.core.store.schema import approvals
from agent.domain.definition import ApprovalState
from agent.domain.errors import Refused
from agent.wire.canonical import digest_of
from agent.wire.definition import decode_definition
from tests.fakes.dispatching_core import FunctionRules, scenario
from tests.fakes.recurring_core import RecurringCore

RISKY = [{"kind": "sleep", "risk_level": "dangerous"}]
EDIT = {"kind": "sleep", "schedule": "every 10m"}


async def risky(**target: Any) -> tuple[RecurringCore, dict[str, Any]]:
    core = RecurringCore()
    for name in ("a", "b"):
        await core.add(name, kinds=RISKY, role="web")
    return core, await core.make(**(target or {"selector": "role=web"}))


@pytest.mark.parametrize("target", [{"selector": "role=web"}, {"node": "a"}])
def test_it_waits_and_is_on_no_node_until_somebody_approves(target: dict[str, str]) -> None:
    @scenario
    async def run() -> None:
        core, made = await risky(**target)
        assert (made["outcome"], made["state"]) == ("pending_approval", "pending_approval")
        assert "dangerous" in made["why"]
        assert await core.on() == {}
        await core.report_of("a", kinds=RISKY, role="web", more="labels")
        assert await core.on() == {}
        await core.answer(made["approval_id"])
        assert await core.wanted_on() == (["a"] if "node" in target else ["a", "b"])
        sent = decode_definition((await core.on())["a"])
        assert sent.approval is not None
        assert (sent.approval.state.value, sent.approval.by) == ("approved", "ann")
        assert sent.approval.digest == digest_of(sent)
        shown = await core.recurring.get("r")
        assert (shown["state"], shown["question"]) == ("active", None)

    run()


@pytest.mark.parametrize("target", [{"selector": "role=web"}, {"node": "a"}])
def test_its_question_is_not_answered_by_the_id_of_an_action(target: dict[str, str]) -> None:
    @scenario
    async def run() -> None:
        core, made = await risky(**target)
        for _ in range(2):  # first on no node, then an edit of what is on some
            with pytest.raises(Refused, match=made["approval_id"]) as caught:
                await core.approvals.answer_action(
                    ActionRef(id="r"), {}, ApprovalState.APPROVED, by="ann"
                )
            assert caught.value.code == "recurring"
            await core.answer(made["approval_id"])
            made = await core.recurring.update("r", EDIT)
            assert made["outcome"] == "pending_approval"

    run()


@pytest.mark.parametrize("target", [{"selector": "role=web"}, {"node": "a"}])
@pytest.mark.parametrize("is_edit", [False, True])
def test_cancelled_with_what_belongs_to_it(target: dict[str, str], *, is_edit: bool) -> None:
    @scenario
    async def run() -> None:
        core, made = await risky(**target, correlation_id="c")
        if is_edit:
            await core.answer(made["approval_id"])
            made = await core.recurring.update("r", {**EDIT, "correlation_id": "c"})
        told = await core.dispatch.cancel_correlated("c")
        assert {one["action_id"] for one in told["actions"]} == {"r"}
        assert (await core.recurring.get("r"))["state"] == "deleted"
        assert await core.wanted_on() == []
        question = await core.approvals.get(made["approval_id"])
        assert question["state"] == "withdrawn"
        assert not (await core.dispatch.cancel_correlated("c"))["more"], "twice is once"

    run()


@scenario
async def test_an_edit_that_would_move_it_is_its_question_all_the_same() -> None:
    core, made = await risky(node="a")
    await core.answer(made["approval_id"])
    asked = []
    for target in ({"node": "b"}, {"selector": "role=web"}, {"node": "b"}):
        asked.append((await core.recurring.update("r", {**EDIT, **target}))["approval_id"])
        question = (await core.recurring.get("r"))["question"]
        assert question["approval_id"] == asked[-1]

    changes = (await core.approvals.get(asked[-1]))["changes"]
    assert set(changes) == {"node", "schedule"}
    assert changes["node"] == {"from": "a", "to": "b"}

    async def states() -> list[str]:
        return [(await core.approvals.get(one))["state"] for one in asked]

    assert await states() == ["superseded", "superseded", "pending"], "one at a time"
    assert await core.wanted_on() == ["a"]
    await core.recurring.delete("r")
    assert await states() == ["superseded", "superseded", "withdrawn"]


@scenario
async def test_the_question_names_the_target() -> None:
    core, made = await risky()
    asked = await core.approvals.get(made["approval_id"])
    assert asked["definition"]["selector"] == "role=web"
    assert len(await core.rows(approvals)) == 1, "one for all of its nodes"


@scenario
async def test_rejected_is_over_until_it_is_changed() -> None:
    core, made = await risky()
    await core.answer(made["approval_id"], state=ApprovalState.REJECTED)
    assert (await core.recurring.get("r"))["state"] == "rejected"
    assert await core.on() == {}
    again = await core.recurring.update("r", EDIT)
    assert again["outcome"] == "pending_approval"
    await core.answer(again["approval_id"])
    assert await core.wanted_on() == ["a", "b"]


@scenario
async def test_nobody_answers_in_time() -> None:
    core, _ = await risky()
    core.clock.pass_by(8 * 86_400)
    await core.fire()
    assert (await core.recurring.get("r"))["state"] == "expired"
    assert await core.on() == {}


@scenario
async def test_an_edit_waits_while_the_approved_one_goes_on() -> None:
    core, made = await risky()
    await core.answer(made["approval_id"])
    first = await core.recurring.update("r", EDIT)
    second = await core.recurring.update("r", {**EDIT, "payload": {"x": 1}})
    assert second["outcome"] == "pending_approval"
    assert (second["revision"], second["schedule"]["every"]) == (1, "every 5m")
    assert second["question"]["is_edit"]
    assert {one["revision"] for one in (await core.on()).values()} == {1}
    with pytest.raises(Refused):
        await core.answer(first["approval_id"])
    await core.answer(second["approval_id"])
    sent = await core.on()
    assert {one["revision"] for one in sent.values()} == {2}
    assert sent["b"]["payload"] == {"x": 1}
    again = await core.recurring.update("r", {**EDIT, "selector": "role=web,node=a"})
    assert again["outcome"] == "pending_approval", "where it runs is a part of what was approved"
    await core.answer(again["approval_id"], state=ApprovalState.REJECTED)
    shown = await core.recurring.get("r")
    assert (shown["state"], shown["selector"]) == ("active", "role=web")


@scenario
async def test_a_pause_needs_nobody_and_voids_nothing() -> None:
    core, made = await risky()
    await core.answer(made["approval_id"])
    await core.recurring.pause("r", "quiet")
    sent = decode_definition((await core.on())["a"])
    assert sent.approval is not None
    assert sent.approval.digest == digest_of(sent)
    assert sent.schedule is not None
    assert sent.schedule.paused


@scenario
async def test_what_is_deleted_is_asked_about_no_more() -> None:
    core, made = await risky()
    await core.recurring.delete("r")
    with pytest.raises(Refused):
        await core.answer(made["approval_id"])
    assert await core.on() == {}


@scenario
async def test_what_the_policy_approved_it_approved_for_nodes_like_these() -> None:
    """A node where the same is guarded comes in later: that is for a person."""
    approves = FunctionRules(lambda *_: Verdict(result=Result.AUTO_APPROVE, rule="trusted"))
    core = RecurringCore(rules=approves)
    await core.add("a", kinds=[{"kind": "sleep", "risk_level": "safe"}], role="web")
    made = await core.make(selector="role=web", confidence=0.95)
    assert (made["outcome"], made["approval"]["by"]) == ("scheduled", "policy:trusted")
    await core.add("b", kinds=[{"kind": "sleep", "risk_level": "safe"}], role="web")
    await core.add("c", kinds=[{"kind": "sleep", "risk_level": "guarded"}], role="web")
    assert await core.wanted_on() == ["a", "b"]
    [asked] = await core.rows(approvals)
    assert "guarded" in asked.why
    await core.answer(asked.id)
    assert await core.wanted_on() == ["a", "b", "c"]
