"""Webhooks: in order, at least once, put off and given up; one courier at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Connection

from agent.core import retention
from agent.core.events import hub as hub_module
from agent.core.events import webhooks as webhook_rows
from agent.core.events.outgoing import Outgoing
from agent.core.events.patience import Patience
from agent.core.keep import Keep
from agent.core.store.inline import InlineStore
from agent.core.store.migrate import migrate
from agent.core.store.port import Store
from agent.core.store.schema import webhooks
from agent.core.store.threaded import ThreadedStore
from agent.core.wakeups import Wakeups
from agent.domain.errors import InvalidDocument, NotFound
from agent.infra.clock import SystemClock
from agent.infra.logs import get_log
from tests.fakes.noted_events import GONE, NO, YES, ToldReceiver, note, occasion, until

pytestmark = pytest.mark.timeout(30)


class Scene:
    """A core's outgoing half over a store, with a receiver that is told what to answer."""

    def __init__(
        self,
        *outcomes: Any,
        store: Store | None = None,
        attempts_max: int = 3,
        retry_s: float = 0.02,
    ) -> None:
        self.store = store or InlineStore.in_memory()
        self.wakeups = Wakeups()
        self.receiver = ToldReceiver(*outcomes)
        self.out = Outgoing(
            self.store,
            SystemClock(),
            secrets.randbits,
            self.wakeups,
            log=get_log(),
            patience=Patience(attempts_max=attempts_max, retry_s=retry_s),
            receiver=self.receiver,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.out.courier.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def hook(self, **given: Any) -> dict[str, Any]:
        document = {"url": "https://example.org/in", **given}
        return await self.out.registry.create(document, "admin")

    async def note(self, *kinds: str, **more: Any) -> None:
        await note(self.store, self.wakeups, *kinds, **more)

    async def shown(self, hook: dict[str, Any]) -> dict[str, Any]:
        return await self.out.registry.get(hook["id"])


def numbers(scene: Scene) -> list[int]:
    return [message["data"]["id"] for _, message in scene.receiver.got]


def arrived(*scenes: Scene) -> int:
    """How many different events; one that was not written down in time comes once more."""
    return len({number for scene in scenes for number in numbers(scene)})


def test_events_arrive_in_order_and_signed() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.note("before")
        hook = await scene.hook(filter={"type": "a"})
        async with scene.running():
            await scene.note("a", "b", "a")
            await until(lambda: numbers(scene) == [2, 4])
            await scene.note("b", "a")
            await until(lambda: numbers(scene) == [2, 4, 6])
        headers, message = scene.receiver.got[0]
        assert headers["webhook-id"] == f"msg_{hook['id']}_2"
        assert headers["webhook-signature"].startswith("v1,")
        assert (message["type"], message["data"]["node"]) == ("a", "n1")
        shown = await scene.shown(hook)
        assert (shown["cursor"], shown["failures"], shown["attempts"]) == (6, 0, 0)
        assert "secret" not in shown

    asyncio.run(play())


def test_more_at_once_than_its_queue_holds_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "QUEUE_EVENTS_MAX", 10)

    async def play() -> None:
        scene = Scene()
        await scene.hook()
        async with scene.running():
            await scene.note("a")
            await until(lambda: numbers(scene) == [1])
            await scene.note(*["a"] * 30)
            await until(lambda: len(numbers(scene)) >= 31)
        assert numbers(scene) == list(range(1, 32))

    asyncio.run(play())


def test_a_failure_is_tried_again_and_nothing_overtakes_it() -> None:
    async def play() -> None:
        scene = Scene(NO, NO, YES)
        hook = await scene.hook()
        async with scene.running():
            await scene.note("a", "b")
            await until(lambda: len(scene.receiver.got) == 4)
            assert numbers(scene) == [1, 1, 1, 2]
            ids = [headers["webhook-id"] for headers, _ in scene.receiver.got]
            assert len(set(ids)) == 2, "a repetition is known by its id"
        assert (await scene.shown(hook))["last_error"] is None

    asyncio.run(play())


def test_what_never_arrives_goes_to_the_dead_letters_and_the_next_is_sent() -> None:
    async def play() -> None:
        scene = Scene(NO, NO, NO, YES, NO, YES)
        hook = await scene.hook()
        async with scene.running():
            await scene.note("a", "b")
            await until(lambda: numbers(scene) == [1, 1, 1, 2])
        registry = scene.out.registry
        (letter,) = (await registry.failures(hook["id"], 0, 10))["failures"]
        assert (letter["event_id"], letter["attempts"]) == (1, 3)
        assert letter["message"]["type"] == "a"
        assert scene.out.delivery.tally.given_up == 1
        assert (await registry.retry(hook["id"], letter["row"], "admin"))["delivered"] is False
        (letter,) = (await registry.failures(hook["id"], 0, 10))["failures"]
        assert letter["attempts"] == 4
        assert (await registry.retry(hook["id"], letter["row"], "admin"))["delivered"] is True
        assert (await registry.failures(hook["id"], 0, 10))["failures"] == []
        with pytest.raises(NotFound):
            await registry.drop(hook["id"], letter["row"], "admin")

    asyncio.run(play())


def test_the_dead_letters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_rows, "FAILURES_MAX", 2)

    async def play() -> None:
        scene = Scene(*[NO] * 4, attempts_max=1)
        hook = await scene.hook()
        async with scene.running():
            await scene.note("a", "b", "c", "d", "e")
            await until(lambda: numbers(scene) == [1, 2, 3, 4, 5])
        kept = (await scene.out.registry.failures(hook["id"], 0, 10))["failures"]
        assert [letter["event_id"] for letter in kept] == [3, 4]

    asyncio.run(play())


