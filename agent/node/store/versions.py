"""Whether `agent.db` needs a migration: answered without the machinery that would do it.

sqlite-utils takes 70 ms and 4 MB to import; a daemon that restarts on an unchanged schema, which
is nearly every start, needs neither.
"""

from __future__ import annotations

import sqlite3

NEWEST = "0003_freezes"
"""The last migration of `agent.node.store.schema`; a test holds the two together."""


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Apply the migrations that are missing. The caller holds the directory's lock."""
    if newest_applied(connection) == NEWEST:
        return
    from agent.node.store.schema import migrate  # noqa: PLC0415  (see above)

    migrate(connection)


def newest_applied(connection: sqlite3.Connection) -> str | None:
    """The name of the last migration that this database has seen; None for a new one."""
    known = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'"
    ).fetchone()
    if known is None:
        return None
    found = connection.execute(
        "SELECT name FROM _sqlite_migrations WHERE migration_set = 'node-agent'"
        " ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return None if found is None else str(found[0])
