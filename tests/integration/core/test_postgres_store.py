"""What only PostgreSQL does to a store: other writers, lost connections, restarts, time-outs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from agent.core.store import postgres as postgres_module
from agent.core.store.database import database_of
from agent.core.store.port import StoreUnavailable
from agent.core.store.postgres import WRITERS, PostgresDatabase
from agent.core.store.threaded import ThreadedStore
from agent.domain.errors import InvalidDocument, Refused
from tests.fakes.postgres import Postgres

pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def opened(url: str, told: list[str | None] | None = None) -> AsyncIterator[ThreadedStore]:
    store = ThreadedStore(url, None if told is None else told.append)
    store.open()
    try:
        yield store
    finally:
        await store.close()


def put(key: str, value: str = "x") -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        query = "INSERT INTO meta VALUES (:k, :v) ON CONFLICT (key) DO UPDATE SET value = :v"
        connection.execute(text(query), {"k": key, "v": value})

    return work


def keys(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT key FROM meta")).scalars())


def one(connection: Connection) -> int:
    found: int = connection.execute(text("SELECT 1")).scalar_one()
    return found


def play(whole: Coroutine[Any, Any, None]) -> None:
    asyncio.run(whole)


def test_writers_that_wait_in_a_circle_are_run_again(postgres: Postgres) -> None:
    async def whole() -> None:
        async with opened(postgres.database()) as store:
            await store.write(put("a"))
            await store.write(put("b"))
            meeting = threading.Barrier(2, timeout=20)
            runs: list[str] = []

            def crossing(first: str, second: str) -> Callable[[Connection], None]:
                def work(connection: Connection) -> None:
                    runs.append(first)
                    put(first, f"by {first}")(connection)
                    if len(runs) <= 2:
                        meeting.wait()  # both hold their first: now each wants the other's
                    put(second, f"by {first}")(connection)

                return work

            await asyncio.gather(store.write(crossing("a", "b")), store.write(crossing("b", "a")))
            assert len(runs) > 2, "one of them once more, or again"
            rows = await store.read(
                lambda c: set(c.execute(text("SELECT value FROM meta")).scalars())
            )
            assert len(rows) == 1, "each of them whole: the later one wrote both"

    play(whole())


def test_a_row_that_another_has_just_made_is_met_again(postgres: Postgres) -> None:
    """Whoever looks first and then inserts meets the row in the second run."""
    meeting = threading.Barrier(2, timeout=20)
    looked: list[bool] = []

    def make_once(connection: Connection) -> str:
        found = connection.execute(text("SELECT 1 FROM meta WHERE key = 'k'")).first()
        looked.append(found is not None)
        if len(looked) <= 2:
            meeting.wait()
        if found is not None:
            return "there"
        connection.execute(text("INSERT INTO meta VALUES ('k', 'v')"))
        return "made"

    async def whole() -> None:
        async with opened(postgres.database()) as store:
            both = await asyncio.gather(store.write(make_once), store.write(make_once))
            assert sorted(both) == ["made", "there"]

    play(whole())


def test_what_no_column_holds_is_the_callers_fault(postgres: Postgres) -> None:
    def number(connection: Connection) -> None:
        connection.execute(text("UPDATE agents SET head_seq = :n"), {"n": 2**70})

    async def whole() -> None:
        async with opened(postgres.database()) as store:
            for work in (put("a\0b"), put("\ud800"), number):
                with pytest.raises(Refused) as caught:
                    await store.write(work)
                assert caught.value.code == "bad_request"
            with pytest.raises(Refused):
                await store.read(lambda c: c.execute(text("SELECT :t"), {"t": "\0"}).all())

    play(whole())


def test_a_read_is_one_snapshot_and_writes_nothing(postgres: Postgres) -> None:
    begun, written = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> tuple[set[str], set[str]]:
        first = keys(connection)
        begun.set()
        assert written.wait(20)
        return first, keys(connection)

    async def whole() -> None:
        async with opened(postgres.database()) as store:
            reading = asyncio.create_task(store.read(look_twice))
            await asyncio.to_thread(begun.wait, 20)
            await store.write(put("new"))
            written.set()
            assert await reading == (set(), set())
            with pytest.raises(StoreUnavailable, match="read-only"):
                await store.read(put("never"))
            assert await store.read(keys) == {"new"}

    play(whole())


def test_lost_connections_are_opened_anew_without_anybody_noticing(postgres: Postgres) -> None:
    async def whole() -> None:
        told: list[str | None] = []
        async with opened(postgres.database(), told) as store:
            cut = text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await store.write(lambda c: c.execute(cut).all())
            for number in range(3 * WRITERS):
                await store.write(put(f"k{number}"))
                assert len(await store.read(keys)) == number + 1
            assert told == []

    play(whole())


def test_a_connection_lost_in_the_middle_of_work_repeats_it(postgres: Postgres) -> None:
    async def whole() -> None:
        runs: list[int] = []

        def work(connection: Connection) -> None:
            runs.append(1)
            put("half")(connection)
            if len(runs) == 1:
                connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        async with opened(postgres.database()) as store:
            await store.write(work)
            assert len(runs) == 2
            assert await store.read(keys) == {"half"}

    play(whole())


def test_a_connection_lost_during_the_commit_is_not_repeated(postgres: Postgres) -> None:
    """Nobody knows then whether it happened."""
    runs: list[int] = []

    def work(connection: Connection) -> None:
        runs.append(1)
        put("perhaps")(connection)

    async def whole() -> None:
        async with opened(postgres.database()) as store:
            await store.write(_end_at_commit)
            with pytest.raises(StoreUnavailable, match="during the commit"):
                await store.write(work)
            assert len(runs) == 1

    play(whole())


def _end_at_commit(connection: Connection) -> None:
    connection.execute(
        text(
            "CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
    )
    connection.execute(
        text(
            "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON meta DEFERRABLE "
            "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang_up()"
        )
    )


def test_a_restart_of_the_server_is_survived() -> None:
    server = Postgres().start()

    async def whole() -> None:
        told: list[str | None] = []
        async with opened(server.database(), told) as store:
            await store.write(put("before"))
            await asyncio.to_thread(server.stop)
            for _ in range(2 * WRITERS):
                with pytest.raises(StoreUnavailable):
                    await store.write(put("meanwhile"))
                with pytest.raises(StoreUnavailable):
                    await store.read(keys)
            await asyncio.to_thread(server.start)
            for _ in range(2 * WRITERS):
                assert await store.read(one) == 1
                await store.write(put("after"))
            assert await store.read(keys) == {"before", "after"}
            assert [problem is None for problem in told] == [False, True], "once each"

    try:
        play(whole())
    finally:
        server.clean_up()


def test_nothing_waits_for_ever(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "LOCK_MS_MAX", 150)
    monkeypatch.setattr(postgres_module, "STATEMENT_MS_MAX", 300)
    url = postgres.database()

    async def whole() -> None:
        async with opened(url) as store:
            await store.write(put("held"))
            with database_of(url).open_engine(writes=True).connect() as other, other.begin():
                put("held")(other)
                with pytest.raises(StoreUnavailable, match="lock timeout"):
                    await store.write(put("held"))
            with pytest.raises(StoreUnavailable, match="statement timeout"):
                await store.read(lambda c: c.execute(text("SELECT pg_sleep(30)")).all())
            await store.write(put("held"))

    play(whole())


def test_transactions_do_not_queue_for_one_another(postgres: Postgres) -> None:
    meeting = threading.Barrier(WRITERS, timeout=20)

    async def whole() -> None:
        async with opened(postgres.database()) as store:
            await asyncio.gather(*(store.write(lambda c: meeting.wait()) for _ in range(WRITERS)))

    play(whole())


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_url_is_shown_without_its_secrets(scheme: str, environment: None) -> None:
    database = database_of(
        f"{scheme}://cored:s3cret@db.example/core?password=s3cret&sslmode=require"
    )
    assert isinstance(database, PostgresDatabase)
    assert "s3cret" not in database.shown
    assert "sslmode=require" in database.shown
    assert database.file is None
    assert database.plain_connection()["password"] == "s3cret"


def test_what_the_url_says_wins() -> None:
    database = database_of("postgresql://h/core?application_name=mine&connect_timeout=2")
    assert isinstance(database, PostgresDatabase)
    assert "application_name" not in database.connecting()
    assert database.plain_connection()["connect_timeout"] == "2"


def test_several_hosts_may_be_named() -> None:
    database = database_of("postgresql:///core?host=db1:5433&host=db2")
    assert isinstance(database, PostgresDatabase)
    assert database.plain_connection()["host"] == "db1,db2"
    assert database.plain_connection()["port"] == "5433,"


@pytest.mark.parametrize(
    "url",
    ["postgresql://host", "postgresql://host:port/core", "postgres:", "mysql://h/x", "core.db",
     "sqlite://", "sqlite:///:memory:", "postgresql+psycopg2://h/core"],
)  # fmt: skip
def test_what_is_no_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidDocument, match="is not a database"):
        database_of(url)
