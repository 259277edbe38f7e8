"""The timers' loop, in virtual time: to the instant, woken by what is set, asleep otherwise."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy.engine import Connection

from agent.core import timers
from agent.core.occasion import Occasion
from agent.core.store.inline import InlineStore
from agent.core.store.port import StoreUnavailable, Work
from agent.core.timer_loop import LOOK_S, PUT_OFF_S, TimerLoop
from agent.core.timers import TimerKind
from agent.core.wakeups import Topic, Wakeups, action_topic
from tests.fakes.virtual_clock import START_AT, VirtualClock
from tests.fakes.virtual_loop import run_virtual

T = TypeVar("T")
KIND, OTHER = TimerKind.APPROVAL_EXPIRES, TimerKind.NODE_LOST


class CountingStore:
    """Counts the looks, and can be out of order."""

    def __init__(self, inner: InlineStore) -> None:
        self._inner = inner
        self.reads = 0
        self.is_down = False

    async def write(self, work: Work[T]) -> T:
        if self.is_down:
            raise StoreUnavailable("down")
        return await self._inner.write(work)

    async def read(self, work: Work[T]) -> T:
        self.reads += 1
        if self.is_down:
            raise StoreUnavailable("down")
        return await self._inner.read(work)


class Stage:
    """A loop over a store in memory; `fired` has what it fired and when, in seconds."""

    def __init__(self, *, shared: bool = False) -> None:
        inner = InlineStore.in_memory()
        self.store = CountingStore(inner)
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.wakeups = Wakeups()
        inner.on_announced = self.wakeups.hear
        self.fired: list[tuple[float, str]] = []
        self.failed: list[str] = []
        self.broken: set[str] = set()
        self.loop = TimerLoop(
            self.store, self.clock, random.Random(1).getrandbits, self.wakeups,
            {KIND: self._fire}, shared=shared,
            on_failure=lambda which, error: self.failed.append(which),
        )  # fmt: skip

    def _fire(
        self, connection: Connection, occasion: Occasion, refs: Sequence[str]
    ) -> Iterable[Topic]:
        for ref in refs:
            if ref in self.broken:
                raise ZeroDivisionError(ref)
            self.fired.append(((occasion.now - START_AT) / timedelta(seconds=1), ref))
        return map(action_topic, refs)

    def at(self, s: float) -> datetime:
        return START_AT + timedelta(seconds=s)

    async def arm(self, ref: str, s: float, kind: TimerKind = KIND) -> None:
        await self.store.write(partial(timers.arm, kind=kind, ref=ref, due_at=self.at(s)))

    async def pass_by(self, s: float) -> None:
        await asyncio.sleep(s)


def played(play: Callable[[Stage], Awaitable[None]], *, shared: bool = False) -> Stage:
    async def whole() -> Stage:
        stage = Stage(shared=shared)
        running = asyncio.create_task(stage.loop.run())
        await play(stage)
        assert not running.done()
        stage.wakeups.close()
        await running
        return stage

    return run_virtual(whole())


def seconds(stage: Stage) -> list[tuple[int, str]]:
    return [(round(at), ref) for at, ref in stage.fired]


def test_each_fires_once_when_it_is_due() -> None:
    async def play(stage: Stage) -> None:
        for ref, s in (("c", 30), ("a", 10), ("b", 20)):
            await stage.arm(ref, s)
        await stage.pass_by(100)

    assert seconds(played(play)) == [(10, "a"), (20, "b"), (30, "c")]


def test_an_earlier_one_that_is_set_later_is_in_time() -> None:
    async def play(stage: Stage) -> None:
        await stage.arm("late", 50)
        await stage.pass_by(5)
        await stage.arm("early", 7)
        await stage.pass_by(100)

    assert seconds(played(play)) == [(7, "early"), (50, "late")]


def test_one_that_was_moved_or_taken_back_keeps_to_that() -> None:
    async def play(stage: Stage) -> None:
        await stage.arm("moved", 10)
        await stage.arm("gone", 10)
        await stage.pass_by(5)
        await stage.arm("moved", 40)
        await stage.store.write(partial(timers.disarm, kind=KIND, ref="gone"))
        await stage.pass_by(100)

    assert seconds(played(play)) == [(40, "moved")]


def test_nothing_due_is_nothing_done() -> None:
    async def play(stage: Stage) -> None:
        await stage.pass_by(30 * 86400)
        assert stage.store.reads == 1

    played(play)


def test_with_others_on_the_database_it_looks_now_and_then() -> None:
    """One of them may have set a timer, and died before it was due."""

    async def play(stage: Stage) -> None:
        await stage.pass_by(1)
        stage.store._inner.on_announced = None  # another process sets it: nobody here is told
        await stage.arm("of another", 20)
        await stage.pass_by(2 * LOOK_S)
        assert stage.store.reads <= 6

    fired = seconds(played(play, shared=True))
    assert [(at <= 20 + LOOK_S, ref) for at, ref in fired] == [(True, "of another")]


def test_a_wall_clock_that_is_set_forward_is_noticed() -> None:
    async def play(stage: Stage) -> None:
        await stage.arm("a", 3600)
        await stage.pass_by(1)
        stage.clock.set(3600)
        await stage.pass_by(LOOK_S)

    assert len(played(play).fired) == 1


def test_a_thousand_at_once_all_fire() -> None:
    async def play(stage: Stage) -> None:
        for number in range(1000):
            await stage.arm(f"t{number}", 10)
        await stage.pass_by(11)
        assert len(stage.fired) == len(set(stage.fired)) == 1000

    played(play)


def test_one_that_fails_waits_and_holds_nobody_up() -> None:
    async def play(stage: Stage) -> None:
        stage.broken.add("bad")
        for ref, s in (("bad", 10), ("good", 10), ("later", 12)):
            await stage.arm(ref, s)
        await stage.pass_by(20)
        assert {ref for _, ref in stage.fired} == {"good", "later"}
        assert stage.failed == [f"{KIND.value}:bad"]
        stage.broken.clear()
        await stage.pass_by(PUT_OFF_S)
        assert stage.fired[-1][1] == "bad"

    played(play)


def test_a_kind_that_nobody_handles_here_is_left_alone() -> None:
    """Another version of cored, which does, may run beside this one."""

    async def play(stage: Stage) -> None:
        await stage.arm("theirs", 5, OTHER)
        await stage.arm("ours", 10)
        await stage.pass_by(20)
        assert stage.store.reads < 10

    assert seconds(played(play)) == [(10, "ours")]


def test_a_database_that_is_away_is_waited_for() -> None:
    async def play(stage: Stage) -> None:
        await stage.arm("a", 10)
        await stage.pass_by(5)
        stage.store.is_down = True
        await stage.pass_by(60)
        assert stage.fired == []
        assert stage.store.reads < 30, "it does not knock all the time"
        stage.store.is_down = False
        await stage.pass_by(20)

    assert [ref for _, ref in played(play).fired] == ["a"]


def test_who_waits_is_woken_after_the_commit() -> None:
    async def play(stage: Stage) -> None:
        await stage.arm("a", 10)
        with stage.wakeups.subscribed(action_topic("a")) as waiter:
            assert await waiter.wait_until(asyncio.get_running_loop().time() + 60)
            assert len(stage.fired) == 1

    played(play)
