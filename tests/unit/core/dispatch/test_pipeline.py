"""Catalogue, rules, approvals and keys on the way of one dispatch; nothing is stored by half."""

from __future__ import annotations

import secrets
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Connection

from agent.core.actions.answers import answer_of
from agent.core.actions.dispatching import carry_out
from agent.core.actions.planning import plan_dispatch
from agent.core.actions.settling import Result as Carried
from agent.core.actions.submission import read_submission
from agent.core.actions.terms import Asker, Terms
from agent.core.approvals.judging import ApprovalTerms
from agent.core.occasion import Occasion
from agent.core.rules.verdict import Result, Verdict
from agent.core.store.schema import actions, agents, approvals, audit, dedup_keys, events
from agent.domain.approval import ApprovalPolicy
from agent.domain.errors import Fault, InvalidDocument, Refused
from agent.domain.instants import format_instant
from tests.fakes.dispatching_core import (
    START,
    DispatchingCore,
    FunctionRules,
    report_of,
    scenario,
)
from tests.unit.core.dispatch.test_targets import paths

SCHEMA = {
    "type": "object",
    "properties": {"seconds": {"type": "number"}},
    "required": ["seconds"],
    "additionalProperties": False,
}
KINDS: list[dict[str, Any]] = [
    {"kind": "sleep", "payload_schema": SCHEMA, "faults": []},
    {"kind": "broken", "faults": ["not executable"]},
    {"kind": "delete", "risk_level": "dangerous", "faults": []},
]


def rules(verdict: Verdict | None = None, **by_kind: Verdict) -> FunctionRules:
    return FunctionRules(lambda action, _: by_kind.get(action["kind"], verdict or Verdict()))


def in_seconds(seconds: float) -> str:
    return format_instant(START + timedelta(seconds=seconds))


@scenario
async def test_the_catalogue_is_asked_before_anything_is_stored() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    before = await core.counts()
    with pytest.raises(InvalidDocument, match=r"unknown kind 'slep'.*did you mean 'sleep'"):
        await core.send("slep", node="a")
    assert await paths(core.send("broken", node="a")) == ["kind"]
    wrong = await paths(core.send(node="a", payload={"seconds": "x", "more": 1}))
    assert wrong == ["payload.seconds", "payload"]
    assert await paths(core.send(node="a", payload={"seconds": 1}, requires=["retry"])) == [
        "requires"
    ]
    assert await core.counts() == before
    assert (await core.send(node="a", payload={"seconds": 1}))["outcome"] == "queued"


@scenario
async def test_a_node_that_never_reported_is_believed() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    assert (await core.send("whatever", node="a"))["outcome"] == "queued"


@scenario
async def test_of_several_nodes_those_that_cannot_stop_nobody() -> None:
    core = DispatchingCore()
    await core.add_nodes("bad-1", "bad-2", labels={"r": "w"}, kinds=[])
    await core.add_nodes("good", labels={"r": "w"}, kinds=KINDS)
    answer = await core.send(selector="r=w", payload={"seconds": 1})
    assert answer["outcome"] == "queued"
    assert [(one["node"], one["outcome"]) for one in answer["actions"]] == [
        ("bad-1", "failed"), ("bad-2", "failed"), ("good", "queued"),
    ]  # fmt: skip
    assert answer["actions"][0]["faults"][0]["path"] == "kind"
    assert len(await core.rows(actions)) == 1
    before = await core.counts()
    with pytest.raises(InvalidDocument, match="bad-1 and 1 more: unknown kind") as caught:
        await core.send(selector="r=w,node!=good", payload={"seconds": 1})
    assert len(caught.value.faults) == 1, "the same fault is told once"
    assert await core.counts() == before


@scenario
async def test_a_rule_delays_and_is_never_met_again() -> None:
    delay = Verdict(result=Result.SCHEDULE, rule="later", delay_s=3600)
    asked = rules(delay)
    core = DispatchingCore(rules=asked)
    await core.add_nodes("a")
    answer = await core.send(node="a")
    assert (answer["outcome"], answer["rule"]) == ("scheduled", "later")
    assert answer["scheduled_for"] == in_seconds(3600)
    assert (await core.get(answer["action_id"]))["from_date"] == in_seconds(3600)
    (event,) = await core.rows(events)
    assert '"rule":"later"' in event.body
    assert await core.delivered("a") == [answer["action_id"]], "the node has it at once"
    later = await core.send(node="a", from_date=in_seconds(7200))
    assert later["scheduled_for"] == in_seconds(7200), "the later of both"
    assert len(asked.asked) == 2
    assert await paths(core.send(node="a", to_date=in_seconds(1800))) == ["to_date"]


