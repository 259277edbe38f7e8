"""Forgetting finished actions by age and number; with a core, only what it has acknowledged."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from agent.domain.instants import to_us
from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.ports import Runner, RunnerAway, RunnerRefused, Store
from agent.node.store import events
from agent.node.store.meta import read_meta, write_meta

BATCH = 500  # rows per transaction, so that nobody waits for a great clean-up


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept: at most `keep_days` old, at most `keep_finished` many.

    With a core nothing goes before it is acknowledged; a node that has none any more prunes alone.
    """

    keep_days: int
    keep_finished: int
    has_core: bool = True


async def prune(store: Store, runner: Runner, clock: Clock, retention: Retention, log: Any) -> int:
    """Remove what is beyond retention; returns how many actions."""
    before = clock.now() - timedelta(days=retention.keep_days)
    removed = 0
    while True:
        gone = await store.write(lambda c: prune_batch(c, before, retention))
        removed += len(gone)
        runs = [(row, start_no) for row, last in gone for start_no in range(1, last + 1)]
        if runs:
            try:
                await runner.forget(runs)
            except (RunnerAway, RunnerRefused):
                break  # its files outlive their rows until the next pruning of the runs directory
        if len(gone) < BATCH:
            break
    if removed:
        log.info(log_events.PRUNED, actions=removed)
    return removed


def prune_batch(
    connection: sqlite3.Connection, before: datetime, retention: Retention
) -> list[tuple[int, int]]:
    """Remove up to `BATCH` of the oldest; returns (row, start_no) of each."""
    total = connection.execute(
        "SELECT coalesce(sum(number), 0) FROM counts WHERE status NOT IN ('NULL', 'STARTED')"
    ).fetchone()[0]
    excess = max(0, int(total) - retention.keep_finished)
    meta = read_meta(connection)
    owes = meta.enrolled and retention.has_core
    acknowledged = meta.acked_seq if owes else events.next_seq(connection)
    candidates = connection.execute(
        "SELECT row, start_no, ended_at FROM actions"
        " WHERE execution_status NOT IN ('NULL', 'STARTED') ORDER BY ended_at, row LIMIT ?",
        (BATCH,),
    ).fetchall()
    gone = []
    for position, row in enumerate(candidates):
        if position >= excess and row["ended_at"] >= to_us(before):
            break
        newest = connection.execute(
            "SELECT max(seq) FROM events WHERE row = ?", (row["row"],)
        ).fetchone()[0]
        if newest is None or newest <= acknowledged:
            gone.append((row["row"], row["start_no"]))
    _delete(connection, [row for row, _ in gone])
    return gone


def _delete(connection: sqlite3.Connection, rows: list[int]) -> None:
    if not rows:
        return
    newest_row = connection.execute("SELECT max(row) FROM actions").fetchone()[0]
    write_meta(connection, row_floor=max(newest_row, read_meta(connection).row_floor))
    write_meta(connection, seq_floor=events.next_seq(connection) - 1)
    for row in rows:
        connection.execute("DELETE FROM events WHERE row = ?", (row,))
        connection.execute("DELETE FROM actions WHERE row = ?", (row,))
