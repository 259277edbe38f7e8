"""The bound on the outbox: what is folded is counted, and the numbers keep no hole."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

import pytest

from agent.domain.lane import Lane
from agent.domain.lifecycle import Reason
from agent.domain.starting import unstart
from agent.node.outbox import bound_outbox, count
from agent.node.store import events
from agent.node.store.meta import read_meta, write_meta
from tests.integration.node.database import make_ledger, open_memory
from tests.unit.domain.builders import NOW, make_definition


class Inline:
    """The store port on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    async def write(self, operation: Any) -> Any:
        return operation(self.connection)

    read = write


class Quiet:
    def warning(self, *_: object, **__: object) -> None:
        """Nobody reads it."""


class Still:
    def now(self) -> Any:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def connection() -> sqlite3.Connection:
    """Twenty finished actions with two events each, five that wait; three events acknowledged."""
    database, ledger = open_memory(), make_ledger()
    for number in range(20):
        action = ledger.accept(database, make_definition(id=f"a{number}"), NOW, lane=Lane.EXCLUSIVE)
        ledger.move(database, action, unstart(action, Reason.MISSED, NOW))
    for number in range(5):
        ledger.accept(database, make_definition(id=f"w{number}"), NOW, lane=Lane.EXCLUSIVE)
    write_meta(database, acked_seq=3)
    return database


async def bound(connection: sqlite3.Connection, rows_max: int) -> int:
    bits = random.Random(5).getrandbits
    return await bound_outbox(Inline(connection), Still(), bits, Quiet(), rows_max)


def assert_no_hole(connection: sqlite3.Connection) -> int:
    """Every number after the acknowledged one is told, by itself or in a gap; how many in gaps."""
    expected, missing = read_meta(connection).acked_seq + 1, 0
    marks = set()
    for event in events.after(connection, read_meta(connection).acked_seq, 1000):
        first = event.body["first"] if event.type == "gap" else event.seq
        assert first == expected
        missing += event.seq - first + 1 if event.type == "gap" else 0
        assert event.mark not in marks
        marks.add(event.mark)
        expected = event.seq + 1
    assert expected == events.next_seq(connection)
    return missing


def run(work: Any) -> Any:
    import asyncio

    return asyncio.run(work)


def test_within_the_bound_nothing_is_touched(connection: sqlite3.Connection) -> None:
    before = events.after(connection, 0, 1000)
    assert run(bound(connection, 1000)) == 0
    assert events.after(connection, 0, 1000) == before


@pytest.mark.parametrize("rows_max", [41, 30, 20, 10, 3, 1])
def test_the_bound_holds_and_the_numbers_have_no_hole(
    connection: sqlite3.Connection, rows_max: int
) -> None:
    run(bound(connection, rows_max))
    assert count(connection) <= max(rows_max, 1)
    assert_no_hole(connection)
    run(bound(connection, rows_max))
    assert_no_hole(connection)


def test_cutting_owes_the_state(connection: sqlite3.Connection) -> None:
    run(bound(connection, 5))
    assert read_meta(connection).state_owed == 1
    assert assert_no_hole(connection) > 30
