"""Pushes that arrive together are stored together, and each has its own outcome all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from agent.core.nodes import arrivals
from agent.core.store.inline import InlineStore
from agent.core.store.port import Store, StoreUnavailable, Work
from agent.wire.strict_json import encode_text
from tests.fakes.core_backends import InProcess, Rejected
from tests.fakes.reporting_node import ReportingNode

pytestmark = pytest.mark.timeout(60)
T = TypeVar("T")


class CountingStore:
    """How many transactions wrote. It refuses while it is told to, or writes when it is let."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.written = 0
        self.trouble: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, work: Work[T]) -> T:
        self.written += 1
        await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        return await self._inner.write(work)

    async def read(self, work: Work[T]) -> T:
        return await self._inner.read(work)


class Scene:
    """Some nodes that have pulled, reported their state and pushed once."""

    def __init__(self, store: CountingStore) -> None:
        self.store = store
        self.backend = InProcess(store)
        self.nodes: list[ReportingNode] = []

    async def enroll(self, count: int) -> list[ReportingNode]:
        for _ in range(count):
            node = await ReportingNode.enrolled(self.backend)
            assert await node.push(node.created("first")) == {"acked": 1}
            self.nodes.append(node)
        self.store.written = 0
        return self.nodes

    async def together(self, *pushes: Awaitable[Any]) -> list[Any]:
        return await asyncio.gather(*pushes, return_exceptions=True)

    async def seqs(self, node: ReportingNode) -> list[int]:
        history = await self.backend.all_events(node.id)
        return [event["seq"] for event in history if event["seq"] is not None]


Story = Callable[[Scene], Awaitable[None]]


def play(story: Story, open_store: Callable[[], Store] = InlineStore.in_memory) -> None:
    """Tell it over a store."""

    async def tell() -> None:
        await story(Scene(CountingStore(open_store())))

    asyncio.run(tell())


def played(story: Story) -> Callable[[], None]:
    """The story as a test, over a store in memory."""

    def test() -> None:
        play(story)

    test.__name__ = story.__name__
    test.story = story  # type: ignore[attr-defined]
    return test


