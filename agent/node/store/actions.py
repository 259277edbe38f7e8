"""The SQL of the `actions` table, and the only mapping between its rows and `Action`.

Functions take a connection and run inside the caller's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from agent.domain.action import Action, kin_lock
from agent.domain.definition import Definition
from agent.domain.errors import AgentError
from agent.domain.instants import from_us, to_us
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.oneshot import expiry
from agent.node.store.parking import KEPT_AS_STORED, read_definition, read_object
from agent.wire import strict_json
from agent.wire.definition import encode_definition

_DEFINED = (
    "row", "id", "owner", "kind", "revision", "definition", "app_names", "parallel",
    "accepted_at", "recurring_id", "nominal_at",
)  # fmt: skip
_EXECUTED = (
    "execution_status", "reason", "attempt", "start_no", "failures", "due_at", "expires_at",
    "started_at", "ended_at", "exit_code", "signal", "error", "verdict", "output", "stop_cause",
    "started_revision", "missed", "hold_restarts", "parked",
)  # fmt: skip
"""What a transition changes: nearly every update writes these alone."""
_COLUMNS = _DEFINED + _EXECUTED
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM actions"
_WAITING = "execution_status = 'NULL' AND parked IS NULL"
_READY = f"{_WAITING} AND braked IS NULL"
_SHELVES = (
    ("actions_due", _READY),
    ("actions_braked", f"{_WAITING} AND braked IS NOT NULL"),
)
"""The indexes of what waits, each with the condition that it must be asked with."""
_INSERT = f"INSERT INTO actions ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_AS_IT_WAS = "WHERE row = ? AND execution_status = ? AND start_no = ? AND revision = ?"
_UPDATE, _UPDATE_EXECUTED = (
    # Whatever changed may be no brake's any more: the next turn looks at it again.
    f"UPDATE actions SET {', '.join(f'{name} = ?' for name in names)}, braked = NULL {_AS_IT_WAS}"
    for names in (_COLUMNS[1:], _EXECUTED)
)
_UPDATED_PARKED = tuple(name for name in _COLUMNS[1:] if name not in KEPT_AS_STORED)
_UPDATE_PARKED = (
    f"UPDATE actions SET {', '.join(f'{name} = ?' for name in _UPDATED_PARKED)} "
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
    if new.parked is None and _same_definition(old, new):
        statement, values = _UPDATE_EXECUTED, _executed(new)
    elif new.parked is None:
        statement, values = _UPDATE, _to_row(new)[1:]
    else:  # its definition may say more than was read of it: those columns stay as they are
        named = dict(zip(_COLUMNS, _to_row(new), strict=True))
        statement, values = _UPDATE_PARKED, tuple(named[name] for name in _UPDATED_PARKED)
    changed = connection.execute(statement, (*values, *condition)).rowcount
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
    lane: Lane,
    busy_apps: Iterable[str],
    limit: int,
) -> list[Action]:
    """Waiting actions of one lane that are due, by due time, then arrival.

    Those that share an app with something running are left out here, so that they hold up nobody.
    """
    busy = json.dumps(sorted(busy_apps))
    rows = connection.execute(
        f"{_SELECT} INDEXED BY actions_due WHERE {_READY} AND parallel = ?"
        " AND due_at <= ? AND (app_names IS NULL OR NOT EXISTS (SELECT 1 FROM"
        " json_each(CASE WHEN json_valid(actions.app_names) THEN actions.app_names"
        " ELSE '[]' END) AS app JOIN json_each(?) AS busy"
        " ON app.value = busy.value)) ORDER BY due_at, row LIMIT ?",
        (lane.value, to_us(now), busy, limit),
    )
    return [_from_row(row) for row in rows]


def shelve(connection: sqlite3.Connection, held: Iterable[tuple[int, int]]) -> None:
    """Take (row, brake id) out of their lanes' way, until the row changes or `unshelve`."""
    connection.executemany(
        "UPDATE actions SET braked = ?2 WHERE row = ?1 AND execution_status = 'NULL'", held
    )


def unshelve(connection: sqlite3.Connection, brake: int, at_most: int) -> int:
    """Put back what a brake held; how many. To be repeated while it is `at_most`."""
    return connection.execute(
        "UPDATE actions SET braked = NULL WHERE row IN (SELECT row FROM actions"
        f" INDEXED BY actions_braked WHERE {_SHELVES[1][1]} AND parallel IN (0, 1, 2)"
        " AND braked = ? LIMIT ?)",
        (brake, at_most),
    ).rowcount


def planned(
    connection: sqlite3.Connection, after: datetime, until: datetime, limit: int
) -> list[Action]:
    """What falls due in (after, until], soonest first; by the indexes, however much waits."""
    rows = [
        row
        for index, which in _SHELVES
        for lane in Lane
        for row in connection.execute(
            f"{_SELECT} INDEXED BY {index} WHERE {which} AND parallel = ?"
            " AND due_at > ? AND due_at <= ? ORDER BY due_at, row LIMIT ?",
            (lane.value, to_us(after), to_us(until), limit),
        )
    ]
    rows.sort(key=lambda row: (row["due_at"], row["row"]))
    return [_from_row(row) for row in rows[:limit]]


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
            "SELECT min(due_at) FROM actions INDEXED BY actions_due"
            f" WHERE {_READY} AND parallel = ? AND due_at > ?",
            (lane.value, at),
        ).fetchone()[0]
        for lane in Lane
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
            f"SELECT min(due_at) FROM actions INDEXED BY {index} WHERE {which} AND parallel = ?",
            (lane.value,),
        ).fetchone()[0]
        for index, which in _SHELVES
        for lane in Lane
    ]
    instants = [value for value in found if value is not None]
    return from_us(min(instants)) if instants else None


