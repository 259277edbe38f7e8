"""The global stream on PostgreSQL: committed out of order, read in order, nothing skipped."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.occasion import Occasion
from agent.core.store.horizon import settled_up_to
from agent.core.store.postgres import PostgresDatabase
from agent.core.store.schema import events
from tests.fakes.postgres import Postgres

pytestmark = pytest.mark.timeout(60)
Openings = Callable[[bool], Connection]


@pytest.fixture
def opening(postgres: Postgres) -> Iterator[Openings]:
    """Connections as the store has them, for writing or for reading."""
    database = PostgresDatabase(postgres.database())
    engines: dict[bool, Engine] = {
        writes: database.open_engine(writes=writes) for writes in (True, False)
    }
    opened: list[Connection] = []

    def open_one(writes: bool) -> Connection:
        opened.append(engines[writes].connect())
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def add_event(connection: Connection, name: str) -> None:
    occasion = Occasion(datetime.now(UTC), secrets.randbits)
    journal.append(connection, occasion, "n", name)


def read(connection: Connection, after: int = 0) -> list[str]:
    """As every reader does: first how far, then what."""
    with connection.begin():
        settled = settled_up_to(connection)
        query = select(events.c.type).where(events.c.id > after, events.c.id <= settled)
        return list(connection.execute(query.order_by(events.c.id)).scalars())


def test_what_is_behind_a_running_writer_is_not_read(opening: Openings) -> None:
    slow, quick, reader = opening(True), opening(True), opening(False)
    before = slow.begin()
    add_event(slow, "first")
    with quick.begin():
        add_event(quick, "second")
    with reader.begin():
        seen = reader.execute(select(events.c.type)).scalars().all()
    assert seen == ["second"], "it is there: who reads to the end would skip the first for ever"
    assert read(reader) == []
    before.commit()
    assert read(reader) == ["first", "second"]


def test_a_writer_that_gives_up_holds_nobody_up(opening: Openings) -> None:
    slow, quick, reader = opening(True), opening(True), opening(False)
    before = slow.begin()
    add_event(slow, "first")
    with quick.begin():
        add_event(quick, "second")
    before.rollback()
    assert read(reader) == ["second"]


def test_a_writer_without_events_holds_nobody_up(opening: Openings) -> None:
    idle, quick, reader = opening(True), opening(True), opening(False)
    before = idle.begin()
    idle.execute(text("SELECT 1"))
    with quick.begin():
        add_event(quick, "one")
    assert read(reader) == ["one"]
    before.commit()


def test_a_mark_goes_with_its_savepoint_and_comes_again(opening: Openings) -> None:
    slow, quick, reader = opening(True), opening(True), opening(False)
    before = slow.begin()
    inner = slow.begin_nested()
    add_event(slow, "given up")
    inner.rollback()
    add_event(slow, "first")
    with quick.begin():
        add_event(quick, "second")
    assert read(reader) == []
    before.commit()
    assert read(reader) == ["first", "second"]


def test_a_reader_that_has_begun_begins_anew(opening: Openings) -> None:
    """Its snapshot is older than what it is told is settled."""
    writer, reader = opening(True), opening(False)
    with reader.begin():
        assert reader.execute(select(events.c.id)).all() == []
        with writer.begin():
            add_event(writer, "meanwhile")
        assert reader.execute(select(events.c.id)).all() == [], "one snapshot for one read"
        settled = settled_up_to(reader)
        found = reader.execute(select(events.c.type).where(events.c.id <= settled)).scalars().all()
        assert found == ["meanwhile"]


def test_a_write_reads_what_is_settled_too(opening: Openings) -> None:
    slow, quick, other = opening(True), opening(True), opening(True)
    with quick.begin():
        add_event(quick, "zeroth")
    before = slow.begin()
    add_event(slow, "first")
    with quick.begin():
        add_event(quick, "second")
    assert read(other) == ["zeroth"]
    before.commit()
    assert read(other) == ["zeroth", "first", "second"]


@pytest.mark.parametrize("last", [2**31 - 2, 2**31 - 1, 2**32 - 2, 2**32 - 1, 5 * 2**32 + 7])
def test_numbers_may_be_larger_than_a_marks_key(opening: Openings, last: int) -> None:
    slow, quick, reader = opening(True), opening(True), opening(False)
    with quick.begin():
        quick.execute(text(f"SELECT setval('events_id_seq', {last})"))
    before = slow.begin()
    add_event(slow, "first")
    with quick.begin():
        add_event(quick, "second")
        add_event(quick, "third")
    with reader.begin():
        assert settled_up_to(reader) == last
    assert read(reader) == []
    before.commit()
    with reader.begin():
        assert settled_up_to(reader) == last + 3
    assert read(reader) == ["first", "second", "third"]


def test_the_sequence_hands_out_one_number_at_a_time(opening: Openings) -> None:
    """A cache of them per connection would give low numbers to late writers, above no mark."""
    reader = opening(False)
    query = "SELECT cache_size FROM pg_sequences WHERE sequencename = 'events_id_seq'"
    with reader.begin():
        assert reader.execute(text(query)).scalar() == 1


def test_many_writers_and_a_reader_that_follows(opening: Openings) -> None:
    """Everything that was committed is read exactly once, in order, while it happens."""
    until = time.monotonic() + 2.0
    committed: list[list[str]] = []

    def write(seed: int, connection: Connection) -> None:
        dice = random.Random(seed)
        mine: list[str] = []
        while time.monotonic() < until:
            names = [secrets.token_hex(6) for _ in range(dice.randint(1, 4))]
            transaction = connection.begin()
            for name in names:
                add_event(connection, name)
                time.sleep(dice.random() * 0.003)
            if dice.random() < 0.2:
                transaction.rollback()
            else:
                transaction.commit()
                mine += names
        committed.append(mine)

    threads = [
        threading.Thread(target=write, args=(seed, opening(True)), daemon=True) for seed in range(6)
    ]
    for thread in threads:
        thread.start()
    reader, position, found = opening(False), 0, []
    is_over = False
    while not is_over:
        is_over = not any(thread.is_alive() for thread in threads)
        with reader.begin():
            settled = settled_up_to(reader)
            query = select(events.c.id, events.c.type)
            query = query.where(events.c.id > position, events.c.id <= settled)
            rows = reader.execute(query.order_by(events.c.id)).all()
        found += [row.type for row in rows]
        position = rows[-1].id if rows else position
    assert len(found) == len(set(found)) > 100
    assert set(found) == {name for names in committed for name in names}
