"""A batch's simple ones are one set: few statements, and yet each is judged and told for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from sqlalchemy import event, update
from sqlalchemy.engine import Connection

from agent.core.actions.batching import SET_MAX
from agent.core.people.chain import parse_place, verify
from agent.core.rules.verdict import Result, Verdict
from agent.core.store.inline import InlineStore
from agent.core.store.port import StoreUnavailable, Work
from agent.core.store.schema import actions, agents, approvals, audit, deliveries, events
from agent.domain.errors import AgentError, Refused
from tests.fakes.dispatching_core import START, DispatchingCore, FunctionRules, scenario

T = TypeVar("T")
KINDS = [
    {"kind": "sleep", "risk_level": "safe"},
    {"kind": "delete", "risk_level": "dangerous"},
]
STATEMENTS_MAX = 20  # of a set, however many are in it


def to(node: str, **more: Any) -> dict[str, Any]:
    return {"kind": "sleep", "node": node, **more}


async def batch(core: DispatchingCore, *documents: Any, **how: Any) -> list[Any]:
    """The outcome of each, or the code of its error."""
    found = await core.dispatch.dispatch_batch({"actions": list(documents)}, **how)
    return [_word(one) for one in found]


def _word(one: dict[str, Any] | AgentError) -> str:
    if isinstance(one, dict):
        return str(one["outcome"])
    return one.code if isinstance(one, Refused) else type(one).__name__


@scenario
async def test_a_hundred_cost_as_many_statements_as_one() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", kinds=KINDS)
    assert isinstance(core.store, InlineStore)
    counted: list[str] = []

    def count(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        counted.append(statement)

    engine = await core.store.read(lambda c: c.engine)
    event.listen(engine, "before_cursor_execute", count)
    documents = [to("a" if number % 2 else "b", id=f"x{number}") for number in range(100)]
    assert set(await batch(core, *documents)) == {"queued"}
    assert len(counted) <= STATEMENTS_MAX, counted


@scenario
async def test_the_set_leaves_the_same_behind_as_its_members_alone() -> None:
    """Rows, streams without a hole, events, and an audit line each, whose chain holds."""
    core = DispatchingCore()
    await core.add_nodes("a", "b", kinds=KINDS)
    told = await batch(core, to("a", id="1"), to("b", id="2"), to("a", id="3"), by="olga")
    assert told == ["queued"] * 3
    assert [row.id for row in await core.rows(actions)] == ["1", "2", "3"]
    numbered = sorted((row.agent_id, row.seq, row.ref) for row in await core.rows(deliveries))
    assert numbered == [("a", 1, "1"), ("a", 2, "3"), ("b", 1, "2")]
    noted = [(row.type, row.action_id) for row in await core.rows(events)]
    assert noted == [("dispatched", "1"), ("dispatched", "2"), ("dispatched", "3")]
    lines = [(row.who, row.what, row.target) for row in await core.rows(audit)]
    assert lines == [("olga", "dispatch", name) for name in ("1", "2", "3")]
    found = await core.store.read(lambda c: verify(c, parse_place(None)))
    assert found["ok"], found


@scenario
async def test_a_bad_one_is_left_out_alone() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    await core.add_nodes("gone", kinds=KINDS, decommissioned_at=START)
    await core.send(node="a", id="taken")
    told = await batch(
        core, to("a"), to("a", id="taken"), to("gone"), to("nobody"), to("a", kind="unheard"),
        to("a", x_own=1), to("a", id="twice"), to("a", id="twice"), "no dispatch", to("a"),
    )  # fmt: skip
    assert told == [
        "queued", "exists", "decommissioned", "not_found", "InvalidDocument",
        "queued", "queued", "exists", "InvalidDocument", "queued",
    ]  # fmt: skip
    assert len(await core.rows(actions)) == 5
    assert len(await core.rows(audit)) == 5


@scenario
async def test_the_later_of_two_with_one_key_meets_the_first() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", kinds=KINDS)
    found = await core.dispatch.dispatch_batch(
        {"actions": [to("a", dedup_key="k"), to("b", dedup_key="k"), to("b", dedup_key="l")]}
    )
    first, repeat, other = found
    assert isinstance(first, dict)
    assert isinstance(repeat, dict)
    assert repeat == {"outcome": "deduplicated", "action_id": first["action_id"]}
    assert _word(other) == "queued"


@scenario
async def test_rules_judge_each_once_and_hold_within_the_set() -> None:
    def judge(action: Mapping[str, Any], _node: Mapping[str, Any]) -> Verdict:
        result = Result.SUPPRESS if action["payload"].get("quiet") else Result.DEDUPLICATE
        return Verdict(result=result, rule="r", ttl_s=60.0)

    rules = FunctionRules(judge)
    core = DispatchingCore(rules=rules)
    await core.add_nodes("a", kinds=KINDS)
    told = await batch(core, to("a"), to("a"), to("a", payload={"quiet": True}))
    assert told == ["queued", "deduplicated", "suppressed"]
    assert len(rules.asked) == 3
    assert [row.type for row in await core.rows(events)] == ["dispatched", "suppressed"]


@scenario
async def test_each_question_is_told_to_its_own_one() -> None:
    """Several of one node wait: what each is answered names its own question."""
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    documents = [to("a", kind="delete", id="1"), to("a"), to("a", kind="delete", id="2")]
    found = await core.dispatch.dispatch_batch({"actions": documents})
    asked = {row.action_id: row.id for row in await core.rows(approvals)}
    told = {one["action_id"]: one["approval_id"] for one in found if "approval_id" in one}  # type: ignore[operator,index]
    assert told == asked
    assert set(told) == {"1", "2"}


class Moody(InlineStore):
    """A store whose next writes fail so."""

    failing: ClassVar[list[Exception]] = []

    async def write(self, work: Work[T]) -> T:
        if self.failing:
            raise self.failing.pop(0)
        return await super().write(work)


@scenario
async def test_what_the_set_cannot_each_tells_for_itself() -> None:
    """One value that no column can hold takes nobody with it; a dead database is told to all."""
    store = Moody.in_memory()
    core = DispatchingCore(store=store)
    await core.add_nodes("a", kinds=KINDS)
    Moody.failing = [Refused("bad_request", "cannot be stored"), Refused("bad_request", "neither")]
    assert await batch(core, to("a"), to("a")) == ["bad_request", "queued"]
    Moody.failing = [StoreUnavailable("full")]
    assert await batch(core, to("a"), "no dispatch", to("a")) == [
        "unavailable", "InvalidDocument", "unavailable",
    ]  # fmt: skip
    assert len(await core.rows(actions)) == 1


@scenario
async def test_more_than_a_transactions_worth_keep_their_order_too() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", kinds=KINDS)
    documents = [to("a", id=f"x{number}") for number in range(2 * SET_MAX + 1)]
    assert set(await batch(core, *documents, to("a", id="x0"))) == {"queued", "exists"}
    assert [row.id for row in await core.rows(actions)] == [one["id"] for one in documents]


@scenario
async def test_simple_ones_and_others_keep_their_order() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", labels={"r": "w"}, kinds=KINDS)
    many = {"kind": "sleep", "selector": "r=w"}
    told = await batch(core, to("a", id="1"), many, to("a", id="1"), many, to("b", id="2"))
    assert told == ["queued", "queued", "exists", "queued", "queued"]
    nodes = [row.agent_id for row in await core.rows(actions)]
    assert nodes == ["a", "a", "b", "a", "b", "b"]


@scenario
async def test_a_node_that_goes_out_of_service_between_two_batches() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", kinds=KINDS)
    assert await batch(core, to("a"), to("b")) == ["queued", "queued"]
    gone = update(agents).where(agents.c.id == "a").values(decommissioned_at=START)
    await core.store.write(lambda c: c.execute(gone))
    assert await batch(core, to("a"), to("b")) == ["decommissioned", "queued"]
