"""The SQL of the `brakes` table, and the only mapping between its rows and `Brake`.

A brake that is over stays in the table until nothing is shelved under its number any more
(`agent.node.store.actions.shelve`): so a number never means another brake while it is in use.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Any

from agent.domain.brake import Brake
from agent.domain.instants import from_us, to_us
from agent.node.store import actions
from agent.node.store.meta import read_meta, write_meta

UNSHELVED_PER_TURN_MAX = 2_000  # so that a hundred thousand let go at once do not hold up exits

_SELECT = "SELECT * FROM brakes"  # a new agentctl may look before the new agentd has migrated


def insert(connection: sqlite3.Connection, values: dict[str, Any], now: datetime) -> Brake:
    """A new brake with a number that was never used before; `values` are its other members."""
    number = read_meta(connection).brake_no + 1
    write_meta(connection, brake_no=number)
    brake = Brake(id=number, created_at=now, **values)
    put_back(connection, brake)
    return brake


def put_back(connection: sqlite3.Connection, brake: Brake) -> None:
    """As it is, number and all."""
    expires_at = None if brake.expires_at is None else to_us(brake.expires_at)
    connection.execute(
        "INSERT OR REPLACE INTO brakes"
        " (id, kind, labels, reason, by, created_at, expires_at, elapses, freeze)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            brake.id, brake.kind, json.dumps(dict(brake.labels), sort_keys=True), brake.reason,
            brake.by, to_us(brake.created_at), expires_at, brake.elapses,
            brake.freeze,
        ),
    )  # fmt: skip


def active(connection: sqlite3.Connection, now: datetime | None) -> list[Brake]:
    """Those that hold at `now`, oldest first; None: the time is in doubt, and none expires."""
    rows = connection.execute(f"{_SELECT} ORDER BY id")
    found = [_from_row(row) for row in rows]
    return [brake for brake in found if not _is_over(brake, now)]


def lift(connection: sqlite3.Connection, number: int) -> None:
    """End a brake, whatever the clock says. What it held is put back by the next turns."""
    connection.execute("UPDATE brakes SET expires_at = created_at WHERE id = ?", (number,))


def shift(connection: sqlite3.Connection, now: datetime, by_s: float) -> None:
    """Move those that were given for a length of time along with a wall clock that was set.

    Not those that were over by the old clock, nor what was set since by the new one.
    """
    by_us, at = round(by_s * 1_000_000), to_us(now)
    connection.execute(
        "UPDATE brakes SET created_at = created_at + ?1, expires_at = expires_at + ?1"
        " WHERE elapses AND expires_at <> created_at AND expires_at > ?2 AND created_at <= ?3",
        (by_us, min(at, at - by_us), at - by_us),
    )


def let_go(connection: sqlite3.Connection, now: datetime | None) -> tuple[list[Brake], bool]:
    """Put back some of what brakes that are over held, and forget those that hold nothing more.

    Those that were forgotten, and whether there is more to do.
    """
    gone: list[Brake] = []
    room = UNSHELVED_PER_TURN_MAX
    for row in connection.execute(f"{_SELECT} ORDER BY id").fetchall():
        brake = _from_row(row)
        if not _is_over(brake, now):
            continue
        room -= actions.unshelve(connection, brake.id, room)
        if room <= 0:
            return gone, True
        connection.execute("DELETE FROM brakes WHERE id = ?", (brake.id,))
        gone.append(brake)
    return gone, False


def next_expiry(connection: sqlite3.Connection, now: datetime) -> datetime | None:
    """The next instant after `now` at which a brake expires."""
    found = connection.execute(
        "SELECT min(expires_at) FROM brakes WHERE expires_at > ?", (to_us(now),)
    ).fetchone()[0]
    return None if found is None else from_us(found)


def _is_over(brake: Brake, now: datetime | None) -> bool:
    """Lifted (which needs no clock), or expired."""
    if brake.expires_at == brake.created_at:
        return True
    return now is not None and brake.has_expired(now)


def _from_row(row: sqlite3.Row) -> Brake:
    return Brake(
        id=row["id"],
        kind=row["kind"],
        labels=json.loads(row["labels"]),
        reason=row["reason"],
        by=row["by"],
        created_at=from_us(row["created_at"]),
        expires_at=None if row["expires_at"] is None else from_us(row["expires_at"]),
        elapses=bool(row["elapses"]),
        freeze=row["freeze"] if "freeze" in row.keys() else None,  # noqa: SIM118  (no mapping)
    )
