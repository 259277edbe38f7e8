"""Forgetting: by age, by number, with a core only what it has acknowledged; numbers stay used."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar, cast

import pytest
import structlog

from agent.domain.errors import Fault
from agent.domain.lane import Lane
from agent.domain.lifecycle import Reason
from agent.domain.starting import unstart
from agent.node import retention
from agent.node.ports import Runner, RunnerAway
from agent.node.retention import (
    WITHOUT_BACKUP_DAYS,
    Retention,
    choose,
    count_unsaved,
    prune,
    remove,
    remove_unattached,
    waits_for_backup,
)
from agent.node.store import actions, events
from agent.node.store.meta import write_meta
from agent.node.store.pages import PAGE_BYTES_MAX, Query, page
from agent.node.sync.push import _rewind
from agent.wire.messages import DEFINITION_REFUSED
from tests.integration.node.database import make_ledger, open_memory
from tests.unit.domain.builders import after, make_definition

HOUR = 3600.0
T = TypeVar("T")


@pytest.fixture
def connection() -> sqlite3.Connection:
    """Ten actions that ended an hour apart, and one that waits."""
    database, ledger = open_memory(), make_ledger()
    for number in range(10):
        moment = after(number * HOUR)
        action = ledger.accept(
            database, make_definition(id=f"a{number}"), moment, lane=Lane.EXCLUSIVE
        )
        ledger.move(database, action, unstart(action, Reason.CANCELLED_ON_NODE, moment))
    ledger.accept(database, make_definition(id="waits"), after(0), lane=Lane.EXCLUSIVE)
    return database


def keeping(number: int, *, has_core: bool = True) -> Retention:
    return Retention(keep_days=1, keep_finished=number, has_core=has_core)


def prune_batch(database: sqlite3.Connection, before: datetime, retention: Retention) -> None:
    remove(database, [row for row, _ in choose(database, before, retention)])


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


def test_pages_of_large_actions_are_shorter_and_lose_none(connection: sqlite3.Connection) -> None:
    ledger = make_ledger(4)
    for number in range(60):
        large = make_definition(id=f"large{number}", payload={"x": "y" * 60_000})
        ledger.accept(connection, large, after(0), lane=Lane.EXCLUSIVE)
    found, cursor, sizes = [], None, []
    while True:
        one = page(connection, Query(limit=500, after=cursor))
        found += [action.definition.id for action in one.actions]
        sizes.append(sum(len(action.definition.payload.get("x", "")) for action in one.actions))
        cursor = one.next
        if cursor is None:
            break
    assert len(found) == len(set(found)) == 71
    assert max(sizes) < PAGE_BYTES_MAX + 100_000


def test_behind_what_is_gone_history_has_no_hole(connection: sqlite3.Connection) -> None:
    """`waits` keeps an old event; a reader's cursor before the hole must be told, not led over it.

    A core that asks for what is gone gets the state; asked for again it would be for ever.
    """
    assert events.oldest_seq(connection) == 1
    prune_batch(connection, after(3 * HOUR), keeping(100))
    held = [event.seq for event in events.after(connection, 0, 100)]
    oldest = events.oldest_seq(connection)
    assert [seq for seq in held if seq >= oldest] == list(
        range(oldest, events.next_seq(connection))
    )
    assert not _rewind(connection, oldest - 1)
    assert _rewind(connection, oldest)


def test_events_of_no_action_are_forgotten_like_the_others(connection: sqlite3.Connection) -> None:
    ledger, fault = make_ledger(3), (Fault("kind", "is missing"),)
    for number in range(6):
        ledger.refuse(connection, f"bad{number}", 1, fault, after(number * HOUR))
    seq, newest = events.next_seq(connection), events.oldest_seq(connection) + 26
    write_meta(connection, enrolled="n", acked_seq=newest - 1)
    remove_unattached(connection, after(2 * HOUR), keeping(100))
    assert refused_events(connection) == [f"bad{number}" for number in range(2, 6)]
    remove_unattached(connection, after(99 * HOUR), keeping(100))
    assert refused_events(connection) == ["bad5"], "the core has not acknowledged it"
    remove_unattached(connection, after(99 * HOUR), keeping(0, has_core=False))
    assert refused_events(connection) == []
    assert events.next_seq(connection) == seq


def refused_events(connection: sqlite3.Connection) -> list[str]:
    found = events.after(connection, 0, 1000)
    return [event.body["action_id"] for event in found if event.type == DEFINITION_REFUSED]


class Files:
    """The runner as far as pruning needs it."""

    def __init__(self) -> None:
        self.is_there = True
        self.forgotten: list[tuple[int, int]] = []

    async def forget(self, keys: Sequence[tuple[int, int]]) -> None:
        if not self.is_there:
            raise RunnerAway("gone")
        self.forgotten += keys


def test_a_great_clean_up_is_many_small_transactions(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "REMOVED_AT_ONCE", 3)
    sizes: list[int] = []

    class Counting(Inline):
        async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
            before = len(ids(connection))
            result = await super().write(operation)
            sizes.append(before - len(ids(connection)))
            return result

    work = prune(
        Counting(connection), cast("Runner", Files()), At(after(99 * HOUR)), keeping(100),
        structlog.get_logger(),
    )  # fmt: skip
    assert asyncio.run(work) == 10
    assert [size for size in sizes if size] == [3, 3, 3, 1]


def test_rows_stay_while_the_runner_cannot_remove_their_files(
    connection: sqlite3.Connection,
) -> None:
    connection.execute("UPDATE actions SET start_no = 2 WHERE id = 'a0'")
    files = Files()

    def prune_all() -> int:
        work = prune(
            Inline(connection), cast("Runner", files), At(after(99 * HOUR)),
            keeping(100), structlog.get_logger(),
        )  # fmt: skip
        return asyncio.run(work)

    files.is_there = False
    assert prune_all() == 0
    assert "a0" in ids(connection)
    files.is_there = True
    assert prune_all() == 10
    assert files.forgotten == [(1, 1), (1, 2)]


def test_what_could_not_be_removed_is_not_told_as_removed(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE actions SET start_no = 1")
    files = Files()
    files.is_there = False
    with structlog.testing.capture_logs() as told:
        work = prune(
            Inline(connection), cast("Runner", files), At(after(99 * HOUR)),
            replace(waiting(0), keep_days=0), structlog.get_logger(),
        )  # fmt: skip
        asyncio.run(work)
    assert told == [], "it says neither that it removed nor that no backup holds it"


class Inline:
    """The store port on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        return operation(self._connection)

    read = write


