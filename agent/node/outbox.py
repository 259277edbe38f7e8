"""The bound on what a core that stays away leaves to be told (DESIGN §6): folded, and counted.

Beyond the bound the oldest finished actions keep their last event only; if that is not enough the
oldest events go altogether, and the whole state is owed instead. What is left out is a `gap` event
in its place, so that the core sees how many are missing and the numbers stay without holes.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from functools import partial
from typing import Any

from agent.domain.ids import RandomBits, new_mark
from agent.domain.instants import to_us
from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.ports import Store
from agent.node.store.meta import read_meta, write_meta
from agent.wire import strict_json
from agent.wire.messages import GAP

OUTBOX_ROWS_MAX = 1_000_000
BATCH = 5_000  # events per transaction, so that nobody waits for a great fold
REASON = "outbox_full"


async def bound_outbox(
    store: Store, clock: Clock, random_bits: RandomBits, log: Any, rows_max: int = OUTBOX_ROWS_MAX
) -> int:
    """Fold until the outbox is within its bound; how many events were left out."""
    left_out = 0
    after: int | None = (await store.read(read_meta)).acked_seq
    while after is not None and await store.read(count) > rows_max:
        batch = partial(fold, after=after, mark=new_mark(random_bits), now=clock.now())
        done, after = await store.write(batch)
        left_out += done
    excess = await store.read(count) - rows_max
    while excess > 0:
        most = min(excess, BATCH)
        oldest = partial(cut, most=most, mark=new_mark(random_bits), now=clock.now())
        done = await store.write(oldest)
        left_out += done
        excess -= done
    if left_out:
        log.warning(log_events.OUTBOX_FOLDED, events=left_out, rows_max=rows_max)
    return left_out


def count(connection: sqlite3.Connection) -> int:
    """Rows that the core has not acknowledged."""
    found = connection.execute(
        "SELECT count(*) FROM events WHERE seq > ?", (read_meta(connection).acked_seq,)
    )
    return int(found.fetchone()[0])


def fold(
    connection: sqlite3.Connection, after: int, mark: str, now: datetime
) -> tuple[int, int | None]:
    """Fold a batch behind `after`; how many events went, and where to go on (None: at the end)."""
    rows = connection.execute(
        "SELECT seq, type, body, EXISTS (SELECT 1 FROM actions WHERE actions.row = events.row"
        " AND execution_status NOT IN ('NULL', 'STARTED')) AND seq < (SELECT max(seq)"
        " FROM events AS later WHERE later.row = events.row) AS superseded"
        " FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
        (after, BATCH),
    ).fetchall()
    gone, run = 0, []
    for row in rows:
        if row["superseded"] or row["type"] == GAP:
            run.append(row)
            continue
        gone += _replace(connection, run, f"{mark[:-4]}{gone % 65536:04x}", now)
        run = []
    gone += _replace(connection, run, f"{mark[:-4]}{gone % 65536:04x}", now)
    return gone, rows[-1]["seq"] if len(rows) == BATCH else None


def cut(connection: sqlite3.Connection, most: int, mark: str, now: datetime) -> int:
    """Leave out the oldest events whatever they are; the state then owed tells how things stand."""
    rows = connection.execute(
        "SELECT seq, type, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
        (read_meta(connection).acked_seq, most + 1),
    ).fetchall()
    write_meta(connection, state_owed=read_meta(connection).state_owed + 1)
    return max(1, _replace(connection, rows, mark, now))


def _replace(
    connection: sqlite3.Connection, run: list[sqlite3.Row], mark: str, now: datetime
) -> int:
    """One gap instead of neighbouring events; how many rows that saves."""
    if len(run) < 2:
        return 0
    first, last = run[0], run[-1]["seq"]
    begin = strict_json.decode(first["body"])["first"] if first["type"] == GAP else first["seq"]
    connection.execute("DELETE FROM events WHERE seq BETWEEN ? AND ?", (first["seq"], last))
    body = {"first": begin, "last": last, "reason": REASON}
    connection.execute(
        "INSERT INTO events (seq, mark, row, type, at, body) VALUES (?, ?, NULL, ?, ?, ?)",
        (last, mark, GAP, to_us(now), strict_json.encode_text(body)),
    )
    return len(run) - 1
