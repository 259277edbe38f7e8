"""The audit log: every change of it shows, wherever it was made, and what was noted is compared."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.people import chain
from agent.core.people.audit import record, seal
from agent.core.people.chain import Place, Wanted, parse_place
from agent.core.store.database import database_of
from agent.core.store.schema import audit, metadata
from agent.domain.errors import InvalidDocument
from agent.domain.instants import to_us
from tests.fakes.postgres import Postgres

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINES = 9
WRITERS = 6
ALL = 1000


def _log(connection: Connection) -> None:
    for number in range(LINES):
        occasion = Occasion(START + timedelta(seconds=number), secrets.randbits)
        who, what = ("anna", "ben")[number % 2], ("dispatch", "cancel", "nudge")[number % 3]
        record(connection, occasion, who, what, f"a{number}", {"number": number, "text": "ä\0"})


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path_factory.mktemp('audit') / 'core.db'}"
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database()
    made = database_of(url).open_engine(writes=True)
    with made.begin() as connection:
        metadata.create_all(connection)
    yield made
    made.dispose()


@pytest.fixture
def log(engine: Engine) -> Iterator[Connection]:
    """Nine lines, and whatever a test does to them, taken back in the end."""
    with engine.connect() as connection:
        change = connection.begin()
        _log(connection)
        yield connection
        change.rollback()


def rows(connection: Connection) -> list[Any]:
    return list(connection.execute(select(audit).order_by(audit.c.row)).all())


def verified(connection: Connection, noted: Place | None = None) -> dict[str, Any]:
    """As `corectl audit verify` does: part by part, and what was noted at last."""
    place, checked = Place(), 0
    while True:
        found = chain.verify(connection, place, 4)
        checked += found["checked"]
        if found["next"] is None:
            break
        place = parse_place(found["next"])
    if found["ok"] and noted is not None:
        found = chain.verify(connection, noted, 1)
    return {**found, "checked": checked}


def head_of(connection: Connection) -> Place:
    newest = rows(connection)[-1]
    return Place(newest.row, newest.hash)


def test_an_untouched_log_holds(log: Connection) -> None:
    found = verified(log, head_of(log))
    assert (found["ok"], found["checked"], found["broken"]) == (True, LINES, None)
    assert found["head"] == str(head_of(log))


def test_an_empty_log_holds(log: Connection) -> None:
    log.execute(delete(audit))
    found = verified(log)
    assert (found["ok"], found["checked"], found["head"]) == (True, 0, str(Place()))


CHANGES: dict[str, Any] = {
    "at": START, "who": "eve", "what": "approve", "target": "other", "detail": '{"number":99}',
    "prev": "f" * 64, "hash": "f" * 64,
}  # fmt: skip


@pytest.mark.parametrize("column", CHANGES)
@pytest.mark.parametrize("at", [0, 4, LINES - 1])
def test_a_changed_line_is_found(log: Connection, column: str, at: int) -> None:
    value = START - timedelta(days=1) if column == "at" else CHANGES[column]
    touched = rows(log)[at]
    log.execute(update(audit).where(audit.c.row == touched.row).values({column: value}))
    found = verified(log)
    assert (found["ok"], found["broken"]["row"]) == (False, touched.row)
    assert found["checked"] == at


def _resealed(connection: Connection, at: int) -> None:
    """Somebody who knows how the hash is made, and stops at one line."""
    row = rows(connection)[at]
    sealed = seal(row.prev, to_us(row.at), "eve", row.what, row.target, row.detail)
    connection.execute(update(audit).where(audit.c.row == row.row).values(who="eve", hash=sealed))


def _removed(connection: Connection, at: int) -> None:
    connection.execute(delete(audit).where(audit.c.row == rows(connection)[at].row))


def _swapped(connection: Connection, at: int) -> None:
    one, other = rows(connection)[at : at + 2]
    for here, there in ((one, other), (other, one)):
        values = {key: value for key, value in there._mapping.items() if key != "row"}
        connection.execute(update(audit).where(audit.c.row == here.row).values(values))


def _inserted(connection: Connection, at: int) -> None:
    """A line of its own between two, following the one before it as it should."""
    everything = rows(connection)
    before = everything[at]
    for row in reversed(everything[at + 1 :]):
        connection.execute(update(audit).where(audit.c.row == row.row).values(row=row.row + 1))
    line = {"at": START, "who": "eve", "what": "x", "target": "y", "detail": "{}"}
    sealed = seal(before.hash, to_us(START), "eve", "x", "y", "{}")
    connection.execute(
        insert(audit), [{"row": before.row + 1, **line, "prev": before.hash, "hash": sealed}]
    )


@pytest.mark.parametrize(
    ("touch", "at", "found_at"),
    [
        (_resealed, 0, 1), (_resealed, 4, 5), (_removed, 0, 0), (_removed, 4, 4),
        (_swapped, 0, 0), (_swapped, 4, 4), (_inserted, 0, 2), (_inserted, 4, 6),
    ],
)  # fmt: skip
def test_what_was_moved_removed_or_put_in_is_found(
    log: Connection, touch: Callable[[Connection, int], None], at: int, found_at: int
) -> None:
    touch(log, at)
    found = verified(log)
    assert not found["ok"]
    assert found["broken"]["row"] == rows(log)[found_at].row
    assert found["broken"]["why"]


@pytest.mark.parametrize("cut", [1, 5, LINES])
def test_a_cut_tail_is_found_by_what_was_noted(log: Connection, cut: int) -> None:
    noted = head_of(log)
    for row in rows(log)[-cut:]:
        log.execute(delete(audit).where(audit.c.row == row.row))
    assert verified(log)["ok"], "what is left holds by itself"
    found = verified(log, noted)
    assert (found["ok"], found["broken"]["row"]) == (False, noted.row)
    assert "cut" in found["broken"]["why"]


def test_a_log_that_was_written_anew_is_found_by_what_was_noted(log: Connection) -> None:
    noted = head_of(log)
    log.execute(delete(audit))
    _log(log)
    for number, row in enumerate(rows(log), 1):  # somebody who also keeps the numbers
        log.execute(update(audit).where(audit.c.row == row.row).values(row=-number))
    for row in rows(log):
        log.execute(update(audit).where(audit.c.row == row.row).values(row=-row.row))
    line = rows(log)[-1]
    sealed = seal(line.prev, to_us(line.at), "eve", line.what, line.target, line.detail)
    log.execute(update(audit).where(audit.c.row == line.row).values(who="eve", hash=sealed))
    assert verified(log)["ok"]
    assert not verified(log, noted)["ok"]


def test_what_was_noted_long_ago_still_stands(log: Connection) -> None:
    noted = head_of(log)
    _log(log)
    assert verified(log, noted)["ok"]


@pytest.mark.parametrize(
    "text", ["", "1", "1.abc", f"1.{'g' * 64}", f"-1.{'a' * 64}", f"1.{'a' * 64} ", f"١.{'a' * 64}"]
)
def test_a_bad_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidDocument):
        parse_place(text)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, LINES), ({"who": "anna"}, 5), ({"what": "cancel"}, 3), ({"target": "a3"}, 1),
        ({"who": "anna", "what": "cancel"}, 1), ({"who": "nobody"}, 0), ({"who": "' OR 1=1"}, 0),
    ],
)  # fmt: skip
def test_lines_are_found_by_who_what_and_target(
    log: Connection, wanted: dict[str, str], count: int
) -> None:
    lines = chain.page(log, Wanted(limit=ALL, **wanted))["lines"]  # type: ignore[arg-type]
    assert len(lines) == count
    assert [line["row"] for line in lines] == sorted((line["row"] for line in lines), reverse=True)
    for line in lines:
        assert all(line[key] == value for key, value in wanted.items())
        assert line["detail"]["text"] == "ä\0"


def test_pages_of_the_log_lose_no_line(log: Connection) -> None:
    seen: list[int] = []
    after: str | None = "0"
    while after is not None:
        page = chain.page(log, Wanted(limit=2, after=int(after)))
        seen += [line["row"] for line in page["lines"]]
        after = page["next"]
        record(log, Occasion(START, secrets.randbits), "x", "y", "z")  # newer: on no later page
    assert seen == [row.row for row in rows(log)][:LINES][::-1]


def test_writers_at_once_make_one_chain(postgres: Postgres) -> None:
    """On SQLite there is one writer; here many, and the chain is one queue for all of them."""
    database = database_of(postgres.database())
    together = Barrier(WRITERS)

    def write(number: int) -> None:
        engine = database.open_engine(writes=True)
        with engine.connect() as connection:
            together.wait(20)
            for _ in range(20):
                with connection.begin():
                    occasion = Occasion(START, secrets.randbits)
                    record(connection, occasion, f"w{number}", "dispatch", "x")
        engine.dispose()

    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(write, range(WRITERS)))
    engine = database.open_engine(writes=False)
    with engine.connect() as connection, connection.begin():
        found = verified(connection)
    engine.dispose()
    assert (found["ok"], found["checked"]) == (True, 20 * WRITERS)
