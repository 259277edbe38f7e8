"""When a node pushes: at once what happens now and then, evenly what happens all the time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.node.store import events
from agent.node.store.meta import write_meta
from agent.node.sync.push import PUSH_EVERY_S, PUSHES_AT_ONCE, Push
from agent.node.sync.state import SyncState
from agent.wire.messages import EVENTS_PER_PUSH_MAX, EventsAck, EventsPush
from tests.fakes.inline_node_store import InlineNodeStore, open_database
from tests.fakes.virtual_clock import VirtualClock
from tests.fakes.virtual_loop import run_virtual
from tests.simulation.observations import TraceLog

pytestmark = pytest.mark.timeout(20)
AT = datetime(2026, 1, 1, tzinfo=UTC)
STEP_S = 0.001  # between two events of a node that has much to tell


class TimedCore:
    """Notes when it is told how much."""

    def __init__(self) -> None:
        self.told: list[tuple[float, int]] = []
        self._acked = 0

    async def push_events(self, push: EventsPush) -> EventsAck:
        if push.events:
            self.told.append((asyncio.get_running_loop().time(), len(push.events)))
            self._acked = push.events[-1]["seq"]
        return EventsAck(acked=self._acked)


Happen = Callable[[int], Awaitable[None]]


def told(story: Callable[[Happen], Awaitable[None]]) -> list[tuple[float, int]]:
    """(seconds since the first, events) of each push, while the story makes events happen."""

    async def run() -> list[tuple[float, int]]:
        connection, core = open_database(), TimedCore()
        write_meta(connection, agent_epoch="first", enrolled="n")
        store, loop = InlineNodeStore(connection), asyncio.get_running_loop()
        push = Push(
            core=core,  # type: ignore[arg-type]
            store=store, clock=VirtualClock(loop), jitter=lambda: 0.0,
            random_bits=random.Random(1).getrandbits, state=SyncState(), log=TraceLog(_nobody),
        )  # fmt: skip
        made = iter(range(10_000))

        async def happen(count: int) -> None:
            def write(connection: Any) -> None:
                for number in (next(made) for _ in range(count)):
                    mark = f"m{number}"
                    events.append(connection, mark=mark, type="gap", at=AT, row=None, body={})

            await store.write(write)
            push.wake()

        running = asyncio.ensure_future(push.run())
        await asyncio.sleep(1)
        await story(happen)
        await asyncio.sleep(1)
        running.cancel()
        began = core.told[0][0]
        return [(at - began, count) for at, count in core.told]

    return run_virtual(run())


def _nobody(*_: Any, **__: Any) -> None:
    """Reads no log."""


def test_a_few_are_told_each_by_itself_and_at_once() -> None:
    async def story(happen: Happen) -> None:
        for _ in range(PUSHES_AT_ONCE):
            await happen(1)
            await asyncio.sleep(STEP_S)

    pushes = told(story)
    assert [count for _, count in pushes] == [1] * PUSHES_AT_ONCE
    assert pushes[-1][0] < PUSHES_AT_ONCE * STEP_S * 1.5


def test_a_node_that_goes_on_is_told_of_evenly() -> None:
    async def story(happen: Happen) -> None:
        for _ in range(500):
            await happen(1)
            await asyncio.sleep(STEP_S)

    pushes = told(story)
    assert sum(count for _, count in pushes) == 500
    later = [at for at, _ in pushes[PUSHES_AT_ONCE:]]
    gaps = [after - before for before, after in itertools.pairwise(later)]
    assert min(gaps) > PUSH_EVERY_S * 0.9
    assert max(gaps) < PUSH_EVERY_S * 1.5, "and none waits for longer"


def test_what_has_waited_for_the_core_is_told_as_fast_as_it_takes_it() -> None:
    async def story(happen: Happen) -> None:
        await happen(EVENTS_PER_PUSH_MAX * (PUSHES_AT_ONCE + 4))

    pushes = told(story)
    assert [count for _, count in pushes] == [EVENTS_PER_PUSH_MAX] * (PUSHES_AT_ONCE + 4)
    assert pushes[-1][0] < PUSH_EVERY_S
