"""Nudges: pulled where the node can be reached, asked for elsewhere, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from agent.core.actions.listing import ActionRef
from agent.core.nodes.fleet import read_nudge
from agent.core.nodes.pulled_state import Page
from agent.core.nodes.selector import parse_selector
from agent.domain.errors import InvalidDocument, NotFound, Refused
from agent.domain.instants import format_instant
from tests.fakes.fleet_core import ADMIN, FleetCore, transition

URL = "http://n1.example:8443"


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def shown(action_id: str, status: str, **more: Any) -> dict[str, Any]:
    """An action as a node's own API shows it: both halves on one level."""
    return {
        "id": action_id, "kind": "work", "owner": "core", "revision": 1, "payload": {},
        "execution_status": status, "reason": None, "attempt": 1, "started_at": None,
        "ended_at": None, "exit_code": None, "signal": None, "error": None, "verdict": None,
        "output": None, "missed": None, "phase": "RUNNING", "due_at": None, "lane": "exclusive",
        **more,
    }  # fmt: skip


def page(*actions: Any, **more: Any) -> Page:
    base: dict[str, Any] = {"agent_id": "n1", "agent_epoch": "e1", "seq": 5}
    return Page(actions=list(actions), **(base | more))


async def reachable() -> FleetCore:
    """A node with an API, that has taken two actions."""
    fleet = FleetCore()
    await fleet.enroll("n1", "n2")
    await fleet.state("n1", "e1")
    await fleet.core.fleet.edit("n1", {"api_url": URL + "/", "api_token": "s3cret"}, ADMIN)
    await fleet.dispatch("n1", id="a")
    await fleet.dispatch("n1", id="b")
    await fleet.pull("n1")
    await fleet.pull("n1")
    return fleet


async def asked(fleet: FleetCore, name: str) -> list[str]:
    return [one.type for one in (await fleet.pull(name)).requests]


def test_a_node_that_can_be_reached_is_looked_at_at_once() -> None:
    async def story() -> None:
        fleet = await reachable()
        rule = {"id": "r", "kind": "work", "owner": "node", "revision": 2,
                "schedule": {"every": "1h"}, "state": "active", "latest": []}  # fmt: skip
        own = shown("own", "FINISHED", owner="node", exit_code=0)
        fleet.api.pages[URL] = [
            page(shown("a", "STARTED"), shown("b", "NULL", attempt=0), next="2"),
            page(own, recurring=[rule], seq=9),
        ]
        told = await fleet.core.nudging.one("n1", ADMIN)
        assert told == {"node": "n1", "outcome": "pulled", "actions": 4}
        assert fleet.api.tokens == {URL: "s3cret"}
        assert (await fleet.action("a"))["phase"] == "RUNNING"
        assert (await fleet.action("own"))["phase"] == "DONE"
        assert (await fleet.action("r"))["phase"] == "SCHEDULED"
        assert await asked(fleet, "n1") == []
        assert (await fleet.kinds("n1"))[-1] == "state_pulled"
        now = format_instant(fleet.clock.now())
        await fleet.tell("n1", "e1", *[transition(seq, "b", "STARTED", now) for seq in range(1, 6)])
        assert (await fleet.action("b"))["phase"] == "QUEUED", "they are older than what was pulled"
        await fleet.tell("n1", "e1", transition(6, "b", "STARTED", now))
        assert (await fleet.action("b"))["phase"] == "RUNNING"

    play(story())


def test_what_its_state_does_not_have_is_lost() -> None:
    async def story() -> None:
        fleet = await reachable()
        fleet.api.pages[URL] = [page(shown("a", "STARTED"), cursor=fleet.cursors["n1"])]
        await fleet.core.nudging.one("n1", ADMIN)
        assert (await fleet.action("b"))["lost_reason"] == "absent_from_state"

    play(story())


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ("connection refused", "connection refused"),
        ([page(agent_id="n9")], "there answers the node 'n9', not 'n1'"),
        ([page(agent_epoch="e7")], "its history is another one than is known here"),
        ([page(shown("a", "STARTED"), next="x"), page(agent_epoch="e2")], "changed while it was"),
        ([page(seq=-5)], "a state part needs"),
    ],
)
def test_what_cannot_be_pulled_is_asked_for_and_says_why(pages: Any, why: str) -> None:
    async def story() -> None:
        fleet = await reachable()
        fleet.api.pages[URL] = pages
        told = await fleet.core.nudging.one("n1", ADMIN)
        assert (told["outcome"], told["requested"]) == ("requested", "send_state")
        assert why in told["why"]
        assert (await fleet.action("b"))["phase"] == "QUEUED", "nothing is lost by half a look"
        again = await fleet.core.nudging.one("n1", ADMIN)
        assert again["request_id"] == told["request_id"], "one open request is enough"
        assert await asked(fleet, "n1") == ["send_state"]

    play(story())


def test_items_that_cannot_be_read_are_left_out_alone() -> None:
    async def story() -> None:
        fleet = await reachable()
        fleet.api.pages[URL] = [page(shown("a", "STARTED"), "no object", {"id": "b"})]
        assert (await fleet.core.nudging.one("n1", ADMIN))["outcome"] == "pulled"
        assert (await fleet.action("a"))["phase"] == "RUNNING"
        assert (await fleet.action("b"))["phase"] == "QUEUED", "it is there, whatever is wrong"

    play(story())


def test_nodes_by_selector_and_the_node_of_an_action() -> None:
    async def story() -> None:
        fleet = await reachable()
        fleet.api.pages[URL] = [page(shown("a", "STARTED"), shown("b", "NULL"))]
        told = await fleet.core.nudging.many(parse_selector("node"), ADMIN)
        assert (told["pulled"], told["requested"]) == (1, 1)
        assert [one["outcome"] for one in told["nodes"]] == ["pulled", "requested"]
        assert "api_url" in told["nodes"][1]["why"]
        assert await asked(fleet, "n2") == ["send_state"]
        told = await fleet.core.nudging.action(ActionRef(id="a"), ADMIN)
        assert (told["action_id"], told["node"], told["outcome"]) == ("a", "n1", "pulled")
        told = await fleet.core.nudging.many(parse_selector("env=none"), ADMIN)
        assert told["nodes"] == []

    play(story())


def test_who_cannot_be_nudged_is_said() -> None:
    async def story() -> None:
        fleet = await reachable()
        with pytest.raises(NotFound):
            await fleet.core.nudging.one("n9", ADMIN)
        with pytest.raises(NotFound):
            await fleet.core.nudging.action(ActionRef(id="none"), ADMIN)
        await fleet.core.fleet.decommission("n1", {"reason": "gone"}, ADMIN)
        with pytest.raises(Refused, match="taken out of service"):
            await fleet.core.nudging.one("n1", ADMIN)
        both = {"node": "n1", "selector": "a"}
        bad: list[Any] = [{}, both, {"selector": "=="}, [], {"id": "x"}]
        for document in bad:
            with pytest.raises(InvalidDocument):
                read_nudge(document)

    play(story())
