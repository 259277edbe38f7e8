"""The part of the status that stands in the database: all that is known while the daemon is down.

Imports little, because `agentctl status` reads it too (agent.node.offline).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.domain.brake import Brake
from agent.domain.instants import from_us, maybe_format
from agent.node.store import actions, brakes, events
from agent.node.store.meta import Meta, pause_view, read_meta
from agent.node.store.parking import count_parked, read_object
from agent.wire.brake import encode_brake

DUE_COUNTED_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What of the status stands in the database; all that is known while the daemon is down."""

    meta: Meta
    counts: dict[str, int]
    due: int
    next_due_at: datetime | None
    newest_seq: int
    refused: int
    parked: int = 0
    brakes: Sequence[Brake] = ()
    recurring: Mapping[str, int] = field(default_factory=dict)
    """How many recurring actions by state."""
    braked: int = 0
    """How many of those due a brake was seen to hold."""


def read_stored(connection: sqlite3.Connection, now: datetime, *, believed: bool = True) -> Stored:
    """The database's part, in a few index look-ups. No brake expires by a clock not `believed`."""
    return Stored(
        meta=read_meta(connection),
        counts=actions.counts(connection),
        due=actions.count_due(connection, now, DUE_COUNTED_MAX),
        next_due_at=_next_due(connection),
        newest_seq=events.next_seq(connection) - 1,
        refused=connection.execute("SELECT count(*) FROM refused").fetchone()[0],
        parked=count_parked(connection),
        brakes=brakes.active(connection, now if believed else None),
        braked=actions.count_braked(connection, now, DUE_COUNTED_MAX),
        recurring=count_rules(connection),
    )


def count_rules(connection: sqlite3.Connection) -> dict[str, int]:
    """How many recurring actions there are by state.

    (Not in `agent.node.store.recurring`: that would load the arithmetic of schedules.)
    """
    known, ended, paused = connection.execute(
        "SELECT (SELECT count(*) FROM recurring),"
        " (SELECT count(*) FROM recurring INDEXED BY recurring_ended WHERE ended_at IS NOT NULL),"
        " (SELECT count(*) FROM recurring INDEXED BY recurring_paused"
        " WHERE paused IS NOT NULL AND ended_at IS NULL)"
    ).fetchone()
    return {"active": known - ended - paused, "paused": paused, "ended": ended}


def _next_due(connection: sqlite3.Connection) -> datetime | None:
    """Of an action, or of a recurring one, whose occurrence has no row before it is due.

    (Not by `agent.node.store.recurring`: that would load the arithmetic of schedules.)
    """
    found = connection.execute(
        "SELECT min(next_at) FROM recurring INDEXED BY recurring_next WHERE next_at IS NOT NULL"
        " AND paused IS NULL AND parked IS NULL"
    ).fetchone()[0]
    rule = None if found is None else from_us(found)
    instants = [at for at in (actions.next_due(connection), rule) if at is not None]
    return min(instants, default=None)


def stored_view(stored: Stored) -> dict[str, Any]:
    """The members of `status` that need no daemon."""
    meta = stored.meta
    return {
        "agent_id": meta.agent_id,
        "counts": stored.counts,
        "queued": stored.due,
        "next_due_at": maybe_format(stored.next_due_at),
        "brakes": [encode_brake(brake) for brake in stored.brakes],
        "braked": stored.braked,
        "recurring": dict(stored.recurring),
        "refused_definitions": stored.refused,
        "parked": stored.parked,
        "restored": read_object(meta.restored),
        "seq": stored.newest_seq,
    } | pause_view(meta)
