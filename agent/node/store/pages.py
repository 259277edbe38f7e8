"""Lists of actions in pages that lose no row: by key, not by offset (CHECKLIST 3).

What is queued comes oldest first, what has ended newest first, each with a cursor to go on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.domain.action import Action
from agent.domain.errors import Fault, InvalidDocument
from agent.domain.instants import to_us
from agent.domain.lane import Lane
from agent.node.store.actions import _SELECT, _from_row

PAGE_MAX = 500
PAGE_DEFAULT = 100
PAGE_BYTES_MAX = 2 * 1024 * 1024  # of definitions: five hundred of the largest would be 80 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which actions: `view` is all, queue or finished; the others narrow it."""

    view: str = "all"
    status: tuple[str, ...] = ()
    kind: str | None = None
    recurring: str | None = None
    """The occurrences of this recurring action only."""
    since: datetime | None = None
    until: datetime | None = None
    """[since, until) of the view's own instant: when it is due or was started, or ended."""
    limit: int = PAGE_DEFAULT
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page, shorter than asked where actions are large; `next` goes on, None at the end."""

    actions: list[Action]
    next: str | None


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that one index has in the order of `key`; parts are merged, so nothing is sorted."""

    condition: str
    key: str
    index: str = ""


_WAITING = (
    "execution_status = 'NULL' AND parked IS NULL AND parallel = {lane} AND braked IS {braked}"
)
_BY_BRAKE = {"NULL": "INDEXED BY actions_due", "NOT NULL": "INDEXED BY actions_braked"}
_VIEWS: Mapping[str, tuple[str, tuple[_Part, ...]]] = {
    # view: (direction, parts)
    "all": ("ASC", (_Part("1", "row"),)),
    "queue": (
        "ASC",
        (
            *(
                _Part(_WAITING.format(lane=lane.value, braked=braked), "due_at", index)
                for lane in Lane
                for braked, index in _BY_BRAKE.items()
            ),
            # Few, both: what runs at once is bounded, and only a downgrade parks.
            _Part("execution_status = 'STARTED'", "started_at", "INDEXED BY actions_started"),
            _Part(
                "execution_status = 'NULL' AND parked IS NOT NULL",
                "coalesce(due_at, accepted_at)",
                "INDEXED BY actions_parked",
            ),
        ),
    ),
    "finished": (
        "DESC",
        (_Part("execution_status NOT IN ('NULL', 'STARTED')", "ended_at"),),
    ),
}


def page(connection: sqlite3.Connection, query: Query) -> Page:
    """The page that `query` asks for. Raises `InvalidDocument` for a cursor that is none."""
    direction, parts = _VIEWS[query.view]
    conditions, values = _narrowing(query)
    selects, bound = [], []
    for part in parts:
        wanted = [part.condition, *conditions]
        bound += values
        for limit, sign in ((query.since, ">="), (query.until, "<")):
            if limit is not None:
                wanted.append(f"{part.key} {sign} ?")
                bound.append(to_us(limit))
        if query.after is not None:
            wanted.append(f"({part.key}, row) {'>' if direction == 'ASC' else '<'} (?, ?)")
            bound += _cursor_values(query.after)
        select = _SELECT.replace("SELECT ", f"SELECT {part.key} AS page_key, ", 1)
        selects.append(f"{select} {part.index} WHERE {' AND '.join(wanted)}")
    found = connection.execute(
        f"{' UNION ALL '.join(selects)} ORDER BY page_key {direction}, row {direction} LIMIT ?",
        (*bound, query.limit + 1),
    )
    rows, more = _as_many_as_fit(found, query.limit)
    cursor = f"{rows[-1]['page_key']}-{rows[-1]['row']}" if more else None
    return Page([_from_row(row) for row in rows], cursor)


def _narrowing(query: Query) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if query.status:
        conditions.append(f"execution_status IN ({', '.join('?' * len(query.status))})")
        values += query.status
    if query.kind is not None:
        conditions.append("kind = ?")
        values.append(query.kind)
    if query.recurring is not None:
        conditions.append("recurring_id = ?")
        values.append(query.recurring)
    return conditions, values


def count_ahead(connection: sqlite3.Connection, action: Action, now: datetime, at_most: int) -> int:
    """How many of the action's lane are due before it and wait too, counted up to `at_most`."""
    if action.due_at is None or action.due_at > now:
        return 0
    found = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM actions INDEXED BY actions_due WHERE"
        " execution_status = 'NULL' AND parked IS NULL AND braked IS NULL AND parallel = ?"
        " AND (due_at, row) < (?, ?) LIMIT ?)",
        (action.lane.value, to_us(action.due_at), action.row, at_most),
    )
    return int(found.fetchone()[0])


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
