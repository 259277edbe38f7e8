"""Everything at the core that waits for a time, in one table with one index (DESIGN §1.6).

A timer is named by its kind and what it is about; arming it again moves it. It is set and taken
back inside the transaction of what it belongs to, so neither can be there without the other.
Whoever fires one deletes it in the transaction of what it does: once, whichever `cored` it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.store.schema import timers
from agent.core.wakeups import Topic

FIRED_AT_ONCE_MAX = 200  # per transaction: a thousand nodes that fall silent hold nobody up


class TimerKind(StrEnum):
    """What there is to wait for; one handler each."""

    APPROVAL_EXPIRES = "approval_expires"
    NODE_SILENT = "node_silent"
    NODE_LOST = "node_lost"
    PRUNE = "prune"


Handler = Callable[[Connection, Occasion, Sequence[str]], Iterable[Topic]]
"""Gets the refs that fell due, in one transaction; returns whom to wake after the commit."""
Handlers = Mapping[TimerKind, Handler]


def arm(connection: Connection, kind: TimerKind, ref: str, due_at: datetime) -> None:
    """Set the timer, or move it."""
    mine = (timers.c.kind == kind.value, timers.c.ref == ref)
    moved = connection.execute(update(timers).where(*mine).values(due_at=due_at))
    if moved.rowcount == 0:
        connection.execute(insert(timers), [{"kind": kind.value, "ref": ref, "due_at": due_at}])


def disarm(connection: Connection, kind: TimerKind, ref: str) -> None:
    """Take it back, if it is set."""
    connection.execute(delete(timers).where(timers.c.kind == kind.value, timers.c.ref == ref))


def next_due(connection: Connection) -> datetime | None:
    """When the next one is due."""
    query = select(timers.c.due_at).order_by(timers.c.due_at).limit(1)
    found: datetime | None = connection.execute(query).scalar()
    return found


def fire_due(connection: Connection, occasion: Occasion, handlers: Handlers) -> list[Topic]:
    """Fire what is due, a bounded number of them; whom to wake after the commit."""
    query = (
        select(timers.c.kind, timers.c.ref)
        .where(timers.c.due_at <= occasion.now)
        .order_by(timers.c.due_at)
        .limit(FIRED_AT_ONCE_MAX)
        .with_for_update(skip_locked=True)
    )
    due: dict[TimerKind, list[str]] = {}
    for kind, ref in connection.execute(query).all():
        due.setdefault(TimerKind(kind), []).append(ref)
    topics: list[Topic] = []
    for kind, refs in due.items():
        connection.execute(
            delete(timers).where(timers.c.kind == kind.value, timers.c.ref.in_(refs))
        )
        topics += handlers[kind](connection, occasion, refs)
    return topics
