"""Freezes at the core: who gets one, who is thawed, and what is known of it where."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from agent.core.nodes.freezes import ACTIVE_MAX
from agent.core.store.schema import agents
from agent.domain.errors import InvalidDocument, NotFound, Refused
from agent.domain.instants import format_instant
from tests.fakes.fleet_core import ADMIN, FleetCore


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def fleet_of_three() -> FleetCore:
    """Two production nodes, one of which is too old for a freeze, and one for tests."""
    fleet = FleetCore()
    await fleet.enroll("new", "test")
    await fleet.enroll("old", features=("retry",))
    await fleet.report("new", labels={"env": "prod"})
    await fleet.report("old", labels={"env": "prod"}, features=("retry",))
    await fleet.report("test", labels={"env": "test"})
    for name in ("new", "old", "test"):
        await fleet.requests(name)
    return fleet


def held(freeze_id: str) -> dict[str, Any]:
    return {"id": 1, "kind": None, "labels": {}, "freeze": freeze_id, "by": "core:anna"}


def test_a_freeze_reaches_whom_it_means_and_tells_who_cannot_hold_it() -> None:
    async def story() -> None:
        fleet = await fleet_of_three()
        body = {"selector": "env=prod", "kind": "redeploy", "reason": "sale", "for_s": 3600}
        made = await fleet.core.fleet.freeze(body, ADMIN)
        assert (made["selector"], made["nodes"]) == ("env=prod", 2)
        assert made["states"] == {"requested": 1, "unsupported": 1}
        assert made["not_frozen"] == [
            {"node": "new", "state": "requested"}, {"node": "old", "state": "unsupported"},
        ]  # fmt: skip
        [(kind, args)] = await fleet.requests("new")
        expected = {"freeze": made["id"], "kind": "redeploy", "expires_at": made["expires_at"]}
        assert (kind, args) == ("freeze", expected)
        assert await fleet.requests("old") == await fleet.requests("test") == []
        await fleet.report("new", labels={"env": "prod"}, brakes=[held(made["id"])])
        [shown] = (await fleet.core.fleet.freezes(over=False))["freezes"]
        assert shown["states"] == {"frozen": 1, "unsupported": 1}
        [on_node] = (await fleet.agent("new"))["freezes"]
        assert (on_node["id"], on_node["state"]) == (made["id"], "frozen")
        thawed = await fleet.core.fleet.thaw({"selector": " env = prod "}, ADMIN)
        assert [one["id"] for one in thawed["freezes"]] == [made["id"]]
        assert await fleet.requests("new") == [("thaw", {"freeze": made["id"]})]
        assert await fleet.requests("old") == []
        assert (await fleet.core.fleet.freezes(over=False))["freezes"] == []
        [over] = (await fleet.core.fleet.freezes(over=True))["freezes"]
        assert (over["active"], over["lifted_by"]) == (False, ADMIN)
        assert [one for one in await fleet.kinds() if "froz" in one or "thaw" in one] == [
            "frozen", "thawed",
        ]  # fmt: skip
        told = [one for one in await fleet.events() if one["type"] in ("frozen", "thawed")]
        assert {one["freeze_id"] for one in told} == {made["id"]}, "not hidden by the event's id"

    play(story())


def test_who_comes_to_match_gets_it_and_who_no_longer_does_is_thawed() -> None:
    async def story() -> None:
        fleet = await fleet_of_three()
        made = await fleet.core.fleet.freeze({"selector": "env=prod", "reason": "x"}, ADMIN)
        await fleet.requests("new")
        await fleet.core.fleet.edit("test", {"labels": {"env": "prod"}}, ADMIN)
        assert [kind for kind, _ in await fleet.requests("test")] == ["freeze"]
        await fleet.report("new", labels={"env": "test"})
        assert await fleet.requests("new") == [("thaw", {"freeze": made["id"]})]
        await fleet.report("old", labels={"env": "prod"}, features=("retry", "freeze"))
        assert [kind for kind, _ in await fleet.requests("old")] == ["freeze"], "upgraded"
        await fleet.admit("fresh")
        assert await fleet.requests("fresh") == []
        await fleet.report("fresh", labels={"env": "prod"})
        assert [kind for kind, _ in await fleet.requests("fresh")] == ["freeze"]
        await fleet.report("fresh", labels={"env": "prod"}, progress=[{"action_id": "a"}])
        assert await fleet.requests("fresh") == []
        await fleet.admit("test")  # with whatever database: nobody knows what it holds
        await fleet.report("test", labels={"env": "test"})
        assert [kind for kind, _ in await fleet.requests("test")] == ["freeze"]

    play(story())


def test_a_node_that_never_reported_is_frozen_when_it_does() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.admit("n1")
        made = await fleet.core.fleet.freeze({"node": "n1", "reason": "x"}, ADMIN)
        assert made["states"] == {"unreported": 1}
        await fleet.pull("n1")
        await fleet.report("n1")
        assert [kind for kind, _ in await fleet.requests("n1")] == ["freeze"]

    play(story())


def test_its_owner_may_lift_it_on_the_node_and_that_is_seen_and_not_undone() -> None:
    async def story() -> None:
        fleet = await fleet_of_three()
        made = await fleet.core.fleet.freeze({"node": "new", "reason": "x"}, ADMIN)
        await fleet.requests("new")
        await fleet.report("new", labels={"env": "prod"}, brakes=[held(made["id"])])
        await fleet.report("new", labels={"env": "prod"}, brakes=[])
        [shown] = (await fleet.core.fleet.freezes(over=False))["freezes"]
        assert shown["not_frozen"] == [{"node": "new", "state": "lifted_on_node"}]
        assert "freeze_lifted_on_node" in await fleet.kinds("new")
        await fleet.report("new", labels={"env": "prod", "more": "x"})
        assert await fleet.requests("new") == []

    play(story())


def test_a_freeze_ends_by_itself() -> None:
    async def story() -> None:
        fleet = await fleet_of_three()
        made = await fleet.core.fleet.freeze({"node": "new", "reason": "x", "for_s": 60}, ADMIN)
        await fleet.report("new", labels={"env": "prod"}, brakes=[held(made["id"])])
        await fleet.later(seconds=61)
        await fleet.report("new", labels={"env": "prod"}, brakes=[])
        assert (await fleet.core.fleet.freezes(over=False))["freezes"] == []
        assert "freeze_lifted_on_node" not in await fleet.kinds("new")
        with pytest.raises(NotFound):
            await fleet.core.fleet.thaw({"id": made["id"]}, ADMIN)
        await fleet.report("new", labels={"env": "dev"}, brakes=[])
        assert [kind for kind, _ in await fleet.requests("new")] == ["freeze"]

    play(story())


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ([], [""]),
        ({}, ["reason", "selector"]),
        ({"reason": "x"}, ["selector"]),
        ({"reason": " ", "node": "n1"}, ["reason"]),
        ({"reason": "x", "node": "n1", "selector": "a"}, ["selector"]),
        ({"reason": "x", "selector": "a=="}, ["selector"]),
        ({"reason": "x", "node": "n 1", "kind": "A"}, ["node", "kind"]),
        ({"reason": "x", "node": "n", "for_s": 5, "until": "2099-01-01T00:00:00Z"}, ["until"]),
        ({"reason": "x", "node": "n", "until": "2001-01-01T00:00:00Z"}, ["until"]),
        ({"reason": "x", "node": "n", "for_s": 0}, ["for_s"]),
        ({"reason": "x", "node": "n", "force": True}, ["force"]),
    ],
)
def test_a_bad_freeze_is_refused_with_all_its_faults(document: Any, paths: list[str]) -> None:
    async def story() -> None:
        fleet = FleetCore()
        with pytest.raises(InvalidDocument) as caught:
            await fleet.core.fleet.freeze(document, ADMIN)
        assert [fault.path for fault in caught.value.faults] == paths
        assert (await fleet.core.fleet.freezes(over=False))["freezes"] == []

    play(story())


def test_there_is_an_end_to_freezes_and_a_thaw_names_what_there_is() -> None:
    async def story() -> None:
        fleet = FleetCore()
        for _ in range(ACTIVE_MAX):
            await fleet.core.fleet.freeze({"selector": "env=prod", "reason": "x"}, ADMIN)
        with pytest.raises(Refused) as caught:
            await fleet.core.fleet.freeze({"selector": "env=prod", "reason": "x"}, ADMIN)
        assert caught.value.code == "too_many"
        with pytest.raises(NotFound, match="those that hold are for: env=prod"):
            await fleet.core.fleet.thaw({"node": "n1"}, ADMIN)
        with pytest.raises(InvalidDocument):
            await fleet.core.fleet.thaw({"id": "x", "node": "n1"}, ADMIN)
        with pytest.raises(InvalidDocument):
            await fleet.core.fleet.thaw({}, ADMIN)
        ended = await fleet.core.fleet.thaw({"selector": "env=prod"}, ADMIN)
        assert len(ended["freezes"]) == ACTIVE_MAX

    play(story())


def test_many_nodes_are_frozen_in_one_go() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n0000")
        await fleet.store.write(lambda c: copy_node(c, "n0000", 1100))
        until = format_instant(fleet.clock.now().replace(year=fleet.clock.now().year + 1))
        body = {"selector": "node", "reason": "x", "until": until}
        made = await fleet.core.fleet.freeze(body, ADMIN)
        assert made["states"] == {"requested": 1101}
        assert len(made["not_frozen"]) == 100, "a bounded number of names"
        assert [kind for kind, _ in await fleet.requests("n0000")] == ["freeze"]
        thawed = await fleet.core.fleet.thaw({"id": made["id"]}, ADMIN)
        assert thawed["freezes"][0]["nodes"] == 0

    play(story())


def copy_node(connection: Connection, name: str, count: int) -> None:
    row = connection.execute(select(agents).where(agents.c.id == name)).one()
    copies = [row._asdict() | {"id": f"m{at:04}"} for at in range(count)]
    connection.execute(insert(agents), copies)


def test_a_node_that_comes_back_with_a_freeze_that_ended_meanwhile_is_thawed() -> None:
    """Nobody could tell it while it was out of service; else nothing would ever start on it."""

    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("new")
        ended = await fleet.core.fleet.freeze({"node": "new", "reason": "sale"}, ADMIN)
        kept = await fleet.core.fleet.freeze({"selector": "node", "reason": "audit"}, ADMIN)
        brakes = [held(ended["id"]), held(kept["id"]), held("of-another-core")]
        await fleet.requests("new")
        await fleet.report("new", brakes=brakes)
        await fleet.core.fleet.decommission("new", {"reason": "moved"}, ADMIN)
        await fleet.core.fleet.thaw({"id": ended["id"]}, ADMIN)
        await fleet.admit("new")
        await fleet.pull("new", "i2")
        await fleet.report("new", "i2", brakes=brakes)
        answer = await fleet.pull("new", "i2")
        told = [(one.type, (one.args or {}).get("freeze")) for one in answer.requests]
        assert ("thaw", ended["id"]) in told
        assert ("thaw", kept["id"]) not in told
        assert ("thaw", "of-another-core") not in told
        [on_node] = (await fleet.agent("new"))["freezes"]
        assert (on_node["id"], on_node["state"]) == (kept["id"], "frozen")  # it said so already

    play(story())


def test_a_node_is_not_shown_as_frozen_by_what_is_over() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("new")
        made = await fleet.core.fleet.freeze({"node": "new", "reason": "x", "for_s": 60}, ADMIN)
        kept = await fleet.core.fleet.freeze({"node": "new", "reason": "y"}, ADMIN)
        shown = [one["id"] for one in (await fleet.agent("new"))["freezes"]]
        assert shown == [made["id"], kept["id"]]
        await fleet.later(seconds=61)
        assert [one["id"] for one in (await fleet.agent("new"))["freezes"]] == [kept["id"]]

    play(story())


def test_what_ends_by_a_clock_that_is_ahead_was_not_lifted_by_anybody() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("new")
        made = await fleet.core.fleet.freeze({"node": "new", "reason": "x", "for_s": 60}, ADMIN)
        await fleet.requests("new")
        await fleet.report("new", brakes=[held(made["id"])])
        ahead = format_instant(fleet.clock.now() + timedelta(seconds=61))
        await fleet.report("new", brakes=[], clock={"now": ahead, "state": "trusted"})
        assert "freeze_lifted_on_node" not in await fleet.kinds("new")
        await fleet.report("new", brakes=[held(made["id"])])
        await fleet.report("new", brakes=[])
        assert "freeze_lifted_on_node" in await fleet.kinds("new")

    play(story())
