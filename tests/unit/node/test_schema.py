"""The schema and its short cut agree."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent.node.store.connection import open_for_writing
from agent.node.store.schema import migrate, migrations
from agent.node.store.versions import NEWEST, bring_up_to_date, newest_applied


def test_the_short_cut_names_the_newest_migration(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "agent.db")
    assert newest_applied(connection) is None
    bring_up_to_date(connection)
    assert newest_applied(connection) == NEWEST
    from sqlite_utils import Database

    assert migrations.pending(Database(connection)) == []


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "agent.db")
    migrate(connection)
    before = dump(connection)
    migrate(connection)
    assert dump(connection) == before


def dump(connection: sqlite3.Connection) -> list[str]:
    return [row[0] or "" for row in connection.execute("SELECT sql FROM sqlite_master")]
