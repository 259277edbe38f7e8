"""What a `NodeClock` and an `Alarm` promise, by the machine's and by the virtual ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.domain.clock_doubt import Belief, judge
from agent.infra.clock import Alarm, NodeClock, SystemClock, WallAlarm
from tests.fakes.virtual_clock import VirtualClock
from tests.fakes.virtual_loop import run_virtual

pytestmark = pytest.mark.timeout(30)
FAR = [datetime.max.replace(tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)]


@dataclass
class Ports:
    clock: NodeClock
    alarm: Callable[[Callable[[], None]], Alarm]


def machine(scene: Callable[[Ports], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene(Ports(SystemClock(), WallAlarm)))


def virtual(scene: Callable[[Ports], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        await scene(Ports(clock, clock.alarm))

    run_virtual(play())


@pytest.fixture(params=[machine, virtual], ids=["machine", "virtual"])
def play(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_reading_agrees_with_the_clock_and_goes_on_with_it(play: Any) -> None:
    async def scene(ports: Ports) -> None:
        first = ports.clock.reading()
        assert first.wall.tzinfo is UTC
        assert abs(first.wall - ports.clock.now()) < timedelta(seconds=5)
        await asyncio.sleep(0.05)
        second = ports.clock.reading()
        assert second.boot_id == first.boot_id != ""
        assert 0.04 < second.boottime_s - first.boottime_s < 10
        believed = judge(judge(Belief(), first), second)
        assert (believed.doubt, believed.stepped_s) == (None, 0.0)

    play(scene)


def test_an_alarm_rings_once_its_instant_has_come(play: Any) -> None:
    async def scene(ports: Ports) -> None:
        rung = asyncio.Event()
        alarm = ports.alarm(rung.set)
        at = ports.clock.now() + timedelta(seconds=0.05)
        alarm.set(at)
        await asyncio.wait_for(rung.wait(), 10)
        assert ports.clock.now() >= at
        rung.clear()
        alarm.set(ports.clock.now() - timedelta(days=400))  # has passed: at once
        await asyncio.wait_for(rung.wait(), 10)
        alarm.close()

    play(scene)


def test_an_alarm_for_later_or_for_nothing_keeps_still(play: Any) -> None:
    """Timers of months and of centuries: nothing overflows into "now"."""

    async def scene(ports: Ports) -> None:
        rung: list[int] = []
        alarm = ports.alarm(lambda: rung.append(1))
        soon = [ports.clock.now() + timedelta(days=days) for days in (26, 60, 4000)]
        for at in (*soon, *FAR, None):
            alarm.set(at)
            await asyncio.sleep(0.01)
        assert rung == []
        alarm.close()

    play(scene)


def test_a_virtual_alarm_rings_when_the_clock_is_set() -> None:
    async def scene() -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        rung = asyncio.Event()
        clock.alarm(rung.set).set(None)
        clock.set(-3600)
        await asyncio.wait_for(rung.wait(), 1)

    run_virtual(scene())
