"""What the doctor measures in `agent.db`: on a connection of its own, within a time limit.

The connection only reads, so the writer is never held up; a measurement that does not end in its
time says so and is not a fault. Pure judgement is in `agent.node.doctor.judge_database`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from agent.domain.brake import Brake
from agent.domain.instants import from_us
from agent.node.outbox import count as count_outbox
from agent.node.store import actions, brakes, events
from agent.node.store.connection import open_for_reading
from agent.node.store.meta import Meta, read_meta
from agent.node.store.parking import causes, count_parked
from agent.wire import strict_json
from agent.wire.messages import GAP

INTEGRITY_S_MAX = 0.8  # of the two seconds that the whole doctor may take
COUNTING_S_MAX = 0.3
FAULTS_MAX = 10
ZONES_MAX = 600  # there are about so many in the world
STEPS_BETWEEN_LOOKS = 20_000  # of SQLite's machine: about a millisecond

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFound:
    """Everything that the database's checks judge. None: not measured within the time."""

    integrity: tuple[str, ...] | None
    counts_kept: Mapping[str, int]
    counts_real: Mapping[str, int] | None
    events_missing: int | None
    """Numbers between the oldest event held and the newest that neither an event nor a gap has."""
    meta: Meta
    newest_seq: int
    outbox: int
    oldest_unsent_at: datetime | None
    parked: int
    parked_why: tuple[tuple[str, int], ...] = ()
    refused: int
    brakes: tuple[Brake, ...]
    zones: frozenset[str]
    """Those that recurring actions here name."""


def examine_database(path: Path, monotonic: Callable[[], float]) -> DatabaseFound:
    """Measure all of it. `sqlite3.Error` where it cannot even be read."""
    with closing(open_for_reading(path)) as connection:

        def within(seconds: float, look: Callable[[sqlite3.Connection], T]) -> T | None:
            return _within(connection, monotonic, seconds, look)

        meta = read_meta(connection)
        return DatabaseFound(
            integrity=within(INTEGRITY_S_MAX, _quick_check),
            counts_kept=actions.counts(connection),
            counts_real=within(COUNTING_S_MAX, _count_actions),
            events_missing=within(COUNTING_S_MAX, _count_missing_events),
            meta=meta,
            newest_seq=events.next_seq(connection) - 1,
            outbox=count_outbox(connection) if meta.enrolled else 0,
            oldest_unsent_at=_oldest_unsent(connection, meta) if meta.enrolled else None,
            parked=count_parked(connection),
            parked_why=tuple(causes(connection)),
            refused=connection.execute("SELECT count(*) FROM refused").fetchone()[0],
            brakes=tuple(brakes.active(connection, None)),
            zones=_zones(connection),
        )


def _within(
    connection: sqlite3.Connection,
    monotonic: Callable[[], float],
    seconds: float,
    look: Callable[[sqlite3.Connection], T],
) -> T | None:
    """The result of a look that is given up after so many seconds (then None)."""
    deadline = monotonic() + seconds
    connection.set_progress_handler(lambda: monotonic() > deadline, STEPS_BETWEEN_LOOKS)
    try:
        return look(connection)
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return None
    finally:
        connection.set_progress_handler(None, 0)


def _quick_check(connection: sqlite3.Connection) -> tuple[str, ...]:
    rows = connection.execute(f"PRAGMA quick_check({FAULTS_MAX})")
    return tuple(str(row[0]) for row in rows if row[0] != "ok")


def _count_actions(connection: sqlite3.Connection) -> dict[str, int]:
    """By status, as the rows have it."""
    found = connection.execute(
        "SELECT execution_status, count(*) FROM actions GROUP BY execution_status"
    )
    return dict(found.fetchall())


def _count_missing_events(connection: sqlite3.Connection) -> int:
    """What is missing behind the newest event that was forgotten on purpose."""
    connection.execute("BEGIN")
    try:
        behind = read_meta(connection).pruned_seq
        newest, held = connection.execute(
            "SELECT max(seq), count(*) FROM events WHERE seq > ?", (behind,)
        ).fetchone()
        if newest is None:
            return 0
        missing = int(newest) - behind - int(held)
        if missing:
            missing -= _told_as_gaps(connection, behind)
        return missing
    finally:
        connection.execute("ROLLBACK")


def _told_as_gaps(connection: sqlite3.Connection, behind: int) -> int:
    gaps = connection.execute(
        "SELECT seq, body FROM events WHERE seq > ? AND type = ?", (behind, GAP)
    )
    told = 0
    for gap in gaps:
        body = strict_json.decode(gap["body"])
        told += int(body["last"]) - max(int(body["first"]), behind + 1)
    return told


def _zones(connection: sqlite3.Connection) -> frozenset[str]:
    rows = connection.execute(
        "SELECT DISTINCT CASE WHEN json_valid(definition) THEN"
        " json_extract(definition, '$.schedule.timezone') END AS zone FROM recurring LIMIT ?",
        (ZONES_MAX,),
    )
    return frozenset(row["zone"] for row in rows if row["zone"])


def _oldest_unsent(connection: sqlite3.Connection, meta: Meta) -> datetime | None:
    found = connection.execute(
        "SELECT at FROM events WHERE seq > ? ORDER BY seq LIMIT 1", (meta.acked_seq,)
    ).fetchone()
    return None if found is None else from_us(found["at"])