@scenario
async def test_rules_see_every_field_under_both_names() -> None:
    asked = rules()
    core = DispatchingCore(rules=asked)
    await core.add_nodes("a", labels={"zone": "x"})
    sent: dict[str, Any] = {
        "metadata": {"priority": "low"},
        "service": "billing",
        "x_mine": 5,
        "confidence": 0.5,
    }
    answer = await core.send(node="a", **sent)
    action, node = asked.asked[0]
    assert {key: action[key] for key in sent} == sent
    assert action["kind"] == action["action_type"] == "sleep"
    assert action["id"] == action["action_id"] == answer["action_id"]
    assert (action["node"], node["labels"]["zone"]) == ("a", "x")
    await core.send(selector="zone=x")
    assert asked.asked[1][0]["correlation_id"]


@scenario
async def test_a_suppressed_one_leaves_an_event_and_an_audit_line_only() -> None:
    core = DispatchingCore(
        rules=rules(Verdict(result=Result.SUPPRESS, rule="night", reason="at night"))
    )
    await core.add_nodes("a")
    answer = await core.send(node="a")
    assert answer == {"outcome": "suppressed", "rule": "night", "reason": "at night"}
    assert await core.rows(actions) == []
    assert await core.delivered("a") == []
    (event,), (line,) = await core.rows(events), await core.rows(audit)
    assert (event.type, event.agent_id) == ("suppressed", "a")
    assert '"rule":"night"' in event.body
    assert "night" in line.detail


@scenario
async def test_what_a_rule_computes_out_of_bounds_stores_nothing() -> None:
    def judge(_action: Any, _node: Any) -> Verdict:
        raise InvalidDocument([Fault("rule later", "computes 0 s")])

    core = DispatchingCore(rules=FunctionRules(judge))
    await core.add_nodes("a")
    before = await core.counts()
    assert await paths(core.send(node="a")) == ["rule later"]
    assert await core.counts() == before


@scenario
async def test_what_waits_for_a_person_is_stored_and_not_delivered() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    answer = await core.send("delete", node="a")
    assert answer["outcome"] == "pending_approval"
    assert (answer["risk_level"], bool(answer["why"])) == ("dangerous", True)
    (question,) = await core.rows(approvals)
    assert (question.id, question.action_id) == (answer["approval_id"], answer["action_id"])
    shown = await core.get(answer["action_id"])
    assert (shown["phase"], shown["approval"]["state"]) == ("PENDING_APPROVAL", "pending")
    assert await core.delivered("a") == []
    assert await core.ids(approval="pending") == [answer["action_id"]]


@scenario
async def test_an_approver_may_approve_in_the_same_step() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    before = await core.counts()
    with pytest.raises(Refused, match="role approver") as caught:
        await core.send("delete", node="a", approve=True, by="olga")
    assert caught.value.code == "forbidden"
    assert await core.counts() == before
    answer = await core.send("delete", node="a", approve=True, may_approve=True, by="anna")
    assert (answer["outcome"], answer["approved_by"]) == ("queued", "anna")
    shown = await core.get(answer["action_id"])
    assert (shown["approval"]["state"], shown["approval"]["by"]) == ("approved", "anna")
    assert await core.delivered("a") == [answer["action_id"]]


@scenario
async def test_four_eyes_refuse_approving_ones_own() -> None:
    terms = ApprovalTerms(policy=ApprovalPolicy(four_eyes=True))
    core = DispatchingCore(approvals=terms)
    await core.add_nodes("a", kinds=KINDS)
    before = await core.counts()
    with pytest.raises(Refused) as caught:
        await core.send("delete", node="a", approve=True, may_approve=True)
    assert caught.value.code == "four_eyes"
    assert await core.counts() == before


