"""The SQL of the `recurring` table, and the only mapping between its rows and `Recurring`.

Functions take a connection and run inside the caller's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

from agent.domain.action import Action
from agent.domain.definition import Definition, Owner
from agent.domain.errors import InvalidDocument
from agent.domain.instants import from_us, to_us
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.overlap import Open
from agent.domain.recurring import Recurring
from agent.domain.schedule.recurrence import State, occurrence_id
from agent.node.store.actions import _SELECT as _SELECT_ACTIONS
from agent.node.store.actions import _from_row as _action_from_row
from agent.node.store.parking import WHY_CHARS_MAX, read_object
from agent.wire import strict_json
from agent.wire.definition import decode_definition, encode_definition

_COLUMNS = (
    "id", "owner", "kind", "revision", "definition", "accepted_at", "since_at", "anchor_at",
    "last_nominal_at", "run_count", "next_at", "next_nominal_at", "after_id", "paused",
    "ended_at", "ended_reason", "parked", "doubted",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM recurring"
_INSERT = f"INSERT INTO recurring ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_KEPT_AS_STORED = frozenset({"id", "owner", "kind", "revision", "definition", "after_id"})
"""What belongs to the definition: where this version cannot read it, an update leaves it alone."""
_STANDING = tuple(name for name in _COLUMNS if name not in _KEPT_AS_STORED)
_UPDATE, _UPDATE_UNREADABLE = (
    f"UPDATE recurring SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"
    for names in (_COLUMNS[1:], _STANDING)
)
_HELD = ""  # in `paused`: this node has not paused it, its definition has (no reason is empty)
PAGE_BYTES_MAX = 2 * 1024 * 1024  # of definitions: five hundred of the largest would be 40 MB
_PLANNED = "next_at IS NOT NULL AND paused IS NULL AND parked IS NULL"
OVERDUE_MAX = 5_000  # a forecast of a node that is paused for long looks at no more of them
_OPEN = "recurring_id = ? AND execution_status IN ('NULL', 'STARTED')"


def insert(connection: sqlite3.Connection, rule: Recurring) -> None:
    """Add a row. `sqlite3.IntegrityError` if its id is there already."""
    connection.execute(_INSERT, _to_row(rule))


def update(connection: sqlite3.Connection, rule: Recurring) -> None:
    """Replace the row of this id. There is one writer, which has just read it."""
    if rule.definition.schedule is not None:
        connection.execute(_UPDATE, (*_to_row(rule)[1:], rule.id))
        return
    named = dict(zip(_COLUMNS, _to_row(rule), strict=True))
    connection.execute(_UPDATE_UNREADABLE, (*(named[name] for name in _STANDING), rule.id))


def delete(connection: sqlite3.Connection, rule_id: str) -> None:
    """Forget it."""
    connection.execute("DELETE FROM recurring WHERE id = ?", (rule_id,))


def park(connection: sqlite3.Connection, rule_id: str, why: str) -> None:
    """Leave it out of what is due, until a version that can handle it."""
    connection.execute(
        "UPDATE recurring SET parked = ? WHERE id = ?", (why[:WHY_CHARS_MAX] or "?", rule_id)
    )


def unpark(connection: sqlite3.Connection) -> int:
    """Look again at what could not be planned: what was missing may have been installed since.

    And at what waits for an end that came while it was parked, which nobody will tell again.
    """
    unparked = connection.execute("UPDATE recurring SET parked = NULL WHERE parked IS NOT NULL")
    connection.execute(
        "UPDATE recurring SET next_at = last_nominal_at WHERE next_at IS NULL AND ended_at IS NULL"
        " AND after_id IS NULL AND last_nominal_at > anchor_at"
    )
    return unparked.rowcount


def is_open_at(connection: sqlite3.Connection, rule_id: str, nominal_at: datetime) -> bool:
    """Whether an occurrence of this instant has not ended."""
    found = connection.execute(
        f"SELECT 1 FROM actions INDEXED BY actions_occurring WHERE {_OPEN} AND nominal_at = ?",
        (rule_id, to_us(nominal_at)),
    ).fetchone()
    return found is not None


def by_id(connection: sqlite3.Connection, rule_id: str) -> Recurring | None:
    """The recurring action with this id."""
    found = connection.execute(f"{_SELECT} WHERE id = ?", (rule_id,)).fetchone()
    return None if found is None else _from_row(found)


def exists(connection: sqlite3.Connection, rule_id: str) -> bool:
    """Whether there is one, over or not."""
    found = connection.execute("SELECT 1 FROM recurring WHERE id = ?", (rule_id,)).fetchone()
    return found is not None


def due(connection: sqlite3.Connection, now: datetime, limit: int) -> list[Recurring]:
    """Those that something is to be planned of, the longest overdue first."""
    rows = connection.execute(
        f"{_SELECT} INDEXED BY recurring_next WHERE {_PLANNED} AND next_at <= ?"
        " ORDER BY next_at LIMIT ?",
        (to_us(now), limit),
    )
    return [_from_row(row) for row in rows]


def is_any_due(connection: sqlite3.Connection, now: datetime) -> bool:
    """Whether there is something to be planned."""
    found = connection.execute(
        f"SELECT 1 FROM recurring INDEXED BY recurring_next WHERE {_PLANNED} AND next_at <= ?"
        " LIMIT 1",
        (to_us(now),),
    ).fetchone()
    return found is not None


def next_instant(connection: sqlite3.Connection, now: datetime) -> datetime | None:
    """The next instant after `now` at which something is to be planned."""
    found = connection.execute(
        f"SELECT min(next_at) FROM recurring INDEXED BY recurring_next WHERE {_PLANNED}"
        " AND next_at > ?",
        (to_us(now),),
    ).fetchone()[0]
    return None if found is None else from_us(found)


_BEGINS = """UPDATE recurring SET since_at = :since, next_at = :now, doubted = 0,
   anchor_at = CASE WHEN anchor_at = (since_at + 999999) / 1000000 * 1000000
                    THEN (:since + 999999) / 1000000 * 1000000 ELSE anchor_at END
   WHERE ended_at IS NULL AND """  # what is counted from the beginning moves along with it


def correct_beginnings(connection: sqlite3.Connection, now: datetime, by_s: float) -> None:
    """Of what began while the clock was in doubt: as if it had shown what is believed now."""
    moved = _BEGINS.replace(":since", "(since_at + :by)")
    values = {"now": to_us(now), "by": round(by_s * 1_000_000)}
    connection.execute(f"{moved} doubted = 1", values)


def lower_beginnings(connection: sqlite3.Connection, now: datetime) -> None:
    """What began later than now, by a clock that was wrong, begins now.

    But for what has planned an instant that is still to come: none is planned twice.
    """
    at = to_us(now)
    connection.execute(
        f"{_BEGINS} since_at > :now AND (last_nominal_at IS NULL OR last_nominal_at <= :now)",
        {"now": at, "since": at},
    )


def page(
    connection: sqlite3.Connection, after: str | None, limit: int
) -> tuple[list[Recurring], bool]:
    """By id, from behind `after` on, fewer where they are large; whether there are more."""
    rows = connection.execute(
        f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?", (after or "", limit + 1)
    )
    found: list[Recurring] = []
    size = 0
    with closing(rows):  # an unfinished read would keep the log from being written back
        for row in rows:
            size += len(row["definition"])
            if len(found) == limit or (found and size > PAGE_BYTES_MAX):
                return found, True
            found.append(_from_row(row))
    return found, False


def stored_definition(connection: sqlite3.Connection, rule_id: str) -> Any:
    """Its definition as it stands there, for what this version cannot read; None where it rotted"""
    row = connection.execute("SELECT definition FROM recurring WHERE id = ?", (rule_id,)).fetchone()
    found = None if row is None else read_object(row["definition"])
    return found if isinstance(found, dict) else None


def by_next(
    connection: sqlite3.Connection, now: datetime, until: datetime, limit: int
) -> list[Recurring]:
    """Those whose next instant is not after `until`, soonest first, paused ones too.

    Of those that are overdue (paused, or the node is) the next instant to come is not known here:
    they come besides, bounded for themselves.
    """
    where = "WHERE next_at IS NOT NULL AND parked IS NULL AND next_at"
    rows = connection.execute(
        f"{_SELECT} {where} <= ? ORDER BY next_at, id LIMIT ?", (to_us(now), OVERDUE_MAX)
    ).fetchall()
    rows += connection.execute(
        f"{_SELECT} {where} > ? AND next_at <= ? ORDER BY next_at, id LIMIT ?",
        (to_us(now), to_us(until), limit),
    ).fetchall()
    return [_from_row(row) for row in rows]


def waiting_for(
    connection: sqlite3.Connection, *ended_ids: str | None, parked: bool = False
) -> list[Recurring]:
    """Those that follow the end of one of these (an action, a recurring action)."""
    state = "TRUE" if parked else "parked IS NULL"
    found: dict[str, Recurring] = {}
    for ended_id in ended_ids:
        if ended_id is not None:
            rows = connection.execute(
                f"{_SELECT} WHERE after_id = ? AND ended_at IS NULL AND {state} ORDER BY id",
                (ended_id,),
            )
            found |= {row["id"]: _from_row(row) for row in rows}
    return list(found.values())


def count_waiting_for(connection: sqlite3.Connection, ended_id: str) -> int:
    """How many would follow that end."""
    found = connection.execute(
        "SELECT count(*) FROM recurring WHERE after_id = ? AND ended_at IS NULL", (ended_id,)
    )
    return int(found.fetchone()[0])


def after_of(connection: sqlite3.Connection, rule_id: str) -> str | None:
    """Whose end a recurring action follows."""
    found = connection.execute(
        "SELECT after_id FROM recurring WHERE id = ? AND ended_at IS NULL", (rule_id,)
    ).fetchone()
    return None if found is None else found[0]


def open_occurrences(connection: sqlite3.Connection, rule_id: str, now: datetime) -> list[Open]:
    """Its occurrences that have not ended, by instant."""
    rows = connection.execute(
        "SELECT row, id, execution_status, nominal_at, attempt, due_at"
        " FROM actions INDEXED BY actions_occurring"
        f" WHERE {_OPEN} ORDER BY nominal_at, row",
        (rule_id,),
    )
    return [
        Open(
            row=row["row"],
            id=row["id"],
            started=row["execution_status"] == ExecutionStatus.STARTED.value,
            regular=row["nominal_at"] is not None
            and row["id"] == occurrence_id(rule_id, from_us(row["nominal_at"])),
            ahead=row["attempt"] == 0 and row["due_at"] is not None and row["due_at"] > to_us(now),
        )
        for row in rows
    ]


def latest(connection: sqlite3.Connection, rule_id: str, limit: int) -> list[Action]:
    """Its newest occurrences, newest first."""
    rows = connection.execute(
        f"{_SELECT_ACTIONS} WHERE recurring_id = ? ORDER BY nominal_at DESC, row DESC LIMIT ?",
        (rule_id, limit),
    )
    return [_action_from_row(row) for row in rows]


def count_rows(connection: sqlite3.Connection, rule_id: str, most: int) -> int:
    """How many rows it has, counted as far as `most`."""
    rows = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM actions WHERE recurring_id = ? LIMIT ?)",
        (rule_id, most),
    )
    return int(rows.fetchone()[0])


def missed_until(
    connection: sqlite3.Connection, rule_id: str, nominal_at: datetime, limit: int
) -> list[Action]:
    """Rows that stand for missed instants and begin at this one or before, newest first."""
    rows = connection.execute(
        f"{_SELECT_ACTIONS} WHERE recurring_id = ? AND nominal_at <= ? AND missed IS NOT NULL"
        " ORDER BY nominal_at DESC, row DESC LIMIT ?",
        (rule_id, to_us(nominal_at), limit),
    )
    return [_action_from_row(row) for row in rows]


def is_any(connection: sqlite3.Connection) -> bool:
    """Whether there is any, over or not."""
    return connection.execute("SELECT 1 FROM recurring LIMIT 1").fetchone() is not None


def count(connection: sqlite3.Connection) -> int:
    """How many there are, ended ones too."""
    return int(connection.execute("SELECT count(*) FROM recurring").fetchone()[0])


def ended_ids(
    connection: sqlite3.Connection, before: datetime, keep: int, limit: int
) -> Iterator[str]:
    """Ended ones that retention lets go: older than `before`, or beyond the newest `keep`.

    Those of the core only go by number: it may offer them again, and they must not begin anew.
    """
    rows = connection.execute(
        "SELECT id FROM recurring WHERE ended_at IS NOT NULL AND (ended_at < ? AND owner = 'node'"
        " OR id IN (SELECT id FROM recurring WHERE ended_at IS NOT NULL ORDER BY ended_at DESC"
        " LIMIT -1 OFFSET ?)) AND NOT EXISTS (SELECT 1 FROM actions WHERE"
        " actions.recurring_id = recurring.id AND execution_status IN ('NULL', 'STARTED'))"
        " ORDER BY ended_at LIMIT ?",
        (to_us(before), keep, limit),
    )
    return (row["id"] for row in rows.fetchall())


def _to_row(rule: Recurring) -> tuple[Any, ...]:
    definition = rule.definition
    return (
        definition.id,
        definition.owner.value,
        definition.kind,
        definition.revision,
        strict_json.encode_text(encode_definition(definition)),
        to_us(rule.accepted_at),
        to_us(rule.since_at),
        to_us(rule.state.anchor_at),
        _maybe_us(rule.state.last_nominal_at),
        rule.state.run_count,
        _maybe_us(rule.next_at),
        _maybe_us(rule.next_nominal_at),
        definition.schedule.after if definition.schedule else None,
        _HELD if rule.paused is None and rule.paused_by_owner is not None else rule.paused,
        _maybe_us(rule.ended_at),
        rule.ended_reason,
        rule.parked,
        int(rule.doubted),
    )


def _from_row(row: sqlite3.Row) -> Recurring:
    definition, unreadable = _read_definition(row)
    return Recurring(
        definition=definition,
        accepted_at=from_us(row["accepted_at"]),
        since_at=from_us(row["since_at"]),
        state=State(
            anchor_at=from_us(row["anchor_at"]),
            last_nominal_at=_maybe_instant(row["last_nominal_at"]),
            run_count=row["run_count"],
        ),
        next_at=_maybe_instant(row["next_at"]),
        next_nominal_at=_maybe_instant(row["next_nominal_at"]),
        paused=row["paused"] if unreadable else row["paused"] or None,
        ended_at=_maybe_instant(row["ended_at"]),
        ended_reason=row["ended_reason"],
        parked=row["parked"] or unreadable,
        doubted=bool(row["doubted"]),
    )


def _read_definition(row: sqlite3.Row) -> tuple[Definition, str | None]:
    """The definition; where this version cannot read it, what its columns say, and why."""
    try:
        definition = decode_definition(json.loads(row["definition"]))
        if definition.schedule is not None:
            return definition, None
        why = "its definition has no schedule"
    except (InvalidDocument, ValueError, TypeError, RecursionError) as error:
        why = f"its definition cannot be read by this version: {error}"
    owner = Owner.CORE if row["owner"] == Owner.CORE.value else Owner.NODE
    bare = Definition(id=row["id"], kind=row["kind"], revision=row["revision"], owner=owner)
    return replace(bare), why[:WHY_CHARS_MAX]


def _maybe_us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _maybe_instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