def shift_delays(connection: sqlite3.Connection, now: datetime, by_s: float) -> int:
    """Move what waits for a delay along with a wall clock that was set; how many were moved.

    Dates stay. A delay (another attempt, or due since it was accepted) has been written down as an
    instant of a clock that has now been set: a retry in 30 s must not become one in three days, and
    what waits has waited no longer than before. What came in after a step forward is left alone;
    so is, after a step back, all that lies before the new time: it may be either.
    """
    by_us, at = round(by_s * 1_000_000), to_us(now)
    fresh = f"{_WAITING} AND attempt = 0 AND due_at = accepted_at"
    waited = f"{fresh} AND accepted_at > :low AND accepted_at <= :high"
    given = {"by": by_us, "at": at, "low": at if by_us < 0 else 0, "high": at - by_us}
    deadlines = connection.execute(
        f"SELECT row FROM actions WHERE {waited} AND expires_at IS NOT NULL", given
    ).fetchall()
    moved = connection.execute(
        f"UPDATE actions SET due_at = due_at + :by, accepted_at = accepted_at + :by WHERE {waited}",
        given,
    ).rowcount
    for (row,) in deadlines:
        _expire_anew(connection, row)
    moved += connection.execute(
        "UPDATE actions SET due_at = due_at + :by"
        f" WHERE {_WAITING} AND attempt > 0 AND due_at > min(:at, :high)",
        given,
    ).rowcount
    return moved


def _expire_anew(connection: sqlite3.Connection, row: int) -> None:
    """The start deadline counts from acceptance, which has been moved; a window's end stays."""
    action = by_row(connection, row)
    if action is not None and action.parked is None:
        expires_at = expiry(action.definition, action.accepted_at, action.attempt)
        connection.execute(
            "UPDATE actions SET expires_at = ? WHERE row = ?", (_maybe_us(expires_at), row)
        )


def count_due(connection: sqlite3.Connection, now: datetime, at_most: int) -> int:
    """How many wait and are due, counted up to `at_most`."""
    return sum(_count_due(connection, now, at_most, *shelf) for shelf in _SHELVES)


def count_braked(connection: sqlite3.Connection, now: datetime, at_most: int) -> int:
    """How many of those that are due were seen to be held by a brake."""
    return _count_due(connection, now, at_most, *_SHELVES[1])


def _count_due(
    connection: sqlite3.Connection, now: datetime, at_most: int, index: str, which: str
) -> int:
    return int(
        connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM actions INDEXED BY {index} WHERE {which}"
            " AND parallel IN (0, 1, 2) AND due_at <= ? LIMIT ?)",
            (to_us(now), at_most),
        ).fetchone()[0]
    )


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Number of actions by status; every status is there."""
    found = dict(connection.execute("SELECT status, number FROM counts").fetchall())
    return {status.value: found.get(status.value, 0) for status in ExecutionStatus}


def set_lane(connection: sqlite3.Connection, kind: str, lane: Lane) -> int:
    """Move waiting actions of a kind whose manifest changed; how many were moved."""
    return connection.execute(
        "UPDATE actions SET parallel = ? WHERE execution_status = 'NULL' AND kind = ?"
        " AND parallel <> ?",
        (lane.value, kind, lane.value),
    ).rowcount


def _same_definition(old: Action, new: Action) -> bool:
    if old.definition is not new.definition or old.accepted_at != new.accepted_at:
        return False
    return old.lane is new.lane and old.locks == new.locks


def _to_row(action: Action) -> tuple[Any, ...]:
    return _defined(action) + _executed(action)


def _defined(action: Action) -> tuple[Any, ...]:
    definition = action.definition
    return (
        action.row,
        definition.id,
        definition.owner.value,
        definition.kind,
        definition.revision,
        strict_json.encode_text(encode_definition(definition)),
        json.dumps(action.locks) if action.locks else None,
        action.lane.value,
        to_us(action.accepted_at),
        definition.recurring_id,
        _maybe_us(definition.nominal_at),
    )


def _executed(action: Action) -> tuple[Any, ...]:
    waiting = action.execution_status is ExecutionStatus.NULL
    expires_at = expiry(action.definition, action.accepted_at, action.attempt) if waiting else None
    return (
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
        strict_json.encode_text(action.missed) if action.missed else None,
        action.hold_restarts,
        action.parked,
    )


def _from_row(row: sqlite3.Row) -> Action:
    definition, unreadable = read_definition(row)
    status, rotten = _read_status(row["execution_status"])
    return Action(
        row=row["row"],
        definition=definition,
        accepted_at=from_us(row["accepted_at"]),
        lane=Lane(row["parallel"]),
        execution_status=status,
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
        output=read_object(row["output"]),
        stop_cause=row["stop_cause"],
        started_revision=row["started_revision"],
        missed=read_object(row["missed"]),
        hold_restarts=row["hold_restarts"],
        parked=row["parked"] or unreadable or rotten,
        alone=_is_alone(definition, row["app_names"]),
    )


def _is_alone(definition: Definition, locks: str | None) -> bool:
    """The lock of an occurrence stands beside its applications, so that one query sees both."""
    kin = kin_lock(definition)
    return kin is not None and kin in (read_object(locks) or ())


def _read_status(word: str) -> tuple[ExecutionStatus, str | None]:
    """A word that is none of ours waits for somebody to look: nothing can be decided about it."""
    try:
        return ExecutionStatus(word), None
    except ValueError:
        return ExecutionStatus.NULL, f"its execution status {word!r} is not one of this version's"


def _maybe_us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _maybe_instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