@scenario
async def test_a_key_lets_one_through_until_it_expires() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", labels={"r": "w"})
    first = await core.send(node="a", dedup_key="k", dedup_ttl_s=60)
    stored = await core.counts()
    again = await core.send(node="b", dedup_key="k")
    assert again == {"outcome": "deduplicated", "action_id": first["action_id"]}
    assert (await core.send(node="a", dedup_key="k", dry_run=True))["would_be"] == "deduplicated"
    assert await core.counts() == stored
    core.clock.pass_by(60)
    third = await core.send(node="a", dedup_key="k")
    assert third["outcome"] == "queued"
    assert (await core.send(node="a", dedup_key="k"))["action_id"] == third["action_id"]
    many = await core.send(selector="r=w", dedup_key="many")
    repeat = await core.send(selector="r=w", dedup_key="many")
    assert (repeat["outcome"], repeat["correlation_id"]) == ("deduplicated", many["correlation_id"])
    assert [one["action_id"] for one in repeat["actions"]] == [
        one["action_id"] for one in many["actions"]
    ]
    assert await paths(core.send(node="a", dedup_ttl_s=5)) == ["dedup_ttl_s"]
    bad: list[Any] = [0, 604_801, "x"]
    for ttl_s in bad:
        assert await paths(core.send(node="a", dedup_key="x", dedup_ttl_s=ttl_s)) == ["dedup_ttl_s"]
    assert await paths(core.send(node="a", dedup_key="")) == ["dedup_key"]


@scenario
async def test_expired_keys_are_forgotten() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    for number in range(5):
        await core.send(node="a", dedup_key=f"k{number}", dedup_ttl_s=10)
    core.clock.pass_by(11)
    await core.send(node="a", dedup_key="k9", dedup_ttl_s=10)
    assert [row.key for row in await core.rows(dedup_keys)] == ["given:k9"]


@scenario
async def test_a_key_whose_first_was_not_stored_is_free() -> None:
    verdicts = {"sleep": Verdict(result=Result.SUPPRESS, rule="never")}
    core = DispatchingCore(rules=rules(**verdicts))
    await core.add_nodes("a")
    assert (await core.send(node="a", dedup_key="k"))["outcome"] == "suppressed"
    assert (await core.send("other", node="a", dedup_key="k"))["outcome"] == "queued"


@scenario
async def test_a_rule_deduplicates_by_node_kind_and_payload() -> None:
    core = DispatchingCore(rules=rules(Verdict(result=Result.DEDUPLICATE, rule="once", ttl_s=30)))
    await core.add_nodes("a", "b", labels={"r": "w"})
    first = await core.send(node="a", payload={"x": 1, "y": {"p": 1, "q": 2}})
    same = await core.send(node="a", payload={"y": {"q": 2, "p": 1}, "x": 1})
    assert same["outcome"] == "deduplicated"
    assert (same["action_id"], same["rule"]) == (first["action_id"], "once")
    assert (await core.send(node="a", payload={"x": 2}))["outcome"] == "queued"
    both = await core.send(selector="r=w", payload={"x": 2})
    assert [one["outcome"] for one in both["actions"]] == ["deduplicated", "queued"]
    assert both["outcome"] == "queued"
    core.clock.pass_by(31)
    assert (await core.send(node="a", payload={"x": 2}))["outcome"] == "queued"


@scenario
async def test_a_dry_run_says_what_would_be_and_changes_nothing() -> None:
    verdicts = {
        "later": Verdict(result=Result.SCHEDULE, rule="offpeak", delay_s=60),
        "never": Verdict(result=Result.SUPPRESS, rule="night"),
        "ask": Verdict(result=Result.REQUIRE_APPROVAL, rule="careful"),
    }
    core = DispatchingCore(rules=rules(**verdicts))
    await core.add_nodes("a", "b", labels={"r": "w"})
    before = await core.counts()
    told = {
        kind: await core.send(kind, node="a", dry_run=True)
        for kind in ("plain", "later", "never", "ask")
    }
    assert {answer["outcome"] for answer in told.values()} == {"dry_run"}
    assert {kind: (one["would_be"], one.get("rule")) for kind, one in told.items()} == {
        "plain": ("queued", None),
        "later": ("scheduled", "offpeak"),
        "never": ("suppressed", "night"),
        "ask": ("pending_approval", "careful"),
    }
    many = await core.send("later", selector="r=w", dry_run=True)
    assert (many["outcome"], many["would_be"]) == ("dry_run", "scheduled")
    assert [(one["would_be"], one["rule"]) for one in many["actions"]] == [
        ("scheduled", "offpeak")
    ] * 2
    assert await core.counts() == before


