"""The SQL of the `events` table: history of every action, and the outbox in one.

Events after `acked_seq` (see `store.meta`) are what the core has not acknowledged yet.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from agent.domain.instants import format_instant, from_us, to_us
from agent.node.store.meta import read_meta
from agent.wire import strict_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A recorded fact with its number and mark."""

    seq: int
    mark: str
    type: str
    at: datetime
    body: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """As the wire has it: flat."""
        head = {
            "seq": self.seq,
            "mark": self.mark,
            "type": self.type,
            "at": format_instant(self.at),
        }
        return head | dict(self.body)


def append(
    connection: sqlite3.Connection,
    *,
    mark: str,
    type: str,  # noqa: A002  (the wire's word)
    at: datetime,
    row: int | None,
    body: Mapping[str, Any],
) -> int:
    """Add an event; returns its number, which rises by one with each."""
    seq = next_seq(connection)
    connection.execute(
        "INSERT INTO events (seq, mark, row, type, at, body) VALUES (?, ?, ?, ?, ?, ?)",
        (seq, mark, row, type, to_us(at), strict_json.encode_text(body)),
    )
    return seq


def next_seq(connection: sqlite3.Connection) -> int:
    """The number that the next event gets; pruned numbers are never given again."""
    newest = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
    kept = connection.execute("SELECT value FROM meta WHERE key = 'seq_floor'").fetchone()
    return max(int(newest), int(kept[0]) if kept else 0) + 1


def after(connection: sqlite3.Connection, seq: int, limit: int) -> list[Event]:
    """Events with a higher number, in order."""
    return list(each_after(connection, seq, limit))


def each_after(
    connection: sqlite3.Connection, seq: int, limit: int
) -> Generator[Event, None, None]:
    """As `after`, one by one, for a reader who takes as many bytes as it may."""
    rows = connection.execute(
        "SELECT seq, mark, type, at, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
        (seq, limit),
    )
    try:
        yield from map(_from_row, rows)
    finally:
        rows.close()  # an unfinished read would keep the log from being written back


def of_action(connection: sqlite3.Connection, row: int, limit: int) -> list[Event]:
    """The history of one action, oldest first; of a longer one, the newest `limit`."""
    rows = connection.execute(
        "SELECT seq, mark, type, at, body FROM events WHERE row = ? ORDER BY seq DESC LIMIT ?",
        (row, limit),
    ).fetchall()
    return [_from_row(row) for row in reversed(rows)]


def newest_of(connection: sqlite3.Connection, row: int) -> int | None:
    """The number of an action's latest event."""
    found = connection.execute("SELECT max(seq) FROM events WHERE row = ?", (row,)).fetchone()[0]
    return None if found is None else int(found)


def of_rule(connection: sqlite3.Connection, rule_id: str, limit: int) -> list[Event]:
    """What happened to a recurring action itself, oldest first; of more, the newest `limit`.

    Its events hang on no row, and stand among few others that do not either.
    """
    rows = connection.execute(
        "SELECT seq, mark, type, at, body FROM events WHERE row IS NULL AND instr(body, ?) > 0"
        " ORDER BY seq DESC",
        (f'"{rule_id}"',),
    )
    with closing(rows):
        found = (event for event in map(_from_row, rows) if event.body.get("action_id") == rule_id)
        return list(islice(found, limit))[::-1]


def oldest_seq(connection: sqlite3.Connection) -> int:
    """The lowest number from which on every event is held, or stands in a gap that is.

    Older ones may be there too, of actions that are kept for longer than others.
    """
    return read_meta(connection).pruned_seq + 1


def _read_body(text: str) -> Mapping[str, Any]:
    """What rotted on the disk is told as that: the core stores it as `unreadable` and goes on."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    return body if isinstance(body, dict) else {"unreadable": "its stored body is damaged"}


def _from_row(row: sqlite3.Row) -> Event:
    return Event(
        seq=row["seq"],
        mark=row["mark"],
        type=row["type"],
        at=from_us(row["at"]),
        body=_read_body(row["body"]),
    )
