"""Which running occurrences are in the way of a waiting one, under `overlap: cancel_running`."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from agent.domain.instants import from_us, to_us
from agent.domain.schedule.recurrence import LATE_S_MAX, occurrence_id

LATE_US_MAX = round(LATE_S_MAX * 1_000_000)
# Asked at every turn: from what runs, which is little, to open ones of the same recurring action.
# Several that were accepted together are late ones (`catch_up`), and the newest behind them.
_IN_THE_WAY = """
    SELECT runs.row AS running, waits.row AS waiting, waits.id, waits.recurring_id, waits.nominal_at
    FROM actions AS runs INDEXED BY actions_started
    JOIN actions AS waits INDEXED BY actions_occurring
        ON waits.recurring_id = runs.recurring_id
        AND waits.execution_status IN ('NULL', 'STARTED')
    JOIN recurring ON recurring.id = runs.recurring_id AND recurring.revision = waits.revision
    WHERE runs.execution_status = 'STARTED' AND runs.recurring_id IS NOT NULL
        AND runs.stop_cause IS NULL AND runs.parked IS NULL
        AND waits.execution_status = 'NULL' AND waits.parked IS NULL AND waits.attempt = 0
        AND waits.due_at <= ?1 AND waits.accepted_at - waits.due_at <= ?2
        AND runs.started_at < max(waits.accepted_at, waits.due_at)
        AND NOT EXISTS (
            SELECT 1 FROM actions AS late INDEXED BY actions_occurring
            WHERE late.recurring_id = waits.recurring_id
                AND late.execution_status IN ('NULL', 'STARTED')
                AND late.accepted_at = waits.accepted_at AND late.row <> waits.row)
        AND CASE WHEN json_valid(recurring.definition)
            THEN json_extract(recurring.definition, '$.schedule.overlap') END = 'cancel_running'
"""


def in_the_way(connection: sqlite3.Connection, now: datetime) -> list[tuple[int, int]]:
    """Rows that run, each with a due one of its recurring action that is to take its place.

    What ran when that one fell due, and was planned by this revision of the rule. Late ones and
    those by hand wait their turn.
    """
    rows = connection.execute(_IN_THE_WAY, (to_us(now), LATE_US_MAX))
    return [
        (row["running"], row["waiting"])
        for row in rows
        if row["id"] == occurrence_id(row["recurring_id"], from_us(row["nominal_at"]))
    ]
