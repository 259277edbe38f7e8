"""The SQL of the `actions` table, and the only mapping between its rows and `Action`.

Functions take a connection and run inside the caller's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from agent.domain.action import Action
from agent.domain.errors import AgentError
from agent.domain.instants import from_us, to_us
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.oneshot import expiry
from agent.wire import strict_json
from agent.wire.definition import decode_definition, encode_definition

_COLUMNS = (
    "row", "id", "owner", "kind", "revision", "definition", "app_names", "parallel",
    "accepted_at", "execution_status", "reason", "attempt", "start_no", "failures", "due_at",
    "expires_at", "started_at", "ended_at", "exit_code", "signal", "error", "verdict", "output",
    "stop_cause", "started_revision", "recurring_id", "nominal_at", "missed", "hold_restarts",
    "parked",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM actions"
_INSERT = f"INSERT INTO actions ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_UPDATE = (
    f"UPDATE actions SET {', '.join(f'{name} = ?' for name in _COLUMNS[1:])} "
    "WHERE row = ? AND execution_status = ? AND start_no = ? AND revision = ?"
)


class StaleAction(AgentError):
    """The row is not in the state the decision was made for; nothing was changed."""


def insert(connection: sqlite3.Connection, action: Action) -> None:
    """Add a row. `sqlite3.IntegrityError` if its id is there already."""
    connection.execute(_INSERT, _to_row(action))


def update(connection: sqlite3.Connection, old: Action, new: Action) -> None:
    """Replace `old` by `new`, on condition that the row still is what `old` says."""
    condition = (
        old.row,
        old.execution_status.value,
        old.start_no,
        old.definition.revision,
    )
    changed = connection.execute(_UPDATE, (*_to_row(new)[1:], *condition)).rowcount
    if changed != 1:
        raise StaleAction(f"action {old.definition.id} changed in between; decide again")


def next_row(connection: sqlite3.Connection) -> int:
    """The number of the next action; never one that was used before, even if that was pruned."""
    newest = connection.execute("SELECT max(row) FROM actions").fetchone()[0] or 0
    kept = connection.execute("SELECT value FROM meta WHERE key = 'row_floor'").fetchone()
    return max(int(newest), int(kept[0]) if kept else 0) + 1


def by_id(connection: sqlite3.Connection, action_id: str) -> Action | None:
    """The action with this id."""
    found = connection.execute(f"{_SELECT} WHERE id = ?", (action_id,)).fetchone()
    return None if found is None else _from_row(found)


def by_row(connection: sqlite3.Connection, row: int) -> Action | None:
    """The action with this row number."""
    found = connection.execute(f"{_SELECT} WHERE row = ?", (row,)).fetchone()
    return None if found is None else _from_row(found)


def started(connection: sqlite3.Connection) -> list[Action]:
    """All actions that are STARTED."""
    rows = connection.execute(f"{_SELECT} WHERE execution_status = 'STARTED' ORDER BY row")
    return [_from_row(row) for row in rows]


def due(
    connection: sqlite3.Connection,
    now: datetime,
    *,
    parallel: bool,
    busy_apps: Iterable[str],
    limit: int,
) -> list[Action]:
    """Waiting actions of one lane that are due, by due time, then arrival.

    Those that share an app with something running are left out here, so that they hold up nobody.
    """
    busy = json.dumps(sorted(busy_apps))
    rows = connection.execute(
        f"{_SELECT} INDEXED BY actions_due WHERE execution_status = 'NULL' AND parked IS NULL"
        " AND parallel = ?"
        " AND due_at <= ? AND (app_names IS NULL OR NOT EXISTS (SELECT 1 FROM"
        " json_each(actions.app_names) AS app JOIN json_each(?) AS busy"
        " ON app.value = busy.value)) ORDER BY due_at, row LIMIT ?",
        (int(parallel), to_us(now), busy, limit),
    )
    return [_from_row(row) for row in rows]


def expired(connection: sqlite3.Connection, now: datetime, limit: int) -> list[Action]:
    """Waiting actions whose latest start has passed."""
    rows = connection.execute(
        f"{_SELECT} WHERE execution_status = 'NULL' AND parked IS NULL AND expires_at IS NOT NULL"
        " AND expires_at <= ? ORDER BY expires_at LIMIT ?",
        (to_us(now), limit),
    )
    return [_from_row(row) for row in rows]


def next_instant(connection: sqlite3.Connection, now: datetime) -> datetime | None:
    """The next instant after `now` at which a waiting action falls due or expires."""
    at = to_us(now)
    found = [
        connection.execute(
            "SELECT min(due_at) FROM actions INDEXED BY actions_due WHERE"
            " execution_status = 'NULL' AND parked IS NULL AND parallel = ? AND due_at > ?",
            (parallel, at),
        ).fetchone()[0]
        for parallel in (0, 1)
    ]
    found.append(
        connection.execute(
            "SELECT min(expires_at) FROM actions WHERE execution_status = 'NULL' AND parked IS NULL"
            " AND expires_at IS NOT NULL AND expires_at > ?",
            (at,),
        ).fetchone()[0]
    )
    instants = [value for value in found if value is not None]
    return from_us(min(instants)) if instants else None


def next_due(connection: sqlite3.Connection) -> datetime | None:
    """The earliest planned start, past or future, of anything that waits."""
    found = [
        connection.execute(
            "SELECT min(due_at) FROM actions INDEXED BY actions_due"
            " WHERE execution_status = 'NULL' AND parked IS NULL AND parallel = ?",
            (parallel,),
        ).fetchone()[0]
        for parallel in (0, 1)
    ]
    instants = [value for value in found if value is not None]
    return from_us(min(instants)) if instants else None


def count_due(connection: sqlite3.Connection, now: datetime, at_most: int) -> int:
    """How many wait and are due, counted up to `at_most`."""
    return int(
        connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM actions INDEXED BY actions_due WHERE"
            " execution_status = 'NULL' AND parked IS NULL AND parallel IN (0, 1)"
            " AND due_at <= ? LIMIT ?)",
            (to_us(now), at_most),
        ).fetchone()[0]
    )


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Number of actions by status; every status is there."""
    found = dict(connection.execute("SELECT status, number FROM counts").fetchall())
    return {status.value: found.get(status.value, 0) for status in ExecutionStatus}


