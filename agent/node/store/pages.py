"""Lists of actions in pages that lose no row: by key, not by offset (CHECKLIST 3).

What is queued comes oldest first, what has ended newest first, each with a cursor to go on.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from agent.domain.action import Action
from agent.domain.errors import Fault, InvalidDocument
from agent.node.store.actions import _SELECT, _from_row

PAGE_MAX = 500
PAGE_DEFAULT = 100
PAGE_BYTES_MAX = 2 * 1024 * 1024  # of definitions: five hundred of the largest would be 80 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which actions: `view` is all, queue or finished; `status` and `kind` narrow it."""

    view: str = "all"
    status: tuple[str, ...] = ()
    kind: str | None = None
    limit: int = PAGE_DEFAULT
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page, shorter than asked where actions are large; `next` goes on, None at the end."""

    actions: list[Action]
    next: str | None


_ORDER = {
    # view: (condition, key column, direction)
    "all": ("1", "row", "ASC"),
    "queue": ("execution_status IN ('NULL', 'STARTED')", "coalesce(due_at, started_at)", "ASC"),
    "finished": ("execution_status NOT IN ('NULL', 'STARTED')", "ended_at", "DESC"),
}


def page(connection: sqlite3.Connection, query: Query) -> Page:
    """The page that `query` asks for. Raises `InvalidDocument` for a cursor that is none."""
    condition, key, direction = _ORDER[query.view]
    conditions, values = [condition], []
    if query.status:
        conditions.append(f"execution_status IN ({', '.join('?' * len(query.status))})")
        values += list(query.status)
    if query.kind is not None:
        conditions.append("kind = ?")
        values.append(query.kind)
    if query.after is not None:
        conditions.append(f"({key}, row) {'>' if direction == 'ASC' else '<'} (?, ?)")
        values += _cursor_values(query.after)
    select = _SELECT.replace("SELECT ", f"SELECT {key} AS page_key, ", 1)
    found = connection.execute(
        f"{select} WHERE {' AND '.join(conditions)}"
        f" ORDER BY {key} {direction}, row {direction} LIMIT ?",
        (*values, query.limit + 1),
    )
    rows, more = _as_many_as_fit(found, query.limit)
    cursor = f"{rows[-1]['page_key']}-{rows[-1]['row']}" if more else None
    return Page([_from_row(row) for row in rows], cursor)


def _as_many_as_fit(found: sqlite3.Cursor, limit: int) -> tuple[list[sqlite3.Row], bool]:
    """Rows up to the page's bounds, and whether there are more."""
    rows: list[sqlite3.Row] = []
    size = 0
    for row in found:
        if len(rows) == limit or size > PAGE_BYTES_MAX:
            found.close()
            return rows, True
        rows.append(row)
        size += len(row["definition"])
    return rows, False


def cursor_behind(action: Action) -> str:
    """The cursor of view `all` that continues after this action."""
    return f"{action.row}-{action.row}"


def _cursor_values(cursor: str) -> list[Any]:
    key, _, row = cursor.rpartition("-")
    try:
        return [int(key), int(row)]
    except ValueError:
        raise InvalidDocument(
            [Fault("after", f"{cursor[:40]!r} is not a cursor; take `next` of the page before")]
        ) from None
