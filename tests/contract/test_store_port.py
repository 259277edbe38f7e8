"""One suite for `agent.node.ports.Store`: the daemon's threaded one, and the simulation's inline.

Results are told after the commit, a failing operation takes nobody with it, and a disk that is full
is `StoreUnavailable` with nothing changed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.node.ports import Store
from agent.node.store.damage import StoreUnavailable
from agent.node.store.threaded import ThreadedStore
from tests.fakes.inline_node_store import InlineNodeStore, open_database

pytestmark = pytest.mark.timeout(30)

INSERT = "INSERT INTO meta VALUES (?, ?)"


class ClosableStore(Store, Protocol):
    """What both have besides the port."""

    async def close(self) -> None: ...


Scenario = Callable[[ClosableStore], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture(params=["threaded", "inline"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Run a scenario on a fresh store, and close it."""

    async def run(scenario: Scenario) -> None:
        threaded = request.param == "threaded"
        store: ClosableStore = (
            ThreadedStore(tmp_path / "agent.db") if threaded else InlineNodeStore(open_database())
        )
        try:
            await scenario(store)
        finally:
            await store.close()

    return lambda scenario: asyncio.run(run(scenario))


def put(key: str) -> Callable[[sqlite3.Connection], None]:
    def operation(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, (key, "1"))

    return operation


def keys(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT key FROM meta")}


def test_what_was_told_is_committed(play: Play) -> None:
    async def scenario(store: ClosableStore) -> None:
        assert await store.write(lambda c: c.execute(INSERT, ("a", "1")).rowcount) == 1
        assert await store.read(keys) == {"a"}

    play(scenario)


def test_many_at_once_all_commit_in_order(play: Play) -> None:
    async def scenario(store: ClosableStore) -> None:
        order: list[int] = []

        def note(number: int) -> Callable[[sqlite3.Connection], int]:
            def operation(connection: sqlite3.Connection) -> int:
                order.append(number)
                connection.execute(INSERT, (f"k{number}", "1"))
                return number

            return operation

        told = await asyncio.gather(*(store.write(note(number)) for number in range(600)))
        assert told == list(range(600)) == order
        assert len(await store.read(keys)) == 600

    play(scenario)


def test_a_failing_operation_rolls_back_alone(play: Play) -> None:
    async def scenario(store: ClosableStore) -> None:
        def fails(connection: sqlite3.Connection) -> None:
            connection.execute(INSERT, ("half", "1"))
            raise ZeroDivisionError

        before, failed, after = await asyncio.gather(
            store.write(put("before")), store.write(fails), store.write(put("after")),
            return_exceptions=True,
        )  # fmt: skip
        assert before is None
        assert after is None
        assert isinstance(failed, ZeroDivisionError)
        assert await store.read(keys) == {"before", "after"}

    play(scenario)


def test_an_integrity_error_is_its_own_callers(play: Play) -> None:
    async def scenario(store: ClosableStore) -> None:
        await store.write(put("a"))
        again, other = await asyncio.gather(
            store.write(put("a")), store.write(put("b")), return_exceptions=True
        )
        assert isinstance(again, sqlite3.IntegrityError)
        assert other is None
        assert await store.read(keys) == {"a", "b"}

    play(scenario)


def test_a_full_disk_is_unavailable_and_changes_nothing(play: Play) -> None:
    async def scenario(store: ClosableStore) -> None:
        await store.write(put("small"))

        def set_limit(connection: sqlite3.Connection, pages: int) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages}")

        def grow(connection: sqlite3.Connection) -> None:
            connection.execute(INSERT, ("big", "x" * 4_000_000))

        await store.write(lambda c: set_limit(c, 64))
        with pytest.raises(StoreUnavailable):
            await store.write(grow)
        assert await store.read(keys) == {"small"}
        await store.write(lambda c: set_limit(c, 1_000_000))
        await store.write(grow)
        assert await store.read(keys) == {"small", "big"}

    play(scenario)


def test_a_reader_that_fails_harms_nobody(play: Play) -> None:
    async def scenario(store: ClosableStore) -> None:
        with pytest.raises(sqlite3.OperationalError):
            await store.read(lambda c: c.execute("SELECT * FROM nowhere").fetchall())
        await store.write(put("a"))
        assert await store.read(keys) == {"a"}

    play(scenario)


def test_rows_have_names(play: Play) -> None:
    async def scenario(store: ClosableStore) -> None:
        await store.write(put("a"))
        row: Any = await store.read(lambda c: c.execute("SELECT * FROM meta").fetchone())
        assert (row["key"], row["value"]) == ("a", "1")

    play(scenario)


@pytest.mark.parametrize("kind", ["threaded", "inline"])
def test_closing_finishes_what_was_asked_and_then_refuses(kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        threaded = kind == "threaded"
        store: ClosableStore = (
            ThreadedStore(tmp_path / "agent.db") if threaded else InlineNodeStore(open_database())
        )
        waiting = [asyncio.ensure_future(store.write(put(f"k{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*waiting) == [None] * 20
        with pytest.raises(StoreUnavailable):
            await store.write(put("late"))

    asyncio.run(run())


def test_one_commit_for_what_waits(tmp_path: Path) -> None:
    """Group commit: a burst needs far fewer transactions than operations."""

    async def run() -> int:
        store = ThreadedStore(tmp_path / "agent.db")
        commits = 0

        def count(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        await store.write(lambda c: c.set_trace_callback(count))
        await asyncio.gather(*(store.write(put(f"k{number}")) for number in range(500)))
        await store.write(lambda c: c.set_trace_callback(None))
        await store.close()
        return commits

    assert asyncio.run(run()) < 100