@contextmanager
def bounded(**bounds: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, bound in bounds.items():
            patch.setattr(arrivals, name, bound)
        yield


@played
async def test_pushes_that_arrive_together_are_one_transaction(scene: Scene) -> None:
    nodes = await scene.enroll(5)
    made = [(node, [node.created("a"), *node.ran("a")]) for node in nodes]
    acks = await scene.together(*(node.push(*events) for node, events in made))
    assert acks == [{"acked": 4}] * 5
    assert scene.store.written == 1
    for node in nodes:
        assert await scene.seqs(node) == [1, 2, 3, 4]
        shown = await scene.backend.action("a", node=node.id)
        assert (shown["phase"], shown["attempt"]) == ("DONE", 1)


@played
async def test_two_pushes_of_one_node_are_taken_one_after_the_other(scene: Scene) -> None:
    one, other = await scene.enroll(2)
    first, second = one.created("a"), one.created("b")
    acks = await scene.together(one.push(first), one.push(second), other.push(other.created("a")))
    assert acks == [{"acked": 2}, {"acked": 3}, {"acked": 2}]
    assert await scene.seqs(one) == [1, 2, 3]


@played
async def test_what_one_push_is_refused_for_is_nothing_to_the_others(scene: Scene) -> None:
    gap, forked, bad, fine = await scene.enroll(4)
    bad_event = {"type": "transition", "at": "2026-03-01T12:00:00Z"}
    gap.created("never pushed")
    outcomes = await scene.together(
        gap.push(gap.created("late")),
        forked.push(forked.created("a"), epoch="another"),
        bad.push(bad.created("a"), bad_event),
        fine.push(fine.created("a")),
    )
    assert [one.code for one in outcomes[:3]] == ["gap", "forked", "bad_events"]
    assert outcomes[3] == {"acked": 2}
    assert scene.store.written == 1
    assert [await scene.seqs(one) for one in scene.nodes] == [[1], [1], [1, 2], [1, 2]]


@played
async def test_one_that_the_database_refuses_takes_nobody_with_it(scene: Scene) -> None:
    guilty, fine = await scene.enroll(2)
    for number in range(3):
        await guilty.push(guilty.created(f"more-{number}"))
    again = {**guilty.created("a"), "mark": guilty.made[0]["mark"]}
    outcomes = await scene.together(guilty.push(again), fine.push(fine.created("a")))
    assert isinstance(outcomes[0], Rejected)
    assert outcomes[0].code == "bad_events"
    assert outcomes[1] == {"acked": 2}
    assert await scene.seqs(guilty) == [1, 2, 3, 4]
    assert await scene.seqs(fine) == [1, 2]


@played
async def test_a_new_start_of_agentd_takes_over_beside_the_others(scene: Scene) -> None:
    started_anew, fine = await scene.enroll(2)
    former = started_anew.instance
    started_anew.restarted()
    acks = await scene.together(
        started_anew.push(started_anew.created("a")), fine.push(fine.created("a"))
    )
    assert acks == [{"acked": 2}, {"acked": 2}]
    started_anew.instance = former
    [fenced] = await scene.together(started_anew.push(started_anew.created("b")))
    assert (fenced.code, await scene.seqs(started_anew)) == ("fenced", [1, 2])


@played
async def test_who_hangs_up_is_stored_and_holds_nobody_up(scene: Scene) -> None:
    gone, fine = await scene.enroll(2)
    pushing = asyncio.ensure_future(gone.push(gone.created("a")))
    other = asyncio.ensure_future(fine.push(fine.created("a")))
    for _ in range(3):  # until both have arrived and nothing is stored yet
        await asyncio.sleep(0)
    pushing.cancel()
    assert await other == {"acked": 2}
    assert [await scene.seqs(one) for one in (gone, fine)] == [[1, 2], [1, 2]]


@played
async def test_a_database_that_refuses_is_told_to_each_of_them(scene: Scene) -> None:
    nodes = await scene.enroll(3)
    made = [(node, node.created("a")) for node in nodes]
    scene.store.trouble = StoreUnavailable("the disk is full")
    outcomes = await scene.together(*(node.push(event) for node, event in made))
    assert [one.status for one in outcomes] == [503] * 3
    assert scene.store.written == 1, "nobody asks such a database again at once"
    scene.store.trouble = None
    acks = await scene.together(*(node.push(event) for node, event in made))
    assert acks == [{"acked": 2}] * 3


@played
async def test_who_comes_while_others_are_being_stored_goes_with_the_next(scene: Scene) -> None:
    nodes = await scene.enroll(arrivals.GROUPS_MAX + 4)
    scene.store.gate.clear()
    pushing = []
    for node in nodes:
        pushing.append(asyncio.ensure_future(node.push(node.created("a"))))
        for _ in range(3):
            await asyncio.sleep(0)
    assert scene.store.written == arrivals.GROUPS_MAX
    assert scene.backend.protocol.arrivals.waiting == 4
    scene.store.gate.set()
    assert await asyncio.gather(*pushing) == [{"acked": 2}] * len(nodes)
    assert scene.store.written == arrivals.GROUPS_MAX + 1
    assert scene.backend.protocol.arrivals.groups[arrivals.TOGETHER] >= arrivals.GROUPS_MAX + 1


@played
async def test_nobody_is_forgotten_who_comes_as_the_last_groups_end(scene: Scene) -> None:
    nodes = await scene.enroll(arrivals.GROUPS_MAX + 1)

    async def push(node: ReportingNode, steps: int) -> Any:
        for _ in range(steps):
            await asyncio.sleep(0)
        return await node.push(node.created("a"))

    for steps in range(12):  # one of them is the very step in which the others' groups have ended
        *first, late = nodes
        pushes = [*(push(node, 0) for node in first), push(late, steps)]
        await asyncio.wait_for(asyncio.gather(*pushes), 10)


@played
async def test_what_no_error_should_be_is_each_ones_own(scene: Scene) -> None:
    class Panic(BaseException):
        """As an extension module raises it."""

    nodes = await scene.enroll(2)
    scene.store.trouble = Panic()
    made = [(node, node.created("a")) for node in nodes]
    outcomes = await scene.together(*(node.push(event) for node, event in made))
    assert [type(one) for one in outcomes] == [Panic, Panic]
    assert scene.backend.protocol.arrivals.groups[arrivals.APART] == 1


@played
async def test_too_many_that_wait_are_told_so(scene: Scene) -> None:
    one, other = await scene.enroll(2)
    with bounded(WAITING_MAX=1):
        outcomes = await scene.together(one.push(one.created("a")), other.push(other.created("a")))
    assert outcomes[0] == {"acked": 2}
    assert outcomes[1].status == 503
    assert await other.push() == {"acked": 2}


@played
async def test_a_group_has_a_bound_in_pushes_and_in_events(scene: Scene) -> None:
    nodes = await scene.enroll(10)
    with bounded(PUSHES_MAX=4):
        await scene.together(*(node.push(node.created("a")) for node in nodes))
    assert scene.store.written == 3
    scene.store.written = 0
    with bounded(EVENTS_MAX=6):
        made = [(node, [node.created("b"), *node.ran("b")]) for node in nodes]
        await scene.together(*(node.push(*events) for node, events in made))
    assert scene.store.written == 5
    scene.store.written = 0
    made = [(node, [node.created("c")]) for node in nodes]
    size = max(len(encode_text(event)) for _, [event] in made)
    with bounded(TEXT_MAX=2 * size):
        await scene.together(*(node.push(*events) for node, events in made))
    assert 4 <= scene.store.written <= 5
