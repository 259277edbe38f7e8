"""Rows that this version cannot handle: they wait, visibly, and are not rewritten (decision 0013).

A later version may have stored a definition with words that this one does not know, or bytes may
have rotted inside a value. Such a row must neither stop the node nor be mended by guessing: it
reads as an action with `parked` saying why, its stored definition stays as it is byte for byte,
and the next version looks at it again.
"""

from __future__ import annotations

import json
import sqlite3
from functools import lru_cache
from typing import Any

from agent.domain.definition import LOST, UNREADABLE, Definition, Owner
from agent.domain.errors import InvalidDocument
from agent.domain.instants import from_us
from agent.wire.definition import decode_definition

PARKED_PER_TURN_MAX = 500  # an old version meets a queue of a new one: over several turns
WHY_CHARS_MAX = 500
PARKED_COUNTED_MAX = 100_000
CAUSES_MAX = 5
REMEMBERED_MAX = 128  # definitions: an action is read to be started and soon again to be ended
REMEMBERED_CHARS_MAX = 2_048  # larger ones are rare, and would make the memory of it large

KEPT_AS_STORED = frozenset(
    {"id", "owner", "kind", "revision", "definition", "app_names", "parallel", "accepted_at"}
    | {"expires_at", "recurring_id", "nominal_at"}
)
"""The columns that belong to the definition: an update of a parked row leaves them alone."""

DEFINITION_LOST = "known from the runner's records alone: its definition was lost with the database"
_TABLES = ("actions", "recurring")


def read_definition(row: sqlite3.Row) -> tuple[Definition, str | None]:
    """The row's definition; where it cannot be read, what its columns say, and why."""
    text = row["definition"]
    try:
        if isinstance(text, str) and len(text) <= REMEMBERED_CHARS_MAX:
            return _decoded(text), None
        return decode_definition(json.loads(text)), None
    except (InvalidDocument, ValueError, TypeError, RecursionError) as error:
        why = f"its definition cannot be read by this version: {error}"
        if isinstance(text, str) and f'"{LOST}"' in text:
            why = DEFINITION_LOST
        return _from_columns(row), why[:WHY_CHARS_MAX]


@lru_cache(REMEMBERED_MAX)
def _decoded(text: str) -> Definition:
    return decode_definition(json.loads(text))


def read_object(text: str | None) -> Any:
    """A stored JSON value that is only shown; None where it cannot be read."""
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def park(connection: sqlite3.Connection, row: int, why: str) -> None:
    """Leave this action out of everything that is due, until a version that can handle it."""
    connection.execute(
        "UPDATE actions SET parked = ? WHERE row = ?", (why[:WHY_CHARS_MAX] or "?", row)
    )


def unpark_all(connection: sqlite3.Connection) -> int:
    """After an upgrade: what was parked is looked at again; how many that are."""
    return sum(
        connection.execute(f"UPDATE {table} SET parked = NULL WHERE parked IS NOT NULL").rowcount
        for table in _TABLES
    )


def count_parked(connection: sqlite3.Connection) -> int:
    """How many actions wait or run and are parked, counted up to `PARKED_COUNTED_MAX`."""
    return int(
        connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM actions WHERE parked IS NOT NULL"
            " AND execution_status IN ('NULL', 'STARTED') LIMIT ?)",
            (PARKED_COUNTED_MAX,),
        ).fetchone()[0]
    )


def causes(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """The commonest reasons why actions are parked, without their details, and how many each."""
    rows = connection.execute(
        "SELECT substr(parked, 1, instr(parked || ':', ':') - 1) AS why, count(*) AS number"
        " FROM (SELECT parked FROM actions WHERE parked IS NOT NULL"
        " AND execution_status IN ('NULL', 'STARTED') LIMIT ?)"
        " GROUP BY why ORDER BY number DESC, why LIMIT ?",
        (PARKED_COUNTED_MAX, CAUSES_MAX),
    )
    return [(row["why"], row["number"]) for row in rows]


def _from_columns(row: sqlite3.Row) -> Definition:
    names = read_object(row["app_names"])
    nominal = row["nominal_at"]
    return Definition(
        id=row["id"],
        kind=row["kind"],
        owner=Owner.CORE if row["owner"] == Owner.CORE.value else Owner.NODE,
        revision=row["revision"],
        app_names=tuple(str(name) for name in names) if isinstance(names, list) else (),
        requires=(LOST if f'"{LOST}"' in row["definition"] else UNREADABLE,),
        recurring_id=row["recurring_id"],
        nominal_at=None if nominal is None else from_us(nominal),
    )