class At:
    """A clock that stands still."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        return self._moment

    def monotonic(self) -> float:
        return 0.0


def waiting(number: int) -> Retention:
    return Retention(keep_days=1, keep_finished=number, waits_for_backup=True)


def test_what_no_backup_holds_stays(connection: sqlite3.Connection) -> None:
    far = after(3 * HOUR)
    assert choose(connection, far, waiting(9)) == []
    assert waits_for_backup(connection, far + timedelta(days=1), waiting(9))
    seq = events.newest_of(connection, 2)
    assert seq is not None
    write_meta(connection, backup_seq=seq)
    assert [row for row, _ in choose(connection, far, waiting(9))] == [1, 2]
    write_meta(connection, backup_seq=events.next_seq(connection))
    assert not waits_for_backup(connection, far + timedelta(days=1), waiting(9))


def test_without_any_backup_the_disk_is_bounded_all_the_same(
    connection: sqlite3.Connection,
) -> None:
    """Ten have ended: beyond twice the number they go, and after another week in any case."""
    chosen = choose(connection, after(0), waiting(4))
    assert [row for row, _ in chosen] == [1, 2]
    assert count_unsaved(connection, chosen, waiting(4)) == 2
    week = after(3 * HOUR) + timedelta(days=WITHOUT_BACKUP_DAYS)
    assert len(choose(connection, week, waiting(100))) == 3
