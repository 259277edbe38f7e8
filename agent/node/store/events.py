"""The SQL of the `events` table: history of every action, and the outbox in one.

Events after `acked_seq` (see `store.meta`) are what the core has not acknowledged yet.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.domain.instants import format_instant, from_us, to_us
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
    rows = connection.execute(
        "SELECT seq, mark, type, at, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
        (seq, limit),
    )
    return [_from_row(row) for row in rows]


def of_action(connection: sqlite3.Connection, row: int, limit: int) -> list[Event]:
    """The history of one action, oldest first; of a longer one, the newest `limit`."""
    rows = connection.execute(
        "SELECT seq, mark, type, at, body FROM events WHERE row = ? ORDER BY seq DESC LIMIT ?",
        (row, limit),
    ).fetchall()
    return [_from_row(row) for row in reversed(rows)]


def oldest_seq(connection: sqlite3.Connection) -> int:
    """The lowest number still held; the next one where none is."""
    held = connection.execute("SELECT min(seq) FROM events").fetchone()[0]
    return next_seq(connection) if held is None else int(held)


def _from_row(row: sqlite3.Row) -> Event:
    return Event(
        seq=row["seq"],
        mark=row["mark"],
        type=row["type"],
        at=from_us(row["at"]),
        body=json.loads(row["body"]),
    )