@scenario
async def test_an_id_that_is_taken_is_refused_wherever_it_would_go() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b")
    await core.send(node="a", id="mine")
    before = await core.counts()
    for node in ("a", "b"):
        for dry_run in (False, True):
            with pytest.raises(Refused) as caught:
                await core.send(node=node, id="mine", dry_run=dry_run)
            assert caught.value.code == "exists"
    assert await core.counts() == before


@scenario
async def test_a_failure_while_storing_leaves_nothing() -> None:
    """The audit line is the last step; where it fails, all of it is gone."""
    core = DispatchingCore()
    await core.add_nodes("a", "b", labels={"r": "w"})
    before = await core.counts()
    with pytest.raises(UnicodeEncodeError):
        await core.send(selector="r=w", by="half \ud800 a character", dedup_key="k")
    assert await core.counts() == before


@scenario
async def test_a_node_that_goes_out_of_service_meanwhile_fails_alone() -> None:
    """Many are judged before the write; what changed since is seen behind its locks."""
    core = DispatchingCore()
    await core.add_nodes("a", "b", labels={"r": "w"})
    occasion = Occasion(core.clock.now(), secrets.randbits)
    submission = read_submission({"kind": "k", "selector": "r=w"}, occasion)
    plans = await core.store.read(
        lambda c: plan_dispatch(c, occasion, submission, Terms(), Asker("olga"))
    )
    gone = update(agents).where(agents.c.id == "a").values(decommissioned_at=START)
    await core.store.write(lambda c: c.execute(gone))
    result = await core.store.write(lambda c: carry_out(c, occasion, submission, plans, "olga"))
    told = answer_of(submission, result)
    assert [(one["node"], one["outcome"]) for one in told["actions"]] == [
        ("a", "failed"), ("b", "queued"),
    ]  # fmt: skip
    assert told["actions"][0]["faults"][0]["path"] == "node"
    assert [row.agent_id for row in await core.rows(actions)] == ["b"]


@scenario
async def test_what_was_judged_by_another_catalogue_is_not_stored() -> None:
    """A kind that became guarded between the judgement and the write would need a person."""
    core = DispatchingCore()
    await core.add_nodes("a", "b", "c", labels={"r": "w"}, kinds=KINDS)
    occasion = Occasion(core.clock.now(), secrets.randbits)

    async def meanwhile(selector: str, **reports: list[dict[str, Any]]) -> Carried:
        document = {"kind": "sleep", "payload": {"seconds": 1}, "selector": selector}
        submission = read_submission(document, occasion)
        plans = await core.store.read(
            lambda c: plan_dispatch(c, occasion, submission, Terms(), Asker("olga"))
        )
        core.clock.pass_by(1)
        for node, catalogue in reports.items():
            values = {"report": report_of(catalogue), "report_at": core.clock.now()}
            told = update(agents).where(agents.c.id == node).values(**values)
            await core.store.write(partial(Connection.execute, statement=told))
        return await core.store.write(lambda c: carry_out(c, occasion, submission, plans, "olga"))

    guarded = [{"kind": "sleep", "risk_level": "guarded", "faults": []}]
    result = await meanwhile("r=w", a=guarded, b=[*KINDS, {"kind": "more", "faults": []}])
    assert [part.outcome.value for part in result.parts] == ["failed", "queued", "queued"]
    [fault] = result.parts[0].faults
    assert (fault.path, "dispatch it again" in fault.message) == ("kind", True)
    assert [row.agent_id for row in await core.rows(actions)] == ["b", "c"]
    before = await core.counts()
    with pytest.raises(InvalidDocument, match="a and 1 more: the node's catalogue"):
        await meanwhile("node in (a, b)", a=KINDS, b=guarded)
    assert await core.counts() == before, "where none is left nothing is stored"
