"""The engine when its wall clock is set: held while in doubt, planned anew, and nothing twice.

The real engine and store in virtual time, with the runner's fake.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from agent.domain.action import Action
from agent.domain.ending import ExitRecord
from agent.domain.instants import parse_instant
from agent.domain.lane import Lane
from agent.domain.manifest import Manifest
from agent.node.engine import Engine
from agent.node.ports import Catalogue, RunKey
from agent.node.store import actions
from agent.node.store.meta import read_meta
from tests.fakes.fake_runner import FakeRunner
from tests.fakes.fake_runner_port import FakeRunnerPort
from tests.fakes.inline_node_store import InlineNodeStore, open_database
from tests.fakes.virtual_clock import VirtualClock
from tests.fakes.virtual_loop import run_virtual
from tests.integration.node.database import make_kinds, make_ledger
from tests.unit.domain.builders import make_definition

pytestmark = pytest.mark.timeout(60)
HOUR = 3600.0


@dataclass
class Listener:
    """Hands the runner's notices on."""

    engine: Engine

    def run_exited(self, key: RunKey, record: ExitRecord) -> None:
        self.engine.run_exited(key, record)

    def runner_lost(self) -> None:
        """It stays."""

    def survivors_found(self, key: RunKey | None, count: int) -> None:
        """Nothing survives here."""

    def kinds_changed(self) -> None:
        """They do not."""


@dataclass
class Node:
    """One engine with all that is its; `boot` begins another life on the same database."""

    clock: VirtualClock
    database: Any = field(default_factory=open_database)

    async def boot(self) -> Node:
        self.store = InlineNodeStore(self.database)
        kinds = {"sleep": Manifest(kind="sleep", parallel=True)}
        runner = FakeRunner(
            clock=self.clock,
            catalogue=Catalogue(digest="d", kinds=kinds),
            watch=lambda *_, **__: None,
        )
        port = FakeRunnerPort(runner)
        self.ledger = make_ledger()
        self.engine = Engine(
            store=self.store, ledger=self.ledger, runner=port, kinds=make_kinds(sleep={}),
            clock=self.clock, alarm=self.clock.alarm, jitter=lambda: 0.0, parallel_max=4,
            log=structlog.get_logger(),
        )  # fmt: skip
        await port.connect(1, Listener(self.engine))
        self.engine.runner_ready = True
        self.turning = asyncio.ensure_future(self.engine.run())
        await asyncio.sleep(0.001)
        return self

    async def stop(self) -> None:
        self.turning.cancel()
        await asyncio.gather(self.turning, return_exceptions=True)

    async def accept(self, name: str, due_s: float | None = None, **fields: Any) -> None:
        due = None if due_s is None else self.clock.now() + timedelta(seconds=due_s)
        definition = make_definition(id=name, from_date=due, **fields)
        now = self.clock.now()
        await self.store.write(lambda c: self.ledger.accept(c, definition, now, lane=Lane.PARALLEL))
        self.engine.wake()
        await asyncio.sleep(0.001)

    async def action(self, name: str) -> Action:
        found = await self.store.read(lambda c: actions.by_id(c, name))
        assert found is not None
        return found

    async def status(self, name: str) -> str:
        return (await self.action(name)).execution_status.value

    @property
    def state(self) -> str:
        return str(self.engine.clock_watch.view()["state"])


