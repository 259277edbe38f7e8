"""What every store promises, all of them; and what group commit must not mix up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from agent.core.store.inline import InlineStore
from agent.core.store.migrate import migrate
from agent.core.store.port import Store, StoreUnavailable
from agent.core.store.threaded import ThreadedStore

Opening = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["inline", "threaded", "postgres"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    @asynccontextmanager
    async def inline() -> AsyncIterator[Store]:
        store = InlineStore.in_memory()
        yield store
        await store.close()

    @asynccontextmanager
    async def threaded() -> AsyncIterator[Store]:
        if request.param == "postgres":
            url = request.getfixturevalue("postgres").database()
        else:
            url = f"sqlite:///{tmp_path / 'core.db'}"
            migrate(url)
        store = ThreadedStore(url)
        store.open()
        yield store
        await store.close()

    return inline if request.param == "inline" else threaded


def add(name: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(
            text("INSERT INTO meta (key, value) VALUES (:n, 'x')"),
            {"n": name},
        )
        return name

    return work


def names(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT key FROM meta")).scalars())


def test_what_is_written_can_be_read(opening: Opening) -> None:
    async def play() -> None:
        async with opening() as store:
            assert await store.write(add("a")) == "a"
            assert await store.read(names) == {"a"}

    asyncio.run(play())


def test_one_that_fails_takes_nobody_with_it(opening: Opening) -> None:
    def fail_after(name: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            add(name)(connection)
            raise LookupError(name)

        return work

    async def play() -> None:
        async with opening() as store:
            results = await asyncio.gather(
                *(
                    store.write(fail_after(f"bad{n}") if n % 3 == 0 else add(f"good{n}"))
                    for n in range(60)
                ),
                return_exceptions=True,
            )
            for n, result in enumerate(results):
                assert isinstance(result, LookupError) if n % 3 == 0 else result == f"good{n}"
            assert await store.read(names) == {f"good{n}" for n in range(60) if n % 3}

    asyncio.run(play())


def test_a_broken_rule_of_the_database_is_the_works_own_fault(opening: Opening) -> None:
    async def play() -> None:
        async with opening() as store:
            results = await asyncio.gather(
                *(store.write(add(name)) for name in "aabbc"), return_exceptions=True
            )
            failed = [isinstance(result, IntegrityError) for result in results]
            assert (sum(failed[:2]), sum(failed[2:4]), failed[4]) == (1, 1, False)
            assert await store.read(names) == {"a", "b", "c"}

    asyncio.run(play())


def test_many_writes_share_a_commit(tmp_path: Path) -> None:
    async def play() -> int:
        url = f"sqlite:///{tmp_path / 'core.db'}"
        migrate(url)
        store = ThreadedStore(url)
        store.open()
        commits = 0

        def count(connection: Connection) -> None:
            nonlocal commits
            commits += 1

        from sqlalchemy import event

        event.listen(store._workers[0]._engine, "commit", count)
        await asyncio.gather(*(store.write(add(f"n{n}")) for n in range(400)))
        await store.close()
        return commits

    assert asyncio.run(play()) < 40


def test_a_full_disk_refuses_everybody_and_heals(tmp_path: Path) -> None:
    async def play() -> None:
        url = f"sqlite:///{tmp_path / 'core.db'}"
        migrate(url)
        told: list[str | None] = []
        store = ThreadedStore(url, told.append)
        store.open()
        pages = await store.write(lambda c: c.execute(text("PRAGMA page_count")).scalar_one())
        await store.write(lambda c: c.execute(text(f"PRAGMA max_page_count={pages + 2}")).scalar())
        results = await asyncio.gather(
            *(store.write(add(f"{n:06}" + "x" * 2000)) for n in range(40)), return_exceptions=True
        )
        assert any(isinstance(result, StoreUnavailable) for result in results)
        kept = {result for result in results if isinstance(result, str)}
        assert await store.read(names) == kept, "acknowledged means there, refused means not"
        await store.write(lambda c: c.execute(text("PRAGMA max_page_count=100000")).scalar())
        await store.write(add("later"))
        assert "later" in await store.read(names)
        assert [problem is None for problem in told] == [False, True], "once each"
        await store.close()

    asyncio.run(play())


def test_it_is_durable_and_nobody_else_writes(tmp_path: Path) -> None:
    async def play() -> None:
        url = f"sqlite:///{tmp_path / 'core.db'}"
        migrate(url)
        store = ThreadedStore(url)
        store.open()

        def pragma(name: str) -> Callable[[Connection], object]:
            return lambda c: c.execute(text(f"PRAGMA {name}")).scalar()

        assert await store.write(pragma("journal_mode")) == "wal"
        assert await store.write(pragma("synchronous")) == 2
        assert await store.read(pragma("query_only")) == 1
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.write(add("late"))

    asyncio.run(play())
    with sqlite3.connect(tmp_path / "core.db") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_the_database_says_of_an_error_tells_no_value(opening: Opening) -> None:
    """It is logged with its traceback, and values are payloads and digests."""

    async def play() -> None:
        async with opening() as store:
            await store.write(add("a-secret"))
            with pytest.raises(IntegrityError) as caught:
                await store.write(add("a-secret"))
            assert "a-secret" not in str(caught.value)

    asyncio.run(play())
