"""The schema of `agent.db`, as migrations that commit together with their record.

Applied by `agentd` under its lock: sqlite-utils' migrations are not safe for two processes.
Instants are integers, microseconds since 1970 in UTC. Steps are only ever appended.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

migrations = Migrations("node-agent")


@migrations(name="0001_actions_and_events")
def _actions_and_events(db: Database) -> None:
    db["actions"].create(  # type: ignore[union-attr]
        {
            "row": int, "id": str, "owner": str, "kind": str, "revision": int, "definition": str,
            "app_names": str, "parallel": int, "accepted_at": int, "execution_status": str,
            "reason": str, "attempt": int, "start_no": int, "failures": int, "due_at": int,
            "expires_at": int, "started_at": int, "ended_at": int, "exit_code": int,
            "signal": int, "error": str, "verdict": str, "output": str, "stop_cause": str,
            "started_revision": int,
        },
        pk="row",
        not_null={"id", "owner", "kind", "revision", "definition", "parallel", "accepted_at",
                  "execution_status", "attempt", "start_no", "failures"},
    )  # fmt: skip
    db["events"].create(  # type: ignore[union-attr]
        {"seq": int, "mark": str, "row": int, "type": str, "at": int, "body": str},
        pk="seq",
        not_null={"mark", "type", "at", "body"},
    )
    db["meta"].create({"key": str, "value": str}, pk="key")  # type: ignore[union-attr]
    db["refused"].create(  # type: ignore[union-attr]
        {"id": str, "revision": int, "at": int, "faults": str}, pk="id", not_null={"at", "faults"}
    )
    db["counts"].create({"status": str, "number": int}, pk="status")  # type: ignore[union-attr]
    for statement in _INDEXES + _COUNTING:
        db.execute(statement)


@migrations(name="0002_recurring_and_brakes")
def _recurring_and_brakes(db: Database) -> None:
    db["recurring"].create(  # type: ignore[union-attr]
        {
            "id": str, "owner": str, "kind": str, "revision": int, "definition": str,
            "accepted_at": int, "since_at": int, "anchor_at": int, "last_nominal_at": int,
            "run_count": int,
            "next_at": int, "next_nominal_at": int, "after_id": str, "paused": str,
            "ended_at": int, "ended_reason": str, "parked": str, "doubted": int,
        },
        pk="id",
        not_null={"owner", "kind", "revision", "definition", "accepted_at", "since_at",
                  "anchor_at", "run_count"},
    )  # fmt: skip
    db["brakes"].create(  # type: ignore[union-attr]
        {
            "id": int, "kind": str, "labels": str, "reason": str, "by": str,
            "created_at": int, "expires_at": int, "elapses": int,
        },
        pk="id",
        not_null={"labels", "reason", "by", "created_at", "elapses"},
    )  # fmt: skip
    for statement in _RECURRING:
        db.execute(statement)


@migrations(name="0003_freezes")
def _freezes(db: Database) -> None:
    db.execute("ALTER TABLE brakes ADD COLUMN freeze TEXT")


_RECURRING = (
    "ALTER TABLE actions ADD COLUMN recurring_id TEXT",
    "ALTER TABLE actions ADD COLUMN nominal_at INTEGER",
    "ALTER TABLE actions ADD COLUMN missed TEXT",
    "ALTER TABLE actions ADD COLUMN hold_restarts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE actions ADD COLUMN parked TEXT",
    "ALTER TABLE actions ADD COLUMN braked INTEGER",
    # What is parked must not be found as due: a newer version wrote it, this one cannot read it.
    # What a brake was seen to hold neither: a lane must not wade through it at every turn.
    "DROP INDEX actions_due",
    "DROP INDEX actions_expiry",
    """CREATE INDEX actions_due ON actions(parallel, due_at, row)
       WHERE execution_status = 'NULL' AND parked IS NULL AND braked IS NULL""",
    """CREATE INDEX actions_braked ON actions(parallel, due_at, row, braked)
       WHERE execution_status = 'NULL' AND parked IS NULL AND braked IS NOT NULL""",
    """CREATE INDEX actions_expiry ON actions(expires_at)
       WHERE execution_status = 'NULL' AND parked IS NULL AND expires_at IS NOT NULL""",
    """CREATE INDEX actions_recurring ON actions(recurring_id, nominal_at)
       WHERE recurring_id IS NOT NULL""",
    "CREATE INDEX actions_parked ON actions(row) WHERE parked IS NOT NULL",
    # Overlap is decided at every instant: beside years of ended occurrences it looks at open ones.
    """CREATE INDEX actions_occurring ON actions(recurring_id, nominal_at)
       WHERE recurring_id IS NOT NULL AND execution_status IN ('NULL', 'STARTED')""",
    """CREATE INDEX recurring_next ON recurring(next_at)
       WHERE next_at IS NOT NULL AND paused IS NULL AND parked IS NULL""",
    "CREATE INDEX recurring_after ON recurring(after_id) WHERE after_id IS NOT NULL",
    # `status` counts them by state, and may not read a hundred thousand definitions for it.
    "CREATE INDEX recurring_ended ON recurring(ended_at) WHERE ended_at IS NOT NULL",
    """CREATE INDEX recurring_paused ON recurring(ended_at, paused)
       WHERE paused IS NOT NULL AND ended_at IS NULL""",
)

# The partial indexes keep finding due work as quick beside a million finished rows as beside none.
_INDEXES = (
    "CREATE UNIQUE INDEX actions_id ON actions(id)",
    "CREATE INDEX actions_due ON actions(parallel, due_at, row) WHERE execution_status = 'NULL'",
    """CREATE INDEX actions_expiry ON actions(expires_at)
       WHERE execution_status = 'NULL' AND expires_at IS NOT NULL""",
    "CREATE INDEX actions_started ON actions(row) WHERE execution_status = 'STARTED'",
    """CREATE INDEX actions_ended ON actions(ended_at, row)
       WHERE execution_status NOT IN ('NULL', 'STARTED')""",
    "CREATE INDEX events_row ON events(row, seq)",
)

# `status` must answer at once beside a million rows, so the counts are kept, not counted.
_COUNTING = (
    """CREATE TRIGGER count_insert AFTER INSERT ON actions BEGIN
       INSERT INTO counts VALUES (NEW.execution_status, 1)
       ON CONFLICT (status) DO UPDATE SET number = number + 1; END""",
    """CREATE TRIGGER count_delete AFTER DELETE ON actions BEGIN
       UPDATE counts SET number = number - 1 WHERE status = OLD.execution_status; END""",
    """CREATE TRIGGER count_update AFTER UPDATE OF execution_status ON actions
       WHEN OLD.execution_status <> NEW.execution_status BEGIN
       UPDATE counts SET number = number - 1 WHERE status = OLD.execution_status;
       INSERT INTO counts VALUES (NEW.execution_status, 1)
       ON CONFLICT (status) DO UPDATE SET number = number + 1; END""",
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database up to date. Idempotent; the caller holds the directory's lock."""
    migrations.apply(Database(connection))
