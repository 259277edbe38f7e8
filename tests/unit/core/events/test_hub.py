"""One reader, many listeners: each event once and in order, whoever is slow or comes late."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import aclosing
from typing import TypeVar

import pytest

from agent.core.events import hub as hub_module
from agent.core.events.filter import EVERYTHING, read_filter
from agent.core.events.hub import Ending, Hub, Subscriber, nothing
from agent.core.events.reading import Gone
from agent.core.events.streaming import EventStream
from agent.core.store.inline import InlineStore
from agent.core.store.port import Work
from agent.core.wakeups import Wakeups
from agent.domain.errors import Refused
from tests.fakes.noted_events import note, until

T = TypeVar("T")

pytestmark = pytest.mark.timeout(20)


class CountingStore(InlineStore):
    """Counts reads; slow ones leave room for others to write meanwhile."""

    reads = 0

    async def read(self, work: Work[T]) -> T:
        self.reads += 1
        found = await super().read(work)
        await asyncio.sleep(0)
        return found


class Scene:
    def __init__(self) -> None:
        store = CountingStore.in_memory()
        assert isinstance(store, CountingStore)
        self.store = store
        self.wakeups = Wakeups()
        self.hub = Hub(self.store, self.wakeups)
        self.stream = EventStream(self.store, self.wakeups, self.hub)

    async def note(self, *kinds: str, node: str = "n1", action: str | None = None) -> None:
        await note(self.store, self.wakeups, *kinds, node=node, action=action)


def ids(chunk: bytes) -> list[int]:
    """Of the events in it; signs of life have an id and no data."""
    return [int(one) for one in re.findall(rb"id: (\d+)\nevent: ", chunk)]


async def listen(scene: Scene, after: int, count: int, **given: str) -> list[int]:
    found: list[int] = []
    async with aclosing(scene.stream.live(after, read_filter(given))) as chunks:
        async for chunk in chunks:
            found += ids(chunk)
            if len(found) >= count:
                return found
    return found


def test_everybody_gets_everything_once_and_in_order() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.note(*["a"] * 700)
        async with asyncio.TaskGroup() as group:
            early = [group.create_task(listen(scene, n * 35, 1400 - n * 35)) for n in range(20)]
            for _ in range(70):
                await scene.note(*["b"] * 10)
                await asyncio.sleep(0.001)
        for n, task in enumerate(early):
            assert task.result() == list(range(n * 35 + 1, 1401))
        assert scene.hub.subscribers == 0

    asyncio.run(play())


def test_a_thousand_listeners_cost_one_reader() -> None:
    async def play() -> None:
        scene = Scene()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(listen(scene, 0, 40)) for _ in range(1000)]
            await until(lambda: scene.hub.subscribers == 1000)
            before = scene.store.reads
            for _ in range(40):
                await scene.note("a")
        assert all(task.result() == list(range(1, 41)) for task in tasks)
        assert scene.store.reads - before < 40, "gathered, and not once for each listener"

    asyncio.run(play())


def test_filters_look_beside_the_event() -> None:
    async def play() -> None:
        scene = Scene()
        async with asyncio.TaskGroup() as group:
            one = group.create_task(listen(scene, 0, 2, node="n2"))
            two = group.create_task(listen(scene, 0, 1, type="b,c"))
            three = group.create_task(listen(scene, 0, 2, selector="node=n2"))
            await until(lambda: scene.hub.subscribers == 3)
            await scene.note("a", node="n1")
            await scene.note("b", node="n2")
            await scene.note("a", node="n2")
        assert (one.result(), two.result(), three.result()) == ([2, 3], [2], [2, 3])

    asyncio.run(play())


def test_a_slow_listener_is_cut_off_and_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "QUEUE_EVENTS_MAX", 10)

    async def play() -> None:
        scene = Scene()
        cut: list[bool] = []
        slow = await scene.hub.join(EVERYTHING, lambda: cut.append(True))
        quick = asyncio.create_task(listen(scene, 0, 30))
        await until(lambda: scene.hub.subscribers == 2)
        for _ in range(6):
            await scene.note(*["a"] * 5)
            await asyncio.sleep(0.03)
        assert await quick == list(range(1, 31))
        assert (slow.ending, cut, scene.hub.cut_off) == (Ending.SLOW, [True], 1)
        assert await slow.take(1.0) == b"", "it comes back with the number it reached"

    asyncio.run(play())


def test_who_keeps_up_is_not_cut_off_by_much_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "QUEUE_BYTES_MAX", 4096)
    monkeypatch.setattr(hub_module, "SLICE_BYTES", 1024)

    async def play() -> None:
        scene = Scene()
        found: list[int] = []

        async def read() -> None:
            subscriber = await scene.hub.join(EVERYTHING)
            while subscriber.ending is None and len(found) < 200:
                found.extend(ids(await subscriber.take(1.0)))
            scene.hub.leave(subscriber)

        readers = asyncio.gather(read(), listen(scene, 0, 200, type="a"))
        await until(lambda: scene.hub.subscribers == 2)
        await scene.note(*["a"] * 200)
        _, others = await readers
        assert found == others == list(range(1, 201))
        assert scene.hub.cut_off == 0

    asyncio.run(play())


def test_what_comes_as_the_wait_ends_is_taken() -> None:
    """Else a sign of life would carry the number of an event that was never sent."""

    async def play() -> None:
        one = Subscriber(EVERYTHING, 0, nothing)
        taking = asyncio.create_task(one.take(0.01))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, one.offer, b"frame")
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251  (both timers are to fall due in one turn of the loop)
        assert await taking == b"frame"

    asyncio.run(play())


def test_without_listeners_nothing_is_read() -> None:
    async def play() -> None:
        scene = Scene()
        subscriber = await scene.hub.join(EVERYTHING)
        await scene.note("a")
        assert ids(await subscriber.take(1.0)) == [1]
        scene.hub.leave(subscriber)
        await asyncio.sleep(0)
        before = scene.store.reads
        await scene.note("a")
        await asyncio.sleep(0.1)
        assert scene.store.reads == before
        again = await scene.hub.join(EVERYTHING)
        assert again.reached == 2, "from now on"
        scene.hub.leave(again)

    asyncio.run(play())


def test_closing_ends_every_stream() -> None:
    async def play() -> None:
        scene = Scene()
        waiting = [asyncio.create_task(listen(scene, 0, 99)) for _ in range(3)]
        await until(lambda: scene.hub.subscribers == 3)
        scene.wakeups.close()
        async with asyncio.timeout(2):
            assert await asyncio.gather(*waiting) == [[], [], []]

    asyncio.run(play())


def test_a_database_that_fails_ends_the_streams_and_is_told() -> None:
    class Failing(InlineStore):
        broken = False

        async def read(self, work: Work[T]) -> T:
            if self.broken:
                raise Refused("unavailable", "the database refused")
            return await super().read(work)

    async def play() -> None:
        told: list[BaseException] = []
        store, wakeups = Failing.in_memory(), Wakeups()
        hub = Hub(store, wakeups, told.append)
        subscriber = await hub.join(EVERYTHING)
        await asyncio.sleep(0.05)
        Failing.broken = True
        await note(store, wakeups, "a")
        await until(lambda: subscriber.ending is not None)
        assert [str(one) for one in told] == ["the database refused"]
        Failing.broken = False
        again = await hub.join(EVERYTHING)
        assert again.ending is None, "and whoever comes back is served"
        hub.leave(again)

    asyncio.run(play())


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SUBSCRIBERS_MAX", 1)

    async def play() -> None:
        scene = Scene()
        first = await scene.hub.join(EVERYTHING)
        with pytest.raises(Refused, match="listen already"):
            await scene.hub.join(EVERYTHING)
        with pytest.raises(Refused, match="listen already"):
            await scene.stream.begin(None)  # before an answer has begun
        scene.hub.leave(first)

    asyncio.run(play())


def test_a_cursor_that_was_never_given_out_is_refused() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.note("a")
        assert await scene.stream.begin(None) == 1
        assert await scene.stream.begin(1) == 1
        with pytest.raises(Gone, match="restored from a backup"):
            await scene.stream.begin(2)

    asyncio.run(play())


def test_pages_pass_over_what_is_not_wanted() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.note(*["a"] * 450, "b", *["a"] * 450, "b", "b")
        wanted = read_filter({"type": "b"})
        page = await scene.stream.page(0, 2, 0.0, wanted)
        assert ([one["id"] for one in page["events"]], page["next"]) == ([451, 902], "902")
        page = await scene.stream.page(902, 2, 0.0, wanted)
        assert ([one["id"] for one in page["events"]], page["next"]) == ([903], "903")
        waiting = asyncio.create_task(scene.stream.page(903, 2, 5.0, wanted))
        await scene.note("a")
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await scene.note("b")
        assert [one["id"] for one in (await waiting)["events"]] == [905]

    asyncio.run(play())
