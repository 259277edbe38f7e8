"""A backend that pulls (`GET /v1/events`): how far it has got, and what is kept for its sake.

It acknowledges by its `after`: whatever it asks behind, it has stored. Until then retention keeps
the events, within two bounds, so that a backend that was switched off does not fill the disk.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from agent.domain.instants import format_instant, parse_instant
from agent.node.outbox import OUTBOX_ROWS_MAX
from agent.node.store import events
from agent.node.store.meta import Meta, read_meta, write_meta

FORGOTTEN_AFTER = timedelta(days=7)  # a backend that was not heard of for a week has to start anew
NOTED_EVERY = timedelta(hours=1)  # that it is there, while there is nothing new to acknowledge


def note_pull(connection: sqlite3.Connection, after: int, now: datetime) -> None:
    """Take the acknowledgement; a lower one is a second look, not a step back."""
    meta = read_meta(connection)
    write_meta(connection, pulled_seq=max(after, meta.pulled_seq), pulled_at=format_instant(now))


def is_news(meta: Meta, after: int, now: datetime) -> bool:
    """Whether a request says something that is worth a write."""
    if after > meta.pulled_seq:
        return True
    if not meta.pulled_seq:
        return False
    return abs(now - parse_instant(meta.pulled_at)) > NOTED_EVERY


def kept_for_backend(connection: sqlite3.Connection, now: datetime) -> int | None:
    """The newest event that the pulling backend has; None where nothing is kept for one."""
    meta = read_meta(connection)
    if not meta.pulled_seq or now - parse_instant(meta.pulled_at) > FORGOTTEN_AFTER:
        return None
    if events.next_seq(connection) - meta.pulled_seq > OUTBOX_ROWS_MAX:
        return None
    return meta.pulled_seq
