"""The part of the status that stands in the database: all that is known while the daemon is down.

Imports little, because `agentctl status` reads it too (agent.node.offline).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.domain.instants import maybe_format
from agent.node.store import actions, events
from agent.node.store.meta import Meta, read_meta

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


def read_stored(connection: sqlite3.Connection, now: datetime) -> Stored:
    """The database's part, in a few index look-ups."""
    return Stored(
        meta=read_meta(connection),
        counts=actions.counts(connection),
        due=actions.count_due(connection, now, DUE_COUNTED_MAX),
        next_due_at=actions.next_due(connection),
        newest_seq=events.next_seq(connection) - 1,
        refused=connection.execute("SELECT count(*) FROM refused").fetchone()[0],
    )


def stored_view(stored: Stored) -> dict[str, Any]:
    """The members of `status` that need no daemon."""
    meta = stored.meta
    return {
        "agent_id": meta.agent_id,
        "counts": stored.counts,
        "queued": stored.due,
        "next_due_at": maybe_format(stored.next_due_at),
        "paused": bool(meta.paused),
        "refused_definitions": stored.refused,
    }
