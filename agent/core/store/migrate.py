"""Bringing a database to the schema of this version, before anything reads it.

Each migration and its record commit together. A SQLite file is held by the lock of its directory;
on PostgreSQL whoever starts first migrates, and the others wait and find it done. Alembic takes a
quarter of a second to import, so it is only asked when the recorded revision is not ours.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError

from agent.core.store.database import Database, database_of
from agent.domain.errors import AgentError, shown

HEAD = "0002"
MIGRATIONS = Path(__file__).parent / "migrations"


class UnusableDatabase(AgentError):
    """It cannot be opened, or is damaged, or the disk is full."""


class UnknownSchema(AgentError):
    """The database was written by a newer version."""


def migrate(database: Database | str) -> None:
    """Create or upgrade. Raises `UnusableDatabase`, `UnknownSchema`; then nothing was changed."""
    found = database_of(database) if isinstance(database, str) else database
    engine = found.open_for_schema()
    try:
        with engine.connect() as connection:
            _require_unicode(connection, found)
            if _recorded(connection) != HEAD:
                with connection.begin():
                    found.lock_schema(connection)
                if _recorded(connection) != HEAD:
                    _upgrade(connection)
    except DatabaseError as error:
        raise UnusableDatabase(f"the database {found.shown} cannot be used: {error.orig}") from None
    finally:
        engine.dispose()


def _require_unicode(connection: Connection, database: Database) -> None:
    if connection.dialect.name == "sqlite":
        return
    with connection.begin():
        encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise UnusableDatabase(
            f"the database {database.shown} has the encoding {encoding}; create one with "
            "ENCODING 'UTF8' TEMPLATE template0"
        )


def _recorded(connection: Connection) -> str | None:
    with connection.begin():
        if not inspect(connection).has_table("alembic_version"):
            return None
        row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
        return None if row is None else str(row[0])


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  (a quarter of a second, needed once per version)
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise UnknownSchema(
            f"the database is at revision {shown(_recorded(connection))}, this version knows up "
            f"to {HEAD}: it was written by a newer cored; start that one ({error})"
        ) from None
