"""Pushing to a core that has another history than this node: found out, and healed.

Each was found by the simulation; here it is one small story.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.infra.clock import SystemClock
from agent.node.store import events
from agent.node.store.meta import Meta, read_meta, write_meta
from agent.node.sync.port import CoreRefused
from agent.node.sync.push import Push
from agent.node.sync.state import SyncState
from agent.wire.messages import EventsAck, EventsPush, StatePush
from tests.fakes.inline_node_store import InlineNodeStore, open_database
from tests.simulation.observations import TraceLog

pytestmark = pytest.mark.timeout(20)
AT = datetime(2026, 1, 1, tzinfo=UTC)


class OtherCore:
    """Remembers what it is told and answers as a test says."""

    def __init__(self, acked: int) -> None:
        self.acked = acked
        self.pushed: list[int] = []
        self.states: list[StatePush] = []
        self.superseded: set[str] = set()

    async def push_events(self, push: EventsPush) -> EventsAck:
        known = {state.agent_epoch for state in self.states}
        if self.states and push.agent_epoch not in known:
            raise CoreRefused("forked", "unknown epoch")
        self.pushed += [event["seq"] for event in push.events]
        self.acked = max([self.acked, *(event["seq"] for event in push.events)])
        return EventsAck(acked=self.acked)

    async def put_state(self, push: StatePush) -> None:
        if push.agent_epoch in self.superseded:
            raise CoreRefused("forked", "superseded")
        self.states.append(push)


def push_to(core: OtherCore, made: int, **meta: Any) -> Meta:
    """A node with so many events pushes until it has nothing more to say."""

    async def run() -> Meta:
        connection = open_database()
        write_meta(connection, agent_epoch="first", enrolled="n", **meta)
        for number in range(made):
            events.append(connection, mark=f"m{number}", type="gap", at=AT, row=None, body={})
        store = InlineNodeStore(connection)
        push = Push(
            core=core,  # type: ignore[arg-type]
            store=store, clock=SystemClock(), jitter=lambda: 0.0,
            random_bits=random.Random(1).getrandbits, state=SyncState(), log=TraceLog(_nobody),
        )  # fmt: skip
        running = asyncio.ensure_future(push.run())
        await asyncio.sleep(0.05)
        running.cancel()
        return await store.read(read_meta)

    return asyncio.run(run())


def _nobody(*_: Any, **__: Any) -> None:
    """Reads no log."""


def test_what_was_not_pushed_is_not_acknowledged() -> None:
    """A restored node: the core has more events than it ever pushed, of another history."""
    core = OtherCore(acked=50)
    meta = push_to(core, made=5, acked_seq=3)
    assert core.pushed == [4, 5]
    assert meta.agent_epoch != "first", "event 50 is none of ours: a fork"
    assert core.states[-1].agent_epoch == meta.agent_epoch


def test_a_core_from_a_backup_gets_what_it_lost() -> None:
    """Nothing is new on the node, and still it asks, and tells again."""
    core = OtherCore(acked=2)
    meta = push_to(core, made=5, acked_seq=5)
    assert core.pushed == [3, 4, 5]
    assert (meta.acked_seq, meta.agent_epoch) == (5, "first")


def test_both_in_agreement_say_nothing() -> None:
    core = OtherCore(acked=5)
    push_to(core, made=5, acked_seq=5)
    assert (core.pushed, core.states) == ([], [])


def test_a_state_owed_under_a_superseded_epoch_gets_a_new_one() -> None:
    core = OtherCore(acked=0)
    core.superseded = {"first"}
    meta = push_to(core, made=0, state_owed=1)
    assert meta.state_owed == 0
    assert [state.agent_epoch for state in core.states] == [meta.agent_epoch]
