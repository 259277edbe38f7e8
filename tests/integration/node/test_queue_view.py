"""The view of the queue: several indexes merged, in one order, paged without losing a row."""

from __future__ import annotations

import sqlite3

import pytest

from agent.domain.lane import Lane
from agent.domain.starting import Slots, decide_start
from agent.node.store import actions
from agent.node.store.pages import Query, count_ahead, page
from agent.node.store.parking import park
from tests.integration.node.database import make_ledger, open_memory
from tests.unit.domain.builders import NOW, after, make_definition


@pytest.fixture
def connection() -> sqlite3.Connection:
    """Twelve that wait in three lanes, one of them parked, one braked; and one that started."""
    database, ledger = open_memory(), make_ledger()
    for number in range(12):
        definition = make_definition(id=f"w{number:02}", from_date=after(100 - number))
        ledger.accept(database, definition, NOW, lane=Lane(number % 3))
    ledger.accept(database, make_definition(id="started"), NOW, lane=Lane.EXCLUSIVE)
    action = actions.by_id(database, "started")
    assert action is not None
    started = decide_start(action, NOW, Slots(parallel_max=1))
    ledger.move(database, action, started)  # type: ignore[arg-type]
    for name in ("w03", "w04"):
        held = actions.by_id(database, name)
        assert held is not None
        if name == "w03":
            park(database, held.row, "a word of next year")
        else:
            actions.shelve(database, [(held.row, 1)])
    return database


def ids(connection: sqlite3.Connection, query: Query) -> tuple[list[str], str | None]:
    found = page(connection, query)
    return [action.definition.id for action in found.actions], found.next


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_it_is_one_order_and_no_page_loses_a_row(
    connection: sqlite3.Connection, limit: int
) -> None:
    found: list[str] = []
    after_: str | None = None
    while True:
        some, after_ = ids(connection, Query(view="queue", limit=limit, after=after_))
        found += some
        if after_ is None:
            break
    assert found == ["started", *(f"w{number:02}" for number in reversed(range(12)))]


def test_it_can_be_narrowed(connection: sqlite3.Connection) -> None:
    assert ids(connection, Query(view="queue", status=("STARTED",)))[0] == ["started"]
    assert ids(connection, Query(view="queue", kind="none"))[0] == []
    assert ids(connection, Query(view="queue", recurring="none"))[0] == []


def test_nothing_is_sorted_or_searched_through_at_a_million_rows(
    connection: sqlite3.Connection,
) -> None:
    plans: list[str] = []

    class Explaining:
        """Notes the plan of every statement."""

        def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
            told = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            plans.extend(str(row[3]) for row in told)
            return connection.execute(statement, values)

    page(Explaining(), Query(view="queue", limit=5))  # type: ignore[arg-type]
    whole = [plan for plan in plans if plan.startswith("SCAN")]
    small = {"SCAN actions USING INDEX actions_started", "SCAN actions USING INDEX actions_parked"}
    assert set(whole) <= small, "of bounded size; everything else is found by its index"
    assert any(plan.startswith("MERGE") for plan in plans)


def test_how_many_are_ahead(connection: sqlite3.Connection) -> None:
    last = actions.by_id(connection, "w00")
    assert last is not None
    assert count_ahead(connection, last, after(50), 100) == 0, "it is not due itself"
    assert count_ahead(connection, last, after(200), 100) == 2, "w09 and w06; w03 is parked"
    assert count_ahead(connection, last, after(200), 1) == 1
