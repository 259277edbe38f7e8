"""Labels, taking nodes out of service, enrolment tokens: what operators do with nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from agent.core.actions.listing import ActionRef
from agent.core.nodes.selection import facts_of
from agent.domain.errors import InvalidDocument, NotFound, Refused
from agent.domain.instants import format_instant
from agent.wire.messages import Enroll
from tests.fakes.fleet_core import ADMIN, FleetCore, item, transition


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_own_labels_win_over_reported_ones_and_null_takes_them_back() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1", "n2")
        await fleet.report("n1", labels={"env": "dev", "role": "db"})
        assert (await fleet.agent("n1"))["labels"] == {"env": "dev", "role": "db", "node": "n1"}
        await fleet.core.fleet.edit("n1", {"labels": {"env": "prod", "rack": "r 7"}}, ADMIN)
        shown = await fleet.agent("n1")
        assert shown["labels"] == {"env": "prod", "role": "db", "rack": "r 7", "node": "n1"}
        assert shown["labels_reported"] == {"env": "dev", "role": "db"}
        assert shown["labels_set"] == {"env": "prod", "rack": "r 7"}
        assert await fleet.names("env=prod") == ["n1"]
        assert await fleet.names('rack="r 7"') == ["n1"]
        assert await fleet.names("!role") == ["n2"]
        assert await fleet.names("node in (n2,n1)") == ["n1", "n2"]
        await fleet.report("n1", labels={"env": "test"})
        assert (await fleet.agent("n1"))["labels"] == {"env": "prod", "rack": "r 7", "node": "n1"}
        await fleet.core.fleet.edit("n1", {"labels": {"env": None, "none": None}}, ADMIN)
        assert (await fleet.agent("n1"))["labels"]["env"] == "test"
        changes = [one["changed"] for one in await fleet.events("n1")
                   if one["type"] == "labels_changed"]  # fmt: skip
        assert changes[-2:] == [{"role": None}, {"env": "test"}]
        before = await fleet.kinds()
        await fleet.core.fleet.edit("n1", {"labels": {"rack": "r 7"}}, ADMIN)
        await fleet.report("n1", labels={"env": "test"})
        assert await fleet.kinds() == before, "nothing changed"

    play(story())


def test_labels_that_are_none_are_shown_in_the_report_and_match_nothing() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        await fleet.report("n1", labels={"two words": "x", "n": 7, "node": "n9", "ok": "yes"})
        assert (await fleet.agent("n1"))["labels"] == {"ok": "yes", "node": "n1"}

    play(story())


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ([], [""]),
        ({}, [""]),
        ({"lables": {}}, ["lables"]),
        ({"labels": {"a b": "x", "node": "n2", "k": 7}},
         ["labels.a b", "labels.node", "labels.k"]),
        ({"labels": {"k": "x\x00"}}, ["labels.k"]),
        ({"labels": "env=prod"}, ["labels"]),
        ({"labels": {f"k{n}": "v" for n in range(65)}}, ["labels"]),
        ({"api_url": "ftp://x", "api_token": ""}, ["api_url", "api_token"]),
        ({"api_url": "http://user:pw@x"}, ["api_url"]),
        ({"api_url": "http://:pw@x"}, ["api_url"]),
        ({"api_url": "http://[::1"}, ["api_url"]),
        ({"api_url": 7}, ["api_url"]),
    ],
)  # fmt: skip
def test_a_bad_edit_is_refused_with_all_its_faults(document: Any, paths: list[str]) -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        with pytest.raises(InvalidDocument) as caught:
            await fleet.core.fleet.edit("n1", document, ADMIN)
        assert [fault.path for fault in caught.value.faults] == paths
        assert (await fleet.agent("n1"))["labels"] == {"node": "n1"}

    play(story())


async def with_work() -> FleetCore:
    """A node that runs one action, and has others waiting."""
    fleet = FleetCore()
    await fleet.enroll("n1", "n2")
    await fleet.state("n1", "e1")
    for name in ("running", "waiting", "unsent"):
        if name == "unsent":
            await fleet.pull("n1")
        await fleet.dispatch("n1", id=name)
    now = format_instant(fleet.clock.now())
    await fleet.tell("n1", "e1", transition(1, "running", "STARTED", now))
    return fleet


def test_a_node_out_of_service_is_believed_nothing_and_nothing_waits_for_it() -> None:
    async def story() -> None:
        fleet = await with_work()
        await fleet.core.fleet.decommission("n1", {"reason": "scrapped"}, ADMIN)
        assert await fleet.names() == ["n2"]
        assert await fleet.names("node") == ["n2"]
        assert await fleet.names(decommissioned=True) == ["n1"]
        assert await fleet.store.read(lambda c: facts_of(c, ["n1"])) == []
        shown = await fleet.agent("n1")
        assert (shown["silent"], shown["undelivered"]) == (False, 0)
        assert shown["decommissioned_at"]
        phases = {name: (await fleet.action(name))["phase"]
                  for name in ("running", "waiting", "unsent")}  # fmt: skip
        assert phases == {"running": "LOST", "waiting": "CANCELLED", "unsent": "CANCELLED"}
        assert (await fleet.action("running"))["lost_reason"] == "node_decommissioned"
        with pytest.raises(Refused, match="taken out of service") as caught:
            await fleet.pull("n1")
        assert caught.value.code == "unauthorized"
        with pytest.raises(Refused):
            await fleet.core.nodes.authenticate("n1", fleet.credentials["n1"])
        with pytest.raises(Refused) as refused:
            await fleet.dispatch("n1")
        assert refused.value.code == "decommissioned"
        [told] = [one for one in await fleet.events("n1") if one["type"] == "decommissioned"]
        assert (told["reason"], told["withdrawn"], told["lost"]) == ("scrapped", 2, 1)
        await fleet.core.fleet.decommission("n1", {"reason": "again"}, ADMIN)
        await fleet.later(days=3)
        assert (await fleet.kinds("n1"))[-1] == "decommissioned", "twice is once"

    play(story())


def test_a_token_made_for_it_brings_it_back_and_what_was_withdrawn_stays_so() -> None:
    async def story() -> None:
        fleet = await with_work()
        await fleet.core.fleet.decommission("n1", {"reason": "lent out"}, ADMIN)
        unbound = (await fleet.core.roster.create_token(None, 60))["token"]
        with pytest.raises(Refused, match="there is a node 'n1' already"):
            await fleet.core.nodes.enroll(Enroll(token=unbound, nonce="x", agent_id="n1"))
        await fleet.admit("n1")
        assert await fleet.names() == ["n1", "n2"]
        answer = await fleet.pull("n1")
        assert answer.full
        told = {one["id"]: one["should_be_executed"] for one in answer.actions}
        assert told == {"waiting": False, "unsent": False}, "it may still have them"
        assert "send_state" in [one.type for one in answer.requests]
        ended = [item(name, "WONT_START", revision=2) for name in ("waiting", "unsent")]
        for one in ended:
            one["execution"]["reason"] = "withdrawn"
        await fleet.state("n1", "e1", item("running", "STARTED"), *ended, as_of=1)
        assert (await fleet.action("running"))["phase"] == "RUNNING"
        assert (await fleet.action("waiting"))["phase"] == "CANCELLED"
        await fleet.report("n1")
        await fleet.later(seconds=160)
        assert (await fleet.agent("n1"))["silent"], "it has a timer again"

    play(story())


def test_a_bad_decommission_is_refused() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        bad: list[Any] = [{}, {"reason": "  "}, {"reason": "x", "force": True}, []]
        for document in bad:
            with pytest.raises(InvalidDocument):
                await fleet.core.fleet.decommission("n1", document, ADMIN)
        with pytest.raises(NotFound):
            await fleet.core.fleet.decommission("n9", {"reason": "x"}, ADMIN)
        assert await fleet.names() == ["n1"]

    play(story())


def test_enrolment_tokens_are_listed_and_revoked_without_being_known() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        made = await fleet.core.roster.create_token("n2", 3600)
        listed = (await fleet.core.fleet.enrolment_tokens("", 100))["tokens"]
        assert {(one["node"], one["state"]) for one in listed} == {("n1", "used"), ("n2", "open")}
        assert made["token"] not in str(listed)
        first = await fleet.core.fleet.enrolment_tokens("", 1)
        second = await fleet.core.fleet.enrolment_tokens(first["next"], 1)
        assert [*first["tokens"], *second["tokens"]] == listed
        assert second["next"] is None
        [mine] = [one for one in listed if one["node"] == "n2"]
        assert (await fleet.core.fleet.revoke_token(mine["id"], ADMIN))["node"] == "n2"
        with pytest.raises(Refused):
            await fleet.core.nodes.enroll(Enroll(token=made["token"], nonce="x"))
        for unknown in (mine["id"], "", "zz", "0" * 16, "a" * 9999):
            with pytest.raises(NotFound):
                await fleet.core.fleet.revoke_token(unknown, ADMIN)
        await fleet.core.roster.create_token("n3", 1)
        fleet.clock.at = fleet.clock.at.replace(year=fleet.clock.at.year + 1)
        await fleet.core.roster.create_token("n4", 3600)
        kept = (await fleet.core.fleet.enrolment_tokens("", 100))["tokens"]
        assert [one["node"] for one in kept] == ["n4"], "what expired long ago is forgotten"

    play(story())


@pytest.mark.parametrize("name", ["enroll", "freeze", "freezes", "thaw", "nudge"])
def test_no_node_is_called_like_a_path(name: str) -> None:
    async def story() -> None:
        with pytest.raises(Refused, match="cannot name a node"):
            await FleetCore().core.roster.create_token(name, 60)

    play(story())


def test_a_node_from_a_backup_is_told_again_what_it_acknowledged_as_withdrawn() -> None:
    """Here it has ended, so no full answer has it; there it waits, and would start."""

    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        action_id = await fleet.dispatch("n1")
        waiting = {"action_id": action_id, "revision": 1, "owner": "core",
                   "execution": {"execution_status": "NULL", "attempt": 0}}  # fmt: skip
        await fleet.pull("n1")
        await fleet.state("n1", "e1", waiting)
        await fleet.core.dispatch.cancel(ActionRef(id=action_id), {})
        await fleet.pull("n1")
        withdrawn = {"execution_status": "WONT_START", "reason": "withdrawn", "attempt": 0}
        await fleet.state("n1", "e1", {**waiting, "revision": 2, "execution": withdrawn}, as_of=1)
        assert (await fleet.pull("n1")).actions == []
        await fleet.state("n1", "e2", waiting)
        [told] = (await fleet.pull("n1")).actions
        assert (told["id"], told["should_be_executed"]) == (action_id, False)
        assert (await fleet.action(action_id))["phase"] == "CANCELLED"

    play(story())


def test_the_credential_of_a_node_out_of_service_is_not_good_once_it_is_back() -> None:
    """Also where it was believed a moment ago."""

    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        old = fleet.credentials["n1"]
        await fleet.core.nodes.authenticate("n1", old)
        await fleet.core.fleet.decommission("n1", {"reason": "stolen"}, "anna")
        with pytest.raises(Refused, match="out of service"):
            await fleet.pull("n1")
        await fleet.admit("n1")
        with pytest.raises(Refused, match="not known"):
            await fleet.core.nodes.authenticate("n1", old)

    play(story())
