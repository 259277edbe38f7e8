"""Forgetting: by age, by number, with a core only what it has acknowledged; numbers stay used."""

from __future__ import annotations

import sqlite3

import pytest

from agent.domain.lifecycle import Reason
from agent.domain.starting import unstart
from agent.node.retention import Retention, prune_batch
from agent.node.store import actions, events
from agent.node.store.meta import write_meta
from agent.node.store.pages import Query, page
from tests.integration.node.database import make_ledger, open_memory
from tests.unit.domain.builders import after, make_definition

HOUR = 3600.0


@pytest.fixture
def connection() -> sqlite3.Connection:
    """Ten actions that ended an hour apart, and one that waits."""
    database, ledger = open_memory(), make_ledger()
    for number in range(10):
        moment = after(number * HOUR)
        action = ledger.accept(database, make_definition(id=f"a{number}"), moment, parallel=False)
        ledger.move(database, action, unstart(action, Reason.CANCELLED_ON_NODE, moment))
    ledger.accept(database, make_definition(id="waits"), after(0), parallel=False)
    return database


def keeping(number: int, *, has_core: bool = True) -> Retention:
    return Retention(keep_days=1, keep_finished=number, has_core=has_core)


def ids(connection: sqlite3.Connection) -> list[str]:
    return [action.definition.id for action in page(connection, Query()).actions]


def test_by_age(connection: sqlite3.Connection) -> None:
    prune_batch(connection, after(3 * HOUR), keeping(100))
    assert ids(connection) == [f"a{number}" for number in range(3, 10)] + ["waits"]


def test_by_number_the_oldest_go_first(connection: sqlite3.Connection) -> None:
    prune_batch(connection, after(-1), keeping(4))
    assert ids(connection) == ["a6", "a7", "a8", "a9", "waits"]


def test_with_a_core_nothing_goes_before_it_is_acknowledged(connection: sqlite3.Connection) -> None:
    write_meta(connection, enrolled="n", acked_seq=4)
    prune_batch(connection, after(99 * HOUR), keeping(100))
    assert ids(connection)[:2] == ["a2", "a3"]


def test_a_node_that_has_no_core_any_more_prunes_alone(connection: sqlite3.Connection) -> None:
    write_meta(connection, enrolled="n", acked_seq=4)
    prune_batch(connection, after(99 * HOUR), keeping(100, has_core=False))
    assert ids(connection) == ["waits"]


def test_numbers_of_what_is_gone_are_never_used_again(connection: sqlite3.Connection) -> None:
    waiting = actions.by_id(connection, "waits")
    assert waiting is not None
    make_ledger(2).move(connection, waiting, unstart(waiting, Reason.MISSED, after(0)))
    row, seq = actions.next_row(connection), events.next_seq(connection)
    prune_batch(connection, after(99 * HOUR), keeping(0))
    assert ids(connection) == []
    assert (actions.next_row(connection), events.next_seq(connection)) == (row, seq)


def test_pages_lose_no_row(connection: sqlite3.Connection) -> None:
    for view, expected in (
        ("all", [f"a{n}" for n in range(10)] + ["waits"]),
        ("finished", [f"a{n}" for n in reversed(range(10))]),
        ("queue", ["waits"]),
    ):
        found, after_cursor = [], None
        while True:
            one = page(connection, Query(view=view, limit=3, after=after_cursor))
            found += [action.definition.id for action in one.actions]
            after_cursor = one.next
            if after_cursor is None:
                break
        assert found == expected
