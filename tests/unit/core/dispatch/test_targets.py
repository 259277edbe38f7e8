"""Where a dispatch goes: a node, all of a selector, any of one; and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.actions.targets import parse_default_target
from agent.core.store.schema import actions, audit, events
from agent.domain.errors import InvalidDocument, NotFound, Refused
from tests.fakes.dispatching_core import START, DispatchingCore, scenario

SLEEP = {"kind": "sleep", "faults": []}


async def paths(call: Any) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        await call
    return [fault.path for fault in caught.value.faults]


@scenario
async def test_labels_make_one_action_per_node_with_one_correlation_id() -> None:
    core = DispatchingCore()
    await core.add_nodes("web-1", "web-2", labels={"role": "web"})
    await core.add_nodes("db-1", labels={"role": "db"})
    answer = await core.send(labels={"role": "web"}, payload={"n": 1})
    assert answer["outcome"] == "queued"
    assert [one["node"] for one in answer["actions"]] == ["web-1", "web-2"]
    assert await core.delivered("web-1") == [answer["actions"][0]["action_id"]]
    assert await core.delivered("db-1") == []
    for one in answer["actions"]:
        shown = await core.get(one["action_id"])
        assert (shown["correlation_id"], shown["node"]) == (answer["correlation_id"], one["node"])
        assert (shown["labels"], shown["payload"]) == ({"role": "web"}, {"n": 1}), "kept as its own"
    (line,) = await core.rows(audit)
    assert (line.what, line.target) == ("dispatch", "role=web")
    assert {event.type for event in await core.rows(events)} == {"dispatched"}


@scenario
async def test_a_selector_beside_labels_leaves_them_to_the_action() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", "b", labels={"zone": "x"})
    answer = await core.send(selector="zone in (x, y), node!=b", labels={"mine": "1"})
    (only,) = answer["actions"]
    assert only["node"] == "a"
    assert answer["action_id"] == only["action_id"], "of a single one beside the outcome too"
    assert (await core.get(only["action_id"]))["labels"] == {"mine": "1"}


@scenario
async def test_any_of_a_selector_is_one_action_where_it_can_run() -> None:
    core = DispatchingCore()
    await core.add_nodes("silent", labels={"r": "w"}, kinds=[SLEEP], silent_at=START)
    await core.add_nodes("lacking", labels={"r": "w"}, kinds=[])
    await core.add_nodes("good", labels={"r": "w"}, kinds=[SLEEP])
    for _ in range(5):
        answer = await core.send(selector="r=w", pick="any")
        assert (answer["outcome"], answer["node"]) == ("queued", "good")
    alone = await core.send(selector="node=silent", pick="any")
    assert alone["node"] == "silent", "better than none"
    assert await paths(core.send(selector="node=lacking", pick="any")) == ["kind"]
    assert len(await core.rows(actions)) == 6


@scenario
async def test_what_cannot_be_a_target_is_told() -> None:
    core = DispatchingCore()
    await core.add_nodes("a", labels={"r": "w"})
    await core.add_nodes("gone", labels={"r": "w"}, decommissioned_at=START)
    before = await core.counts()
    assert await paths(core.send()) == ["node"]
    assert await paths(core.send(labels={})) == ["node"]
    assert await paths(core.send(selector="")) == ["selector"]
    assert await paths(core.send(selector="r=x")) == ["selector"], "it matches nothing"
    assert await paths(core.send(selector="r==w")) == ["selector"]
    assert await paths(core.send(selector=5)) == ["selector"]
    assert await paths(core.send(labels={"no key!": "x"})) == ["labels"]
    assert await paths(core.send(labels={"r": 5})) == ["node", "labels"]
    assert await paths(core.send(node="a", selector="r=w")) == ["selector"]
    assert await paths(core.send(node="a", pick="any")) == ["pick"]
    assert await paths(core.send(selector="r=w", pick="some")) == ["pick"]
    assert await paths(core.send(selector="r=w", id="mine")) == ["id"], "one id, several actions"
    with pytest.raises(NotFound, match="corectl agents"):
        await core.send(node="nobody")
    with pytest.raises(Refused, match="out of service") as caught:
        await core.send(node="gone")
    assert caught.value.code == "decommissioned"
    assert await core.counts() == before
    assert [one["node"] for one in (await core.send(selector="r=w"))["actions"]] == ["a"]


@scenario
async def test_members_that_are_almost_ours_are_slips() -> None:
    core = DispatchingCore()
    await core.add_nodes("a")
    for slip in ("selectr", "dedupKey", "approved", "dedup_tl_s"):
        assert await paths(core.send(node="a", **{slip: True})) == [slip]
    fine = await core.send(node="a", x_selector="mine", note="kept")
    assert fine["outcome"] == "queued"


@scenario
async def test_the_default_target_serves_where_none_is_named() -> None:
    core = DispatchingCore(default_target=parse_default_target("any:role=web"))
    await core.add_nodes("web-1", labels={"role": "web"})
    await core.add_nodes("db-1", labels={"role": "db"})
    assert (await core.send())["node"] == "web-1"
    named = await core.send(node="db-1")
    assert "node" not in named
    assert [one["node"] for one in (await core.send(labels={"role": "db"}))["actions"]] == ["db-1"]


@pytest.mark.parametrize(
    ("text", "is_one"), [("web-1", True), ("role=web", False), ("any:role=web", True)]
)
def test_a_default_target_is_read(text: str, is_one: bool) -> None:
    target = parse_default_target(text)
    assert (str(target), target.is_one) == (text, is_one)


@pytest.mark.parametrize("text", ["", "any:", "role==web", "no name!", 5, "any:web!"])
def test_a_bad_default_target_is_told(text: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_default_target(text)