def test_gone_disables_it_and_is_said() -> None:
    async def play() -> None:
        scene = Scene(GONE)
        hook = await scene.hook()
        async with scene.running():
            await scene.note("a", "b")
            await until(lambda: len(scene.receiver.got) == 1)
            await asyncio.sleep(0.05)
            assert len(scene.receiver.got) == 1
            shown = await scene.shown(hook)
            assert (shown["enabled"], shown["cursor"]) == (False, 0)
            page = await scene.out.stream.page(0, 10)
            last = page["events"][-1]
            assert (last["type"], last["node"], last["webhook_id"]) == (
                "webhook_disabled", None, hook["id"],
            )  # fmt: skip
            await scene.out.registry.enable(hook["id"], "admin", enabled=True)
            await until(lambda: numbers(scene) == [1, 1, 2, 3])

    asyncio.run(play())


def test_disabling_and_deleting_stop_at_once() -> None:
    async def play() -> None:
        scene = Scene()
        scene.receiver.hold = asyncio.Event()
        one, two = await scene.hook(), await scene.hook()
        async with scene.running():
            await scene.note("a")
            await until(lambda: len(scene.receiver.got) == 2)
            await scene.out.registry.enable(one["id"], "admin", enabled=False)
            await scene.out.registry.delete(two["id"], "admin")
            await until(lambda: scene.out.hub.subscribers == 0)
            with pytest.raises(NotFound):
                await scene.shown(two)
            assert (await scene.shown(one))["cursor"] == 0, "it was not delivered"

    asyncio.run(play())


def test_killed_in_the_middle_it_is_sent_again() -> None:
    async def play() -> None:
        scene = Scene()
        scene.receiver.hold = asyncio.Event()
        await scene.hook()
        async with scene.running():
            await scene.note("a")
            await until(lambda: len(scene.receiver.got) == 1)
        again = Scene(store=scene.store)
        async with again.running():
            await until(lambda: numbers(again) == [1])

    asyncio.run(play())


def test_what_nobody_wants_moves_the_cursor_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.core.events.delivery.UNWANTED_MAX", 5)

    async def play() -> None:
        scene = Scene()
        hook = await scene.hook(filter={"type": "never"})
        await scene.note(*["a"] * 12)
        async with scene.running():
            await until(lambda: scene.out.hub.subscribers == 1)
            await asyncio.sleep(0.05)
        assert (await scene.shown(hook))["cursor"] == 12

    asyncio.run(play())


def test_what_retention_took_is_said_as_a_range() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.note(*["a"] * 10)
        hook = await scene.hook(after=0)

        def prune(connection: Connection) -> None:
            at = occasion().now + timedelta(days=3)
            retention.prune_events(connection, at, Keep(days=1))

        await scene.store.write(prune)
        async with scene.running():
            await scene.note("a")
            await until(lambda: len(scene.receiver.got) == 2)
        assert numbers(scene) == [11, 12]
        gap = scene.receiver.got[1][1]["data"]
        assert (gap["type"], gap["first"], gap["last"]) == ("webhook_gap", 1, 10)
        assert gap["webhook_id"] == hook["id"]

    asyncio.run(play())


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://a/b", "https://", "https://user:pw@a/", "https://a/#f", "https://a b/",
     "https://a/" + "x" * 2048, "http://a:0/", "https://\u00e4/", None, 3],
)  # fmt: skip
def test_a_url_is_checked(url: Any) -> None:
    async def play() -> None:
        with pytest.raises(InvalidDocument):
            await Scene().hook(url=url)

    asyncio.run(play())


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").database())
    migrate(f"sqlite:///{tmp_path / 'core.db'}")
    return f"sqlite:///{tmp_path / 'core.db'}"


def test_on_a_real_database(database: str) -> None:
    async def play() -> None:
        store = ThreadedStore(database)
        store.open()
        scene = Scene(NO, store=store)
        await scene.hook(filter={"selector": "node=n1", "kind": "none"})
        await scene.hook(filter={"type": "a"})
        async with scene.running():
            await scene.note("a", "b", "a")
            await until(lambda: len(scene.receiver.got) == 3)
        assert numbers(scene)[0] == numbers(scene)[1] < numbers(scene)[2]
        await store.close()

    asyncio.run(play())


def test_of_two_couriers_one_delivers_and_the_other_takes_over(
    request: pytest.FixtureRequest,
) -> None:
    """On PostgreSQL, where there are several: the lease decides, and runs out."""
    url = str(request.getfixturevalue("postgres").database())

    async def play() -> None:
        stores = [ThreadedStore(url), ThreadedStore(url)]
        for store in stores:
            store.open()
        one, two = (Scene(store=store) for store in stores)
        hook = await one.hook()
        async with two.running():
            async with one.running():
                await until(lambda: one.out.hub.subscribers + two.out.hub.subscribers == 1)
                await one.note(*["a"] * 20)
                two.wakeups.hear([("*", "")])
                await until(lambda: arrived(one, two) == 20)
                owner = one if one.receiver.got else two
                assert arrived(owner) == 20
            # It went down in order: the other need not wait for the lease to run out.
            two.wakeups.hear([("*", "")])
            await two.note("a")
            await until(lambda: arrived(one, two) == 21)
        await one.store.write(
            lambda c: c.execute(
                update(webhooks)
                .where(webhooks.c.id == hook["id"])
                .values(leased_by="killed", leased_until=SystemClock().now() + timedelta(seconds=1))
            )
        )
        async with two.running():  # a killed one holds it until its lease runs out, and no longer
            await two.note("a")
            await asyncio.sleep(0.3)
            assert arrived(one, two) == 21
            await until(lambda: arrived(one, two) == 22)
        for store in stores:
            await store.close()

    asyncio.run(play())
