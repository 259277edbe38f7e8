"""A backend that pulls: its cursor, what it acknowledges, and what is kept for it."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest

from agent.domain.lane import Lane
from agent.domain.lifecycle import Reason
from agent.domain.starting import unstart
from agent.node import outbox
from agent.node.api import events as endpoint
from agent.node.api.events import Gone, read_batch
from agent.node.pulling import FORGOTTEN_AFTER, is_news, kept_for_backend, note_pull
from agent.node.retention import Retention, choose, remove_unattached
from agent.node.store import actions
from agent.node.store.meta import read_meta, write_meta
from tests.integration.node.database import make_ledger, open_memory
from tests.unit.domain.builders import NOW, after, make_definition

DAY = 86_400
KEEP = Retention(keep_days=1, keep_finished=1_000, has_core=False)


@pytest.fixture
def connection() -> sqlite3.Connection:
    return open_memory()


def accept(connection: sqlite3.Connection, *names: str) -> None:
    ledger = make_ledger()
    for name in names:
        ledger.accept(connection, make_definition(id=name), NOW, lane=Lane.PARALLEL)


def finish(connection: sqlite3.Connection, name: str) -> None:
    action = actions.by_id(connection, name)
    assert action is not None
    make_ledger().move(connection, action, unstart(action, Reason.CANCELLED_ON_NODE, NOW))


def test_events_come_in_order_behind_the_cursor(connection: sqlite3.Connection) -> None:
    accept(connection, "a1", "a2", "a3")
    assert [one["action_id"] for one in read_batch(connection, 1, 10).events] == ["a2", "a3"]
    assert [one["seq"] for one in read_batch(connection, 0, 2).events] == [1, 2]
    assert read_batch(connection, 3, 10).events == []


def test_an_answer_is_bounded_in_bytes_but_never_empty(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(connection, "a1", "a2", "a3")
    monkeypatch.setattr(endpoint, "EVENTS_BYTES_MAX", 10)
    assert [one["seq"] for one in read_batch(connection, 0, 100).events] == [1]


def test_a_cursor_that_this_node_does_not_know_is_gone(connection: sqlite3.Connection) -> None:
    accept(connection, "a1", "a2", "a3")
    with pytest.raises(Gone, match="its newest is 3"):
        read_batch(connection, 4, 10)
    write_meta(connection, pruned_seq=2)
    with pytest.raises(Gone, match="events before 3 are pruned") as told:
        read_batch(connection, 1, 10)
    assert told.value.expected == 3
    assert [one["seq"] for one in read_batch(connection, 2, 10).events] == [3]


def test_what_the_backend_has_not_is_kept(connection: sqlite3.Connection) -> None:
    accept(connection, "a1", "a2")
    for name in ("a1", "a2"):
        finish(connection, name)
    long_after = after(3 * DAY)
    first = connection.execute(
        "SELECT max(seq) FROM events WHERE row = (SELECT row FROM actions WHERE id = 'a1')"
    ).fetchone()[0]
    before = long_after - timedelta(days=KEEP.keep_days)
    assert len(choose(connection, before, KEEP)) == 2, "nobody pulls: age alone decides"
    note_pull(connection, first, long_after)
    assert len(choose(connection, before, KEEP)) == 1
    note_pull(connection, read_meta(connection).pulled_seq + 99, long_after)
    assert len(choose(connection, before, KEEP)) == 2


def test_a_backend_that_stays_away_is_forgotten(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(connection, "a1", "a2", "a3")
    assert kept_for_backend(connection, NOW) is None
    note_pull(connection, 1, NOW)
    assert kept_for_backend(connection, NOW + FORGOTTEN_AFTER) == 1
    assert kept_for_backend(connection, NOW + FORGOTTEN_AFTER + timedelta(seconds=1)) is None
    monkeypatch.setattr("agent.node.pulling.OUTBOX_ROWS_MAX", 2)
    assert kept_for_backend(connection, NOW) is None, f"more than {outbox.OUTBOX_ROWS_MAX} behind"


def test_a_lower_cursor_takes_nothing_back(connection: sqlite3.Connection) -> None:
    note_pull(connection, 5, NOW)
    note_pull(connection, 2, after(1))
    assert read_meta(connection).pulled_seq == 5


def test_only_news_are_worth_a_write(connection: sqlite3.Connection) -> None:
    assert not is_news(read_meta(connection), 0, NOW), "a first look acknowledges nothing"
    assert is_news(read_meta(connection), 1, NOW)
    note_pull(connection, 5, NOW)
    assert not is_news(read_meta(connection), 5, after(60))
    assert is_news(read_meta(connection), 6, after(60))
    assert is_news(read_meta(connection), 5, after(2 * 3600)), "that it is still there"


def test_events_of_no_action_wait_for_the_backend_too(connection: sqlite3.Connection) -> None:
    accept(connection, "a1")
    make_ledger().refuse(connection, "bad", 1, (), NOW)
    before = after(3 * DAY) - timedelta(days=KEEP.keep_days)
    note_pull(connection, 1, after(3 * DAY))
    assert remove_unattached(connection, before, KEEP) == 0
    note_pull(connection, 2, after(3 * DAY))
    assert remove_unattached(connection, before, KEEP) == 1
