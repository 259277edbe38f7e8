"""Silent and lost: durable facts, which a timer brings about and a sign of life takes back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from agent.core.nodes.silence import Lease
from agent.core.store.port import StoreUnavailable, Work
from agent.domain.instants import format_instant
from tests.fakes.fleet_core import FleetCore, item, transition


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def with_started(lease: Lease | None = None) -> tuple[FleetCore, str]:
    """A node that has started one action of two."""
    fleet = FleetCore(lease)
    await fleet.enroll("n1")
    await fleet.state("n1", "e1")
    action_id = await fleet.dispatch("n1", id="running")
    await fleet.dispatch("n1", id="waiting")
    await fleet.pull("n1")
    now = format_instant(fleet.clock.now())
    await fleet.tell("n1", "e1", transition(1, action_id, "STARTED", now))
    return fleet, action_id


def test_a_node_that_is_not_heard_is_silent_and_back_with_the_next_word() -> None:
    async def story() -> None:
        fleet, action_id = await with_started()
        await fleet.later(seconds=140)
        assert not (await fleet.agent("n1"))["silent"]
        await fleet.later(seconds=20)
        shown = await fleet.agent("n1")
        assert shown["silent"]
        assert shown["silent_at"]
        assert (await fleet.action(action_id))["phase"] == "NODE_SILENT"
        assert (await fleet.action("waiting"))["phase"] == "NODE_SILENT"
        assert (await fleet.kinds("n1")).count("node_silent") == 1
        await fleet.later(hours=1)
        assert (await fleet.kinds("n1")).count("node_silent") == 1, "told once"
        await fleet.pull("n1")
        assert not (await fleet.agent("n1"))["silent"]
        assert (await fleet.action(action_id))["phase"] == "RUNNING"
        assert (await fleet.kinds("n1"))[-1] == "node_back"
        await fleet.later(seconds=160)
        assert (await fleet.kinds("n1")).count("node_silent") == 2, "and again"

    play(story())


def test_a_node_that_only_polls_is_never_silent() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        for _ in range(20):
            await fleet.later(seconds=50)
            await fleet.pull("n1")
        assert "node_silent" not in await fleet.kinds("n1")

    play(story())


def test_an_open_poll_is_a_sign_of_life() -> None:
    async def story() -> None:
        fleet = FleetCore(Lease(silent_after_s=5))
        await fleet.enroll("n1")
        with fleet.core.nodes.presence.connected("n1"):
            await fleet.later(seconds=60)
            assert "node_silent" not in await fleet.kinds("n1")
        await fleet.later(seconds=60)
        assert "node_silent" in await fleet.kinds("n1")

    play(story())


def test_what_a_silent_node_had_started_is_lost_after_a_day_and_found_by_any_report() -> None:
    async def story() -> None:
        fleet, action_id = await with_started()
        await fleet.later(hours=23)
        await fleet.later(seconds=1)
        assert (await fleet.action(action_id))["phase"] == "NODE_SILENT"
        await fleet.later(hours=1, seconds=10)
        lost = await fleet.action(action_id)
        assert (lost["phase"], lost["lost_reason"]) == ("LOST", "node_silent")
        assert (await fleet.action("waiting"))["phase"] == "NODE_SILENT", "it may never have begun"
        told = [one for one in await fleet.events("n1") if one["type"] == "lost"]
        assert [(one["action_id"], one["reason"]) for one in told] == [(action_id, "node_silent")]
        answer = await fleet.pull("n1")
        assert [one.type for one in answer.requests] == ["send_state"], "what goes on says nothing"
        assert [one["id"] for one in answer.actions] == [], "nothing is started again"
        await fleet.state("n1", "e1", item(action_id, "STARTED"), item("waiting"), as_of=1)
        assert (await fleet.action(action_id))["phase"] == "RUNNING"
        assert "found" in await fleet.kinds("n1")

    play(story())


def test_an_end_that_comes_late_counts() -> None:
    async def story() -> None:
        fleet, action_id = await with_started()
        await fleet.later(seconds=160)
        await fleet.later(hours=25)
        assert (await fleet.action(action_id))["phase"] == "LOST"
        now = format_instant(fleet.clock.now())
        await fleet.tell("n1", "e1", transition(2, action_id, "FINISHED", now))
        assert (await fleet.action(action_id))["phase"] == "DONE"

    play(story())


def test_a_core_that_was_not_there_holds_nothing_against_the_nodes() -> None:
    async def story() -> None:
        fleet, action_id = await with_started()
        await fleet.later(seconds=160)
        fleet.clock.at = fleet.clock.at.replace(year=fleet.clock.at.year + 1)
        # As after a start: it listens from now on.
        from agent.core.nodes.silence import Silence

        fresh = Silence(Lease(), fleet.core.nodes.presence, fleet.clock.now())
        fleet.core.timer_handlers |= fresh.handlers()
        await fleet.later(seconds=1)
        assert (await fleet.action(action_id))["phase"] == "NODE_SILENT", "not LOST yet"
        await fleet.later(seconds=200)
        assert (await fleet.action(action_id))["phase"] == "LOST"

    play(story())


def test_thousands_that_fall_silent_are_told_each_once() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll(*[f"n{at}" for at in range(250)])
        await fleet.later(seconds=151)
        await fleet.later(seconds=10)
        kinds = await fleet.kinds()
        assert kinds.count("node_silent") == 250

    play(story())


def test_many_polls_are_one_write_and_none_without_any() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1", "n2", "n3")
        presence = fleet.core.nodes.presence
        await presence.flush()
        writes = 0
        inner = fleet.store.write

        async def counting(work: Work[Any]) -> Any:
            nonlocal writes
            writes += 1
            return await inner(work)

        fleet.store.write = counting  # type: ignore[method-assign]
        await presence.flush()
        assert writes == 0
        fleet.clock.seconds += 60
        for name in ("n1", "n2", "n3"):
            await fleet.pull(name)
        assert writes == 0
        await presence.flush()
        assert writes == 1

    play(story())


def test_who_was_heard_is_kept_while_the_store_takes_nothing() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        presence = fleet.core.nodes.presence
        await presence.flush()
        seen_at = (await fleet.agent("n1"))["last_seen_at"]
        fleet.clock.seconds += 60
        fleet.clock.at = fleet.clock.at.replace(microsecond=0)
        await fleet.later(flush=False, seconds=60)
        await fleet.pull("n1")
        inner = fleet.store.write

        async def full(work: Work[Any]) -> Any:
            raise StoreUnavailable("the disk is full")

        fleet.store.write = full  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            await presence.flush()
        fleet.store.write = inner  # type: ignore[method-assign]
        await presence.flush()
        assert (await fleet.agent("n1"))["last_seen_at"] > seen_at

    play(story())


def test_a_report_that_tells_nothing_new_is_no_commit_of_its_own_and_no_event() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        before = await fleet.kinds()
        first = (await fleet.agent("n1"))["report_at"]
        await fleet.later(seconds=1)
        progress = [{"action_id": "a", "percent": 40}]
        await fleet.report("n1", progress=progress)
        assert (await fleet.agent("n1"))["report_at"] == first
        await fleet.core.nodes.presence.flush()
        shown = await fleet.agent("n1")
        assert shown["progress"] == progress
        assert shown["report_at"] > first
        assert await fleet.kinds() == before

    play(story())


def test_a_clock_that_is_off_is_seen() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        assert (await fleet.agent("n1"))["skew_ms"] == 0
        await fleet.later(seconds=1)
        late = format_instant(fleet.clock.now().replace(year=2020))
        await fleet.report("n1", clock={"now": late, "state": "trusted"})
        await fleet.core.nodes.presence.flush()
        assert (await fleet.agent("n1"))["skew_ms"] < -10_000_000
        for clock in ({"now": "noon"}, {"now": 7}, {}):
            await fleet.report("n1", clock=clock)
            assert (await fleet.agent("n1"))["skew_ms"] is None

    play(story())


def test_a_second_agentd_under_one_name_is_told_with_both_instances() -> None:
    async def story() -> None:
        fleet = FleetCore()
        await fleet.enroll("n1")
        await fleet.pull("n1", "i2")
        with pytest.raises(Exception, match="another agentd has taken over"):
            await fleet.pull("n1", "i1")
        [told] = [one for one in await fleet.events("n1") if one["type"] == "node_fenced"]
        assert (told["fenced"], told["instance"]) == ("i1", "i2")
        assert (await fleet.agent("n1"))["fenced_count"] == 1

    play(story())