def play(scene: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        node = await Node(VirtualClock(asyncio.get_running_loop())).boot()
        try:
            await scene(node)
        finally:
            await node.stop()

    run_virtual(run())


def test_a_leap_ahead_starts_and_ends_nothing_until_the_kernel_confirms_it() -> None:
    async def scene(node: Node) -> None:
        await node.accept("due", 2 * HOUR)
        await node.accept("closes", HOUR, to_date=node.clock.now() + timedelta(hours=2))
        await node.accept("runs", payload={"seconds": 9 * HOUR},
                          to_date=node.clock.now() + timedelta(hours=4))  # fmt: skip
        assert await node.status("runs") == "STARTED"
        node.clock.set(5 * HOUR, synchronised=False)
        await asyncio.sleep(60)
        assert node.state == "doubtful"
        assert [await node.status(name) for name in ("due", "closes", "runs")] == [
            "NULL", "NULL", "STARTED",
        ]  # fmt: skip
        await node.accept("asked-for")
        assert await node.status("asked-for") == "NULL"
        node.clock.synchronised = True  # nobody tells: the engine looks again by itself
        await asyncio.sleep(15)
        assert node.state == "trusted"
        assert [await node.status(name) for name in ("due", "closes", "runs", "asked-for")] == [
            "FINISHED", "WONT_START", "WONT_FINISH", "FINISHED",
        ]  # fmt: skip

    play(scene)


def test_a_doubt_that_turns_out_wrong_leaves_no_trace() -> None:
    async def scene(node: Node) -> None:
        await node.accept("due", 2 * HOUR)
        await node.accept("runs", payload={"seconds": 9 * HOUR},
                          to_date=node.clock.now() + timedelta(hours=4))  # fmt: skip
        node.clock.set(24 * HOUR, synchronised=False)
        await asyncio.sleep(5)
        await node.accept("accepted-meanwhile")
        node.clock.set(-24 * HOUR, synchronised=False)
        await asyncio.sleep(1)
        assert node.state == "trusted"
        assert [await node.status(name) for name in ("due", "runs", "accepted-meanwhile")] == [
            "NULL", "STARTED", "FINISHED",
        ]  # fmt: skip
        await asyncio.sleep(2 * HOUR)
        assert await node.status("due") == "FINISHED"
        await asyncio.sleep(2 * HOUR)
        assert (await node.action("runs")).reason == "window_closed", "its window is kept again"

    play(scene)


def test_a_clock_set_back_fires_nothing_twice_and_works_again_after_ten_minutes() -> None:
    async def scene(node: Node) -> None:
        await node.accept("before", 10)
        await node.accept("later", 60)
        await asyncio.sleep(20)
        assert await node.status("before") == "FINISHED"
        node.clock.set(-HOUR, synchronised=False)
        await asyncio.sleep(595)
        assert node.state == "doubtful"
        view = node.engine.clock_watch.view()
        assert parse_instant(view["until"]) <= node.clock.now() + timedelta(seconds=11)
        await asyncio.sleep(20)
        assert node.state == "trusted"
        assert (await node.action("before")).attempt == 1
        assert await node.status("later") == "NULL", "its date has not come on the new clock"
        await asyncio.sleep(HOUR)
        later = await node.action("later")
        assert (later.execution_status.value, later.attempt) == ("FINISHED", 1)

    play(scene)


def test_a_node_that_boots_in_the_past_holds_until_the_core_says_the_date() -> None:
    async def scene(node: Node) -> None:
        await node.accept("first")
        before = node.clock.now()
        await asyncio.sleep(70)
        await node.accept("second")  # and the time that is believed is kept with it
        kept = await node.store.read(read_meta)
        assert kept.clock_mark
        await node.accept("due", 100)
        await node.stop()
        node.clock.boot_id = "another"
        node.clock.set(-365 * 24 * HOUR, synchronised=False)
        await node.boot()
        assert node.state == "doubtful"
        await node.accept("now")
        assert await node.status("now") == "NULL"
        node.engine.core_says(before)
        await asyncio.sleep(1)
        assert node.state == "doubtful", "the core does not agree"
        node.engine.core_says(node.clock.now())
        await asyncio.sleep(1)
        assert node.state == "trusted"
        assert await node.status("now") == "FINISHED"
        assert await node.status("first") == "FINISHED"

    play(scene)


def test_timers_of_months_ring_in_time_and_raise_no_doubt() -> None:
    async def scene(node: Node) -> None:
        await node.accept("due", 30 * 24 * HOUR)  # timers of months
        await asyncio.sleep(31 * 24 * HOUR)
        assert node.state == "trusted"
        done = await node.action("due")
        assert done.execution_status.value == "FINISHED"
        assert done.started_at is not None
        assert done.started_at - _from(done) < timedelta(seconds=1)

    play(scene)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_clock_does_each_starts_at_most_once_and_ends(seed: int) -> None:
    """Set at random, restarted at random, and right in the end (P2, and nothing twice)."""
    rng = random.Random(seed)

    async def scene(node: Node) -> None:
        names: list[str] = []
        off_s = 0.0
        for step in range(25):
            await asyncio.sleep(rng.choice((1, 30, 700, 2 * HOUR)))
            match rng.randrange(4):
                case 0:
                    by_s = rng.choice((-9, -HOUR, -50 * HOUR, 3, 1800, 5 * HOUR, 20 * HOUR))
                    off_s += by_s
                    node.clock.set(by_s, synchronised=rng.random() < 0.3)
                case 1:
                    await node.stop()
                    await node.boot()
                case _:
                    names.append(f"a{step}")
                    due_s = rng.choice((None, None, -5.0, 20.0, HOUR, 40 * HOUR))
                    until = None if due_s is None else node.clock.now() + timedelta(seconds=due_s)
                    to_date = until + timedelta(hours=3) if until and rng.random() < 0.5 else None
                    await node.accept(names[-1], due_s, to_date=to_date)
        node.clock.set(-off_s, synchronised=True)
        await asyncio.sleep(600 * HOUR)  # for those whose date is one of the wrong clock
        for name in names:
            action = await node.action(name)
            assert action.is_final, f"{name} was lost: {action}"
            assert action.attempt <= 1, f"{name} was started twice: {action}"

    play(scene)


def _from(action: Action) -> datetime:
    assert action.definition.from_date is not None
    return action.definition.from_date
