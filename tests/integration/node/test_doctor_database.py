"""What the doctor measures in a real database file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.domain.lane import Lane
from agent.node.doctor.database import DatabaseFound, examine_database
from agent.node.store.connection import open_for_writing
from agent.node.store.meta import write_meta
from agent.node.store.versions import bring_up_to_date
from tests.integration.node.database import make_ledger
from tests.unit.domain.builders import NOW, make_definition


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.db"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_for_writing(path)
    bring_up_to_date(connection)
    ledger = make_ledger()
    for number in range(5):
        definition = make_definition(id=f"a{number}")
        ledger.accept(connection, definition, NOW, lane=Lane.PARALLEL)
    yield connection
    connection.close()


def examine(path: Path, seconds: float = 0.0) -> DatabaseFound:
    """`seconds` pass at each look at the clock."""
    told = iter(range(10**9))
    return examine_database(path, lambda: next(told) * seconds)


def test_a_sound_database(path: Path, writer: sqlite3.Connection) -> None:
    found = examine(path)
    assert found.integrity == ()
    assert (found.counts_real, found.counts_kept["NULL"]) == ({"NULL": 5}, 5)
    assert (found.events_missing, found.newest_seq, found.outbox) == (0, 5, 0)
    assert (found.parked, found.refused, found.brakes, found.zones) == (0, 0, (), frozenset())


def test_counts_that_are_wrong(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("UPDATE counts SET number = 7 WHERE status = 'NULL'")
    assert examine(path).counts_kept["NULL"] == 7


def test_events_that_are_missing_are_counted(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("DELETE FROM events WHERE seq IN (2, 3)")
    assert examine(path).events_missing == 2
    write_meta(writer, pruned_seq=2)
    assert examine(path).events_missing == 1, "what was forgotten on purpose is not missing"


def test_a_gap_accounts_for_what_it_stands_for(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("DELETE FROM events WHERE seq IN (2, 3)")
    body = '{"first": 2, "last": 4}'
    writer.execute("UPDATE events SET type = 'gap', row = NULL, body = ? WHERE seq = 4", (body,))
    assert examine(path).events_missing == 0


def test_what_takes_too_long_is_given_up(
    path: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.node.doctor.database.STEPS_BETWEEN_LOOKS", 1)
    found = examine(path, seconds=60)
    assert (found.integrity, found.counts_real, found.events_missing) == (None, None, None)
    assert found.newest_seq == 5, "what is a look-up is told all the same"


def test_the_writer_is_not_held_up(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("BEGIN IMMEDIATE")
    assert examine(path).newest_seq == 5
    writer.execute("COMMIT")


def test_damage_is_found(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page_size = writer.execute("PRAGMA page_size").fetchone()[0]
    root = writer.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'actions_id'"
    ).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * page_size)
        file.write(b"\x05" + b"\xff" * 200)
    found = examine(path).integrity
    assert found, "a page that is none"
