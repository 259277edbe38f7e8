"""Everything at the core that waits for a time, in one table with one index (DESIGN §1.6).

A timer is named by its kind and what it is about; arming it again moves it. It is set and taken
back inside the transaction of what it belongs to, so neither can be there without the other.
Whoever fires one deletes it in the transaction of what it does: once, whichever `cored` it is. What
its handler sets anew for later stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, bindparam, delete, insert, select, text, update
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.store.notices import announce_here
from agent.core.store.schema import timers
from agent.core.wakeups import TIMERS, Topic

FIRED_AT_ONCE_MAX = 200  # per transaction: a thousand nodes that fall silent hold nobody up


class TimerKind(StrEnum):
    """What there is to wait for; one handler each."""

    APPROVAL_EXPIRES = "approval_expires"
    NODE_SILENT = "node_silent"
    NODE_LOST = "node_lost"
    PRUNE = "prune"
    RECURRING_NODE = "recurring_node"  # a node may have come into, or gone out of, selectors
    RECURRING_RULE = "recurring_rule"  # a recurring action may now be in force


Handler = Callable[[Connection, Occasion, Sequence[str]], Iterable[Topic]]
"""Gets the refs that fell due, in one transaction; returns whom to wake after the commit."""
Handlers = Mapping[TimerKind, Handler]


_FREE = (
    select(timers.c.ref)
    .where(timers.c.kind == bindparam("b_kind"), timers.c.ref == bindparam("b_ref"))
    .with_for_update(skip_locked=True)
)
_MOVE = (
    update(timers)
    .where(timers.c.kind == bindparam("b_kind"), timers.c.ref.in_(_FREE))
    .values(due_at=bindparam("b_due_at"))
)
_ADD = text(
    "INSERT INTO timers (kind, ref, due_at) VALUES (:b_kind, :b_ref, :b_due_at) "
    "ON CONFLICT (kind, ref) DO NOTHING"
).bindparams(bindparam("b_due_at", type_=timers.c.due_at.type))


def arm(connection: Connection, kind: TimerKind, ref: str, due_at: datetime) -> None:
    """Set the timer, or move it. The caller holds the lock of what it is about.

    One that is being fired right now is left to that: its handler waits for this lock, and sees
    then what was changed behind it; to wait for the handler would be to wait in a circle.
    """
    arm_all(connection, kind, [(ref, due_at)])


def arm_all(connection: Connection, kind: TimerKind, due: Sequence[tuple[str, datetime]]) -> None:
    """`arm` for several."""
    if due:
        rows = [{"b_kind": kind.value, "b_ref": ref, "b_due_at": due_at} for ref, due_at in due]
        connection.execute(_MOVE, rows)
        connection.execute(_ADD, rows)
        announce_here(connection, [TIMERS])


def arm_new(connection: Connection, kind: TimerKind, due: Sequence[tuple[str, datetime]]) -> None:
    """Set timers of refs that never had one, all at once."""
    if due:
        rows = [{"kind": kind.value, "ref": ref, "due_at": due_at} for ref, due_at in due]
        connection.execute(insert(timers), rows)
        announce_here(connection, [TIMERS])


def disarm(connection: Connection, kind: TimerKind, ref: str) -> None:
    """Take it back, if it is set.

    One that is being fired right now is left to that: its handler waits for the lock of what the
    timer is about, which is held here, and would be waited for in a circle.
    """
    disarm_all(connection, kind, [ref])


def disarm_all(connection: Connection, kind: TimerKind, refs: Sequence[str]) -> None:
    """`disarm` for several; no more than a query can name."""
    mine = (timers.c.kind == kind.value, timers.c.ref.in_(refs))
    free = select(timers.c.ref).where(*mine).with_for_update(skip_locked=True)
    connection.execute(delete(timers).where(mine[0], timers.c.ref.in_(free)))


def next_due(connection: Connection, kinds: Iterable[TimerKind] = TimerKind) -> datetime | None:
    """When the next one of these is due."""
    query = (
        select(timers.c.due_at)
        .where(timers.c.kind.in_([kind.value for kind in kinds]))
        .order_by(timers.c.due_at)
        .limit(1)
    )
    found: datetime | None = connection.execute(query).scalar()
    return found


@dataclass(frozen=True, slots=True)
class Fired:
    """How many timers a transaction fired, and whom to wake after its commit."""

    count: int
    topics: list[Topic]


def fire_due(connection: Connection, occasion: Occasion, handlers: Handlers) -> list[Topic]:
    """Fire what is due of every kind, for who writes alone: a simulation, a test."""
    topics: list[Topic] = []
    for kind, handler in handlers.items():
        topics += fire_some(connection, occasion, {kind: handler}, FIRED_AT_ONCE_MAX).topics
    return topics


def fire_some(
    connection: Connection, occasion: Occasion, handlers: Handlers, count_max: int
) -> Fired:
    """Fire what is due and has a handler here, except for what another `cored` is firing.

    Those of one kind, the one that has waited longest: each handler takes its locks in their order,
    and after the first one's last lock the second one's first would be out of it.
    """
    known = [kind.value for kind in handlers]
    found = connection.execute(_due(occasion, known, 1)).first()
    if found is None:
        return Fired(0, [])
    kind = TimerKind(found.kind)
    refs = [row.ref for row in connection.execute(_due(occasion, [kind.value], count_max))]
    topics = list(handlers[kind](connection, occasion, refs))
    # Afterwards: who arms one meanwhile would have to wait for the end of a deletion.
    connection.execute(
        delete(timers).where(
            timers.c.kind == kind.value, timers.c.ref.in_(refs), timers.c.due_at <= occasion.now
        )
    )
    return Fired(len(refs), topics)


def _due(occasion: Occasion, kinds: Sequence[str], count_max: int) -> Select[Any]:
    """The oldest of these that are due and nobody else fires, locked."""
    return (
        select(timers.c.kind, timers.c.ref)
        .where(timers.c.due_at <= occasion.now, timers.c.kind.in_(kinds))
        .order_by(timers.c.due_at)
        .limit(count_max)
        .with_for_update(skip_locked=True)
    )


def put_off(
    connection: Connection, occasion: Occasion, kinds: Iterable[TimerKind], due_at: datetime
) -> tuple[str, str] | None:
    """Move the oldest timer that is due, whose handler cannot cope with it; which one that was."""
    found = connection.execute(_due(occasion, [kind.value for kind in kinds], 1)).first()
    if found is None:
        return None
    arm(connection, TimerKind(found.kind), found.ref, due_at)
    return str(found.kind), str(found.ref)
