"""Two processes' worth of core on one PostgreSQL: whoever waits at one is woken by the other."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from agent.core import journal, timers
from agent.core.neighbours import TELL_EVERY_S, TOPICS_MAX, Neighbours
from agent.core.occasion import Occasion
from agent.core.store import notices
from agent.core.store.postgres import PostgresDatabase
from agent.core.store.threaded import ThreadedStore
from agent.core.timer_loop import TimerLoop
from agent.core.timers import TimerKind
from agent.core.wakeups import EVENTS, Topic, Wakeups, action_topic, agent_topic
from agent.infra.clock import SystemClock
from tests.fakes.postgres import Postgres

pytestmark = pytest.mark.timeout(60)
SOON_S = 10.0  # that it comes at all is asserted, not how quickly
NEVER_S = 0.3


class Side:
    """One `cored`, as far as waking goes."""

    def __init__(self, url: str) -> None:
        database = PostgresDatabase(url)
        self.store = ThreadedStore(database)
        self.wakeups = Wakeups()
        self.told: list[str | None] = []
        self.neighbours = Neighbours(database, self.store, self.wakeups, self.told.append)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Side]:
        self.store.open()
        self.store.on_announced = self.wakeups.hear
        # Listening begins by waking everybody.
        async with self.hears(EVENTS):
            task = asyncio.create_task(self.neighbours.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.store.close()

    @asynccontextmanager
    async def hears(self, topic: Topic) -> AsyncIterator[None]:
        """What happens inside wakes who waits for the topic here."""
        with self.wakeups.subscribed(topic) as waiter:
            yield
            assert await waiter.wait_until(asyncio.get_running_loop().time() + SOON_S), topic

    @asynccontextmanager
    async def stays_asleep(self, topic: Topic) -> AsyncIterator[None]:
        """What happens inside wakes nobody here."""
        with self.wakeups.subscribed(topic) as waiter:
            yield
            assert not await waiter.wait_until(asyncio.get_running_loop().time() + NEVER_S), topic


def two(postgres: Postgres, play: Callable[[Side, Side], Awaitable[None]]) -> None:
    async def whole() -> None:
        url = postgres.database()
        async with Side(url).running() as one, Side(url).running() as other:
            await play(one, other)

    asyncio.run(whole())


def test_what_a_commit_announces_is_heard_everywhere(postgres: Postgres) -> None:
    """Nothing is called after the commit: a process that is killed right then has told."""

    async def play(one: Side, other: Side) -> None:
        work = partial(notices.announce, topics=[agent_topic("n")])
        async with one.hears(agent_topic("n")), other.hears(agent_topic("n")):
            await one.store.write(work)
        async with other.stays_asleep(agent_topic("someone-else")):
            await one.store.write(work)

    two(postgres, play)


def test_what_is_rolled_back_wakes_nobody(postgres: Postgres) -> None:
    def work(connection: Connection) -> None:
        notices.announce(connection, [agent_topic("n")])
        raise LookupError

    async def play(one: Side, other: Side) -> None:
        async with one.stays_asleep(agent_topic("n")), other.stays_asleep(agent_topic("n")):
            with pytest.raises(LookupError):
                await one.store.write(work)

    two(postgres, play)


def test_what_is_notified_is_relayed_and_ones_own_is_not_heard_twice(postgres: Postgres) -> None:
    async def play(one: Side, other: Side) -> None:
        topics = [EVENTS, action_topic("a")]
        async with other.hears(EVENTS), other.hears(action_topic("a")):
            one.wakeups.notify(topics)
        await asyncio.sleep(2 * TELL_EVERY_S)
        async with one.stays_asleep(EVENTS), other.hears(EVENTS):
            one.neighbours._gather([EVENTS])

    two(postgres, play)


def test_more_than_one_notice_holds_arrives_all_the_same(postgres: Postgres) -> None:
    async def play(one: Side, other: Side) -> None:
        names = [f"{number}-" + "x" * 110 for number in range(1000)]
        async with other.hears(action_topic(names[0])), other.hears(action_topic(names[-1])):
            one.wakeups.notify(map(action_topic, names))
        async with other.hears(action_topic("not among them")):
            one.wakeups.notify(action_topic(f"a{number}") for number in range(TOPICS_MAX + 1))

    two(postgres, play)


def test_a_lost_ear_is_replaced_and_everybody_looks(postgres: Postgres) -> None:
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )

    async def play(one: Side, other: Side) -> None:
        async with other.hears(agent_topic("anybody")):
            await one.store.write(lambda c: c.execute(cut).all())
        assert [problem is None for problem in other.told] == [False, True]
        async with other.hears(agent_topic("n")):
            await one.store.write(partial(notices.announce, topics=[agent_topic("n")]))

    two(postgres, play)


def send(payload: str, connection: Connection) -> None:
    connection.execute(text("SELECT pg_notify('cored', :p)"), {"p": payload})


def test_what_is_no_notice_of_ours_makes_everybody_look(postgres: Postgres) -> None:
    async def play(one: Side, other: Side) -> None:
        for payload in ("", "{}", "[]", '["x", 5]', '["x", ["events"]]', "what"):
            async with other.hears(EVENTS):
                await one.store.write(partial(send, payload))

    two(postgres, play)


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_payloads_are_short_enough_and_whole(count: int) -> None:
    topics = [("action", f'{number}-é\0"') for number in range(count)]
    found: list[Topic] = []
    for payload in notices.payloads("origin", topics):
        assert len(payload.encode()) <= notices.PAYLOAD_BYTES_MAX
        assert "\0" not in payload
        origin, some = notices.read_payload(payload)
        assert (origin, len(some) > 0) == ("origin", True)
        found += some
    assert found == topics


def test_a_timer_fires_once_whoever_fires_it(postgres: Postgres) -> None:
    count, kind = 300, TimerKind.APPROVAL_EXPIRES
    clock = SystemClock()

    def fire(connection: Connection, occasion: Occasion, refs: Sequence[str]) -> Iterable[Topic]:
        for ref in refs:
            journal.append(connection, occasion, "", "fired", ref)
        return [EVENTS]

    def arm_all(connection: Connection) -> None:
        due_at = clock.now() + timedelta(seconds=0.2)
        timers.arm_new(connection, kind, [(f"t{number}", due_at) for number in range(count)])

    def fired(connection: Connection) -> list[str]:
        return list(connection.execute(text("SELECT action_id FROM events")).scalars())

    async def play(one: Side, other: Side) -> None:
        await one.store.write(arm_all)  # before the loops begin: both know of all
        loops = [
            TimerLoop(
                side.store, clock, secrets.randbits, side.wakeups, {kind: fire},
                shared=True, on_failure=lambda which, error: pytest.fail(which),
            )
            for side in (one, other)
        ]  # fmt: skip
        tasks = [asyncio.create_task(loop.run()) for loop in loops]
        async with asyncio.timeout(SOON_S):
            while len(found := await one.store.read(fired)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # the database is not an event
        await asyncio.sleep(0.5)
        found = await one.store.read(fired)
        assert sorted(found) == sorted({f"t{number}" for number in range(count)})
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    two(postgres, play)
