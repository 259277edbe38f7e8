"""A migrated database is the declared schema, and newer ones are left alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from agent.core.store.migrate import HEAD, MIGRATIONS, UnknownSchema, UnusableDatabase, migrate
from agent.core.store.schema import metadata
from agent.core.store.sqlite import open_engine


def described(path: Path) -> dict[str, Any]:
    """Every table's columns and every index, as SQLite has them."""
    found: dict[str, Any] = {}
    with sqlite3.connect(path) as plain:
        for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type IN ('table')"):
            if name == "alembic_version":
                continue
            found[name] = (
                tuple(plain.execute(f"PRAGMA table_info({name})")),
                tuple(
                    (index[1], index[2], tuple(plain.execute(f"PRAGMA index_info({index[1]})")))
                    for index in sorted(plain.execute(f"PRAGMA index_list({name})"))
                ),
            )
    return found


def test_migrated_equals_declared(tmp_path: Path) -> None:
    migrated, declared = tmp_path / "migrated.db", tmp_path / "declared.db"
    migrate(f"sqlite:///{migrated}")
    engine = open_engine(f"sqlite:///{declared}", writes=True)
    with engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    left, right = described(migrated), described(declared)
    assert left.keys() == right.keys()
    for name in left:
        assert sorted(left[name][1]) == sorted(right[name][1]), name
        assert left[name][0] == right[name][0], name


def test_alembic_sees_no_difference(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'core.db'}"
    migrate(url)
    with open_engine(url, writes=True).connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []


def test_the_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "core.db"
    migrate(f"sqlite:///{path}")
    before = described(path)
    migrate(f"sqlite:///{path}")
    assert described(path) == before


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "core.db"
    migrate(f"sqlite:///{path}")
    with sqlite3.connect(path) as plain:
        plain.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnknownSchema, match="newer cored"):
        migrate(f"sqlite:///{path}")


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "core.db"
    path.write_bytes(b"this is not a database, it only looks like a file" * 100)
    with pytest.raises(UnusableDatabase, match="not a database"):
        migrate(f"sqlite:///{path}")


def test_every_query_has_an_index(tmp_path: Path) -> None:
    """No statement of the hot paths reads a table from end to end."""
    path = tmp_path / "core.db"
    migrate(f"sqlite:///{path}")
    hot = (
        "SELECT * FROM actions WHERE agent_id='n' AND id IN ('a','b')",
        "SELECT * FROM actions WHERE id='a'",
        "SELECT * FROM actions WHERE agent_id='n' AND status IN ('NULL','STARTED')",
        "SELECT * FROM actions WHERE status='FAILED' ORDER BY row DESC LIMIT 50",
        "SELECT * FROM actions WHERE kind='k' ORDER BY row DESC LIMIT 50",
        "SELECT * FROM actions WHERE agent_id='n' ORDER BY row DESC LIMIT 50",
        "SELECT * FROM actions WHERE recurring_id='r' ORDER BY row DESC LIMIT 50",
        "SELECT * FROM actions WHERE recurring_id='r' AND agent_id='n' ORDER BY row DESC LIMIT 50",
        "SELECT * FROM recurring WHERE id IN (SELECT id FROM recurring WHERE node IN ('n'))",
        "SELECT mark FROM events WHERE agent_id='n' AND mark IN ('a','b')",
        "SELECT * FROM events WHERE agent_id='n' AND action_id='a' AND id>1 ORDER BY id",
        "SELECT * FROM events WHERE id>1 ORDER BY id LIMIT 10",
        "SELECT * FROM deliveries WHERE agent_id='n' AND seq>1 ORDER BY seq",
        "SELECT * FROM requests WHERE id='r'",
        "SELECT * FROM requests WHERE agent_id='n' AND acked_at IS NULL AND row>1",
        "SELECT * FROM credentials WHERE token_digest='d'",
        "SELECT * FROM approvals WHERE id='a'",
        "SELECT * FROM approvals WHERE state='pending' ORDER BY row DESC LIMIT 100",
        "SELECT * FROM approvals WHERE agent_id='n' AND row<9 ORDER BY row DESC LIMIT 100",
        "SELECT * FROM approvals WHERE action_id='a' ORDER BY row DESC LIMIT 100",
        "SELECT * FROM approvals WHERE agent_id='n' AND action_id='a' AND state='pending'",
        "SELECT * FROM approvals WHERE correlation_id='c' ORDER BY row DESC LIMIT 100",
        "SELECT * FROM audit WHERE who='w' ORDER BY row DESC LIMIT 100",
        "SELECT * FROM audit WHERE what='w' ORDER BY row DESC LIMIT 100",
        "SELECT * FROM audit WHERE target='t' AND row<9 ORDER BY row DESC LIMIT 100",
    )
    with sqlite3.connect(path) as plain:
        for query in hot:
            plan = [row[3] for row in plain.execute(f"EXPLAIN QUERY PLAN {query}")]
            assert not any(step.startswith("SCAN") for step in plan), (query, plan)
