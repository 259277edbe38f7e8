"""Forgetting finished actions by age and number; with a core, only what it has acknowledged."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from agent.domain.instants import to_us
from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.ports import Runner, RunnerAway, RunnerRefused, Store
from agent.node.pulling import kept_for_backend
from agent.node.store import events, recurring
from agent.node.store.meta import read_meta, write_meta

WITHOUT_BACKUP_DAYS = 7  # so much longer is waited for a backup, and
WITHOUT_BACKUP_FACTOR = 2  # so many times `keep_finished`: a disk must not fill up for want of one
ENDED_RULES_KEPT_MAX = 10_000  # recurring actions that are over, whatever their age
BATCH = 500  # rows per look, and per request to the runner
REMOVED_AT_ONCE = 50  # rows per transaction: of 64 KiB each, so that nobody waits for a clean-up


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept: at most `keep_days` old, at most `keep_finished` many.

    With a core nothing goes before it is acknowledged; a node that has none any more prunes alone.
    """

    keep_days: int
    keep_finished: int
    has_core: bool = True
    waits_for_backup: bool = False
    """Whether a verified backup must hold the final status first; for a while, if none succeeds."""


async def prune(store: Store, runner: Runner, clock: Clock, retention: Retention, log: Any) -> int:
    """Remove what is beyond retention; returns how many actions.

    The runner forgets first: rows without files can be seen and pruned again, the reverse not.
    """
    before = clock.now() - timedelta(days=retention.keep_days)
    removed = unsaved = 0
    while True:
        gone = await store.read(lambda c: choose(c, before, retention))
        in_no_backup = await store.read(partial(count_unsaved, rows=gone, retention=retention))
        runs = [(row, start_no) for row, last in gone for start_no in range(1, last + 1)]
        if runs:
            try:
                await runner.forget(runs)
            except (RunnerAway, RunnerRefused):
                break  # next time
        for begin in range(0, len(gone), REMOVED_AT_ONCE):
            rows = [row for row, _ in gone[begin : begin + REMOVED_AT_ONCE]]
            await store.write(partial(remove, rows=rows))
        removed, unsaved = removed + len(gone), unsaved + in_no_backup
        if len(gone) < BATCH:
            break
    await store.write(lambda c: remove_unattached(c, before, retention))
    while await store.write(lambda c: remove_ended_rules(c, before)) == BATCH:
        pass  # the next ones
    if unsaved:
        log.warning(log_events.PRUNED_WITHOUT_BACKUP, actions=unsaved)
    if removed:
        log.info(log_events.PRUNED, actions=removed)
    return removed


def choose(
    connection: sqlite3.Connection, before: datetime, retention: Retention
) -> list[tuple[int, int]]:
    """Up to `BATCH` of the oldest that may go: (row, start_no) of each."""
    total = connection.execute(
        "SELECT coalesce(sum(number), 0) FROM counts WHERE status NOT IN ('NULL', 'STARTED')"
    ).fetchone()[0]
    excess = max(0, int(total) - retention.keep_finished)
    surplus = max(0, int(total) - retention.keep_finished * WITHOUT_BACKUP_FACTOR)
    too_old = before - timedelta(days=WITHOUT_BACKUP_DAYS)
    saved = _saved(connection, retention)
    acknowledged = _acknowledged(connection, before, retention)
    candidates = connection.execute(
        "SELECT row, start_no, ended_at FROM actions"
        " WHERE execution_status NOT IN ('NULL', 'STARTED') ORDER BY ended_at, row LIMIT ?",
        (BATCH,),
    ).fetchall()
    chosen = []
    for position, row in enumerate(candidates):
        if position >= excess and row["ended_at"] >= to_us(before):
            break
        newest = events.newest_of(connection, row["row"])
        overdue = position < surplus or row["ended_at"] < to_us(too_old)
        if newest is None or newest <= (acknowledged if overdue else min(acknowledged, saved)):
            chosen.append((row["row"], row["start_no"]))
    return chosen


def count_unsaved(
    connection: sqlite3.Connection, rows: list[tuple[int, int]], retention: Retention
) -> int:
    """How many of these no backup holds: too many or too old to wait for one any longer."""
    saved = _saved(connection, retention)
    return sum((events.newest_of(connection, row) or 0) > saved for row, _ in rows)


def waits_for_backup(
    connection: sqlite3.Connection, clock_now: datetime, retention: Retention
) -> bool:
    """Whether something would go if only a backup held it."""
    before = clock_now - timedelta(days=retention.keep_days)
    unhindered = replace(retention, waits_for_backup=False)
    return len(choose(connection, before, unhindered)) > len(choose(connection, before, retention))


def remove(connection: sqlite3.Connection, rows: list[int]) -> None:
    """Forget these actions and their events; their numbers stay used."""
    if not rows:
        return
    meta = read_meta(connection)
    newest_row = connection.execute("SELECT max(row) FROM actions").fetchone()[0] or 0
    newest_seqs = [events.newest_of(connection, row) or 0 for row in rows]
    write_meta(
        connection,
        row_floor=max(newest_row, meta.row_floor),
        seq_floor=events.next_seq(connection) - 1,
        pruned_seq=max(meta.pruned_seq, *newest_seqs),
    )
    for row in rows:
        connection.execute("DELETE FROM events WHERE row = ?", (row,))
        connection.execute("DELETE FROM actions WHERE row = ?", (row,))


def remove_unattached(
    connection: sqlite3.Connection, before: datetime, retention: Retention
) -> int:
    """Forget events of no action here (refused definitions, gaps): as old, and as many."""
    surplus = connection.execute(
        "SELECT seq FROM events WHERE row IS NULL ORDER BY seq DESC LIMIT 1 OFFSET ?",
        (retention.keep_finished,),
    ).fetchone()
    newest = connection.execute(
        "SELECT max(seq) FROM events WHERE row IS NULL AND seq <= ? AND (at < ? OR seq <= ?)",
        (_acknowledged(connection, before, retention), to_us(before), surplus[0] if surplus else 0),
    ).fetchone()[0]
    if newest is None:
        return 0
    write_meta(
        connection,
        seq_floor=events.next_seq(connection) - 1,
        pruned_seq=max(read_meta(connection).pruned_seq, newest),
    )
    return connection.execute(
        "DELETE FROM events WHERE row IS NULL AND seq <= ?", (newest,)
    ).rowcount


def _saved(connection: sqlite3.Connection, retention: Retention) -> int:
    """The newest event that a verified backup holds."""
    if not retention.waits_for_backup:
        return events.next_seq(connection)
    return read_meta(connection).backup_seq


def remove_ended_rules(connection: sqlite3.Connection, before: datetime) -> int:
    """Forget recurring actions that are over for so long, or are too many."""
    gone = list(recurring.ended_ids(connection, before, ENDED_RULES_KEPT_MAX, BATCH))
    for rule_id in gone:
        recurring.delete(connection, rule_id)
    return len(gone)


def _acknowledged(connection: sqlite3.Connection, before: datetime, retention: Retention) -> int:
    """The newest event that nobody waits for: neither the core nor a backend that pulls."""
    meta = read_meta(connection)
    owes = meta.enrolled and retention.has_core
    acked = meta.acked_seq if owes else events.next_seq(connection)
    pulled = kept_for_backend(connection, before + timedelta(days=retention.keep_days))
    return acked if pulled is None else min(acked, pulled)
