"""The schema on PostgreSQL: from the first version up, the same as declared, several at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from agent.core.store.migrate import HEAD, MIGRATIONS, UnknownSchema, UnusableDatabase, migrate
from agent.core.store.postgres import PostgresDatabase
from agent.core.store.schema import metadata
from agent.core.store.sqlite import open_engine
from tests.fakes.postgres import Postgres

pytestmark = pytest.mark.timeout(60)
ROOT = Path(__file__).resolve().parents[3]
AT_ONCE = 4
_COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, "
    "regexp_replace(column_default, '::.*', '') "
    "FROM information_schema.columns WHERE table_schema = 'public'"
)
_INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"


def asked(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def described(url: str) -> tuple[set[Any], set[Any]]:
    """Every column and every index, as PostgreSQL has them."""
    columns = {row for row in asked(url, _COLUMNS) if row[0] != "alembic_version"}
    indexes = {row for row in asked(url, _INDEXES) if "alembic_version" not in row[0]}
    return columns, indexes


def migrate_to(connection: Any, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def first_version(url: str) -> None:
    """A database of the first release, with something in it."""
    with PostgresDatabase(url).open_for_schema().connect() as connection:
        migrate_to(connection, "0001")
    definition = json.dumps({"correlation_id": "incident-7", "payload": {"odd": "\0"}})
    with psycopg.connect(url) as plain:
        plain.execute(
            "INSERT INTO agents (id, enrolled_at, stream_epoch, acked_mark) "
            "VALUES ('n', 1, 'e', 'm')"
        )
        plain.execute(
            "INSERT INTO actions (agent_id, id, owner, created_at, kind, revision, definition, "
            "wanted, status) VALUES ('n', 'a', 'core', 5, 'k', 1, %s, true, 'FINISHED')",
            [definition],
        )
        plain.execute("INSERT INTO admin_tokens VALUES ('0123456789abcdef', 'admin', 1)")


def migrate_all_at_once(url: str) -> None:
    code = "import sys; from agent.core.store.migrate import migrate; migrate(sys.argv[1])"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, url], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for _ in range(AT_ONCE)
    ]
    assert [process.wait(50) for process in started] == [0] * AT_ONCE
    assert asked(url, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_several_that_start_at_once_make_one_schema(postgres: Postgres) -> None:
    url, declared = postgres.empty_database(), postgres.empty_database()
    migrate_all_at_once(url)
    with PostgresDatabase(declared).open_for_schema().begin() as connection:
        metadata.create_all(connection)
    (left, left_indexes), (right, right_indexes) = described(url), described(declared)
    assert left == right
    assert left_indexes == right_indexes


def test_several_that_start_at_once_upgrade_the_first_version(postgres: Postgres) -> None:
    url = postgres.empty_database()
    first_version(url)
    migrate_all_at_once(url)
    assert described(url) == described(postgres.database())
    found = asked(url, "SELECT correlation_id, retry_of, ended_at FROM actions")
    assert found == [("incident-7", None, 5)]
    assert asked(url, "SELECT id, role FROM api_tokens") == [("0123456789ab", "admin")]


def test_sqlite_goes_the_same_way(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'core.db'}", writes=True)
    with engine.connect() as connection:
        migrate_to(connection, "0001")
        with connection.begin():
            connection.exec_driver_sql(
                "INSERT INTO actions (agent_id, id, owner, created_at, kind, revision, definition, "
                "wanted, status) VALUES ('n', 'a', 'core', 5, 'k', 1, ?, 1, 'FINISHED')",
                (json.dumps({"correlation_id": "incident-7"}),),
            )
    engine.dispose()
    migrate(f"sqlite:///{tmp_path / 'core.db'}")
    with open_engine(f"sqlite:///{tmp_path / 'core.db'}", writes=False).connect() as connection:
        query = "SELECT correlation_id, retry_of, ended_at FROM actions"
        assert connection.exec_driver_sql(query).all() == [("incident-7", None, 5)]


def test_alembic_sees_no_difference(postgres: Postgres) -> None:
    url = postgres.database()
    with PostgresDatabase(url).open_for_schema().connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_newer_database_is_refused(postgres: Postgres) -> None:
    url = postgres.database()
    with psycopg.connect(url) as plain:
        plain.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnknownSchema, match="newer cored"):
        migrate(url)


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Postgres) -> None:
    with postgres.connect() as plain:
        plain.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(UnusableDatabase, match="LATIN1"):
        migrate(postgres.url("latin"))


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    url = "postgresql://cored:s3cret@127.0.0.1:1/core"
    with pytest.raises(UnusableDatabase, match="cannot be used") as caught:
        migrate(url)
    assert "127.0.0.1" in str(caught.value)
    assert "s3cret" not in str(caught.value)