def set_lane(connection: sqlite3.Connection, kind: str, *, parallel: bool) -> int:
    """Move waiting actions of a kind whose manifest changed; how many were moved."""
    return connection.execute(
        "UPDATE actions SET parallel = ? WHERE execution_status = 'NULL' AND kind = ?"
        " AND parallel <> ?",
        (int(parallel), kind, int(parallel)),
    ).rowcount


def _to_row(action: Action) -> tuple[Any, ...]:
    definition = action.definition
    waiting = action.execution_status is ExecutionStatus.NULL
    expires_at = expiry(definition, action.accepted_at, action.attempt) if waiting else None
    return (
        action.row,
        definition.id,
        definition.owner.value,
        definition.kind,
        definition.revision,
        strict_json.encode_text(encode_definition(definition)),
        json.dumps(definition.app_names) if definition.app_names else None,
        int(action.parallel),
        to_us(action.accepted_at),
        action.execution_status.value,
        action.reason,
        action.attempt,
        action.start_no,
        action.failures,
        _maybe_us(action.due_at),
        _maybe_us(expires_at),
        _maybe_us(action.started_at),
        _maybe_us(action.ended_at),
        action.exit_code,
        action.signal,
        action.error,
        action.verdict,
        strict_json.encode_text(action.output) if action.output else None,
        action.stop_cause,
        action.started_revision,
        definition.recurring_id,
        _maybe_us(definition.nominal_at),
        strict_json.encode_text(action.missed) if action.missed else None,
        action.hold_restarts,
        action.parked,
    )


def _from_row(row: sqlite3.Row) -> Action:
    return Action(
        row=row["row"],
        definition=decode_definition(json.loads(row["definition"])),
        accepted_at=from_us(row["accepted_at"]),
        parallel=bool(row["parallel"]),
        execution_status=ExecutionStatus(row["execution_status"]),
        reason=row["reason"],
        attempt=row["attempt"],
        start_no=row["start_no"],
        failures=row["failures"],
        due_at=_maybe_instant(row["due_at"]),
        started_at=_maybe_instant(row["started_at"]),
        ended_at=_maybe_instant(row["ended_at"]),
        exit_code=row["exit_code"],
        signal=row["signal"],
        error=row["error"],
        verdict=row["verdict"],
        output=json.loads(row["output"]) if row["output"] else None,
        stop_cause=row["stop_cause"],
        started_revision=row["started_revision"],
        missed=json.loads(row["missed"]) if row["missed"] else None,
        hold_restarts=row["hold_restarts"],
        parked=row["parked"],
    )


def _maybe_us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _maybe_instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
