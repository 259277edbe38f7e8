"""The rows of webhooks: where messages go, how far each has come, and what could not be delivered.

A webhook's cursor is the last event that is settled: delivered, unwanted, or given up. Whoever
delivers holds the lease; every step is conditional on it, so two `cored` never take turns unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, update
from sqlalchemy.engine import Connection

from agent.core import journal
from agent.core.events.filter import EventFilter, read_filter
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.people.principal import CORE
from agent.core.store.port import AnyRow
from agent.core.store.schema import webhook_failures, webhooks

LEASE_S = 30.0
FAILURES_MAX = 1000  # dead letters per webhook; the oldest goes
ERROR_CHARS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One webhook as its courier needs it."""

    id: str
    url: str
    secret: str
    wanted: EventFilter
    cursor: int
    attempts: int

    @property
    def host(self) -> str:
        """What logs, events and the audit may say of the URL: its path may be a secret."""
        return urlsplit(self.url).hostname or ""


def hook_of(row: AnyRow) -> Hook:
    """From its row."""
    return Hook(
        id=row.id,
        url=row.url,
        secret=row.secret,
        wanted=read_filter(msgspec.json.decode(row.filter)),
        cursor=row.cursor,
        attempts=row.attempts,
    )


def is_free(connection: Connection, me: str, now: datetime) -> ColumnElement[bool]:
    """Nobody else delivers for it. On SQLite nobody else exists: what a killed one held is free."""
    if connection.dialect.name == "sqlite":
        return webhooks.c.id.is_not(None)
    return or_(
        webhooks.c.leased_until.is_(None),
        webhooks.c.leased_until <= now,
        webhooks.c.leased_by == me,
    )


def claim(connection: Connection, me: str, now: datetime, ids: Sequence[str]) -> list[Hook]:
    """Take over what is due and free; whatever another `cored` is looking at is left to it."""
    is_due = or_(webhooks.c.next_at.is_(None), webhooks.c.next_at <= now)
    query = (
        select(webhooks)
        .where(
            webhooks.c.id.in_(ids),
            webhooks.c.enabled.is_(True),
            is_due,
            is_free(connection, me, now),
        )
        .order_by(webhooks.c.id)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(query).all()
    lease = {"leased_by": me, "leased_until": now + timedelta(seconds=LEASE_S)}
    taken = [row.id for row in rows]
    connection.execute(update(webhooks).where(webhooks.c.id.in_(taken)).values(**lease))
    return [hook_of(row) for row in rows]


def _step(connection: Connection, hook_id: str, me: str, values: Mapping[str, Any]) -> bool:
    """Change it if it is still ours and enabled; whether it was."""
    mine = and_(webhooks.c.id == hook_id, webhooks.c.leased_by == me, webhooks.c.enabled.is_(True))
    return connection.execute(update(webhooks).where(mine).values(**values)).rowcount == 1


def settle(connection: Connection, hook_id: str, me: str, now: datetime, cursor: int) -> bool:
    """All up to the cursor is done with; the lease goes on. False: it is not ours any more."""
    values = {
        "cursor": cursor,
        "attempts": 0,
        "next_at": None,
        "last_error": None,
        "leased_until": now + timedelta(seconds=LEASE_S),
    }
    return _step(connection, hook_id, me, values)


def postpone(
    connection: Connection, hook_id: str, me: str, attempts: int, error: str, next_at: datetime
) -> bool:
    """Try the same event again later; whoever comes first then."""
    values = {
        "attempts": attempts,
        "last_error": error[:ERROR_CHARS_MAX],
        "next_at": next_at,
        "leased_by": None,
        "leased_until": None,
    }
    return _step(connection, hook_id, me, values)


def release_all(connection: Connection, me: str) -> None:
    """Let others have them at once: this `cored` goes down."""
    mine = update(webhooks).where(webhooks.c.leased_by == me)
    connection.execute(mine.values(leased_by=None, leased_until=None))


def give_up(
    connection: Connection, occasion: Occasion, hook: Hook, me: str, letter: Mapping[str, Any]
) -> bool:
    """The event goes to the dead letters, and the next one's turn comes."""
    row = {
        "webhook_id": hook.id,
        "event_id": letter["event_id"],
        "attempts": letter["attempts"],
        "error": letter["error"][:ERROR_CHARS_MAX],
        "at": occasion.now,
        "body": letter["body"],
    }
    if not settle(connection, hook.id, me, occasion.now, letter["event_id"]):
        return False
    connection.execute(
        update(webhooks).where(webhooks.c.id == hook.id).values(last_error=row["error"])
    )
    connection.execute(insert(webhook_failures), [row])
    beyond = (
        select(webhook_failures.c.row)
        .where(webhook_failures.c.webhook_id == hook.id)
        .order_by(webhook_failures.c.row.desc())
        .offset(FAILURES_MAX)
        .limit(1)
    )
    oldest = connection.execute(beyond).scalar()
    if oldest is not None:
        connection.execute(
            delete(webhook_failures).where(
                webhook_failures.c.webhook_id == hook.id, webhook_failures.c.row <= oldest
            )
        )
    return True


def disable_gone(connection: Connection, occasion: Occasion, hook: Hook, me: str) -> bool:
    """The receiver answered 410: it does not want any more. Said in the stream and the audit."""
    values = {
        "enabled": False,
        "last_error": "answered 410 Gone, and was disabled by that",
        "leased_by": None,
        "leased_until": None,
    }
    if not _step(connection, hook.id, me, values):
        return False
    body = {"webhook_id": hook.id, "host": hook.host, "reason": "gone"}
    journal.append(connection, occasion, "", journal.WEBHOOK_DISABLED, body=body)
    audit.record(connection, occasion, CORE.name, "webhook_disable", hook.id, {"reason": "gone"})
    return True


def skip_pruned(
    connection: Connection, occasion: Occasion, hook: Hook, me: str, pruned: int
) -> bool:
    """What retention took before it could be delivered is said once, as a range."""
    if not settle(connection, hook.id, me, occasion.now, pruned):
        return False
    body = {"webhook_id": hook.id, "first": hook.cursor + 1, "last": pruned}
    journal.append(connection, occasion, "", journal.WEBHOOK_GAP, body=body)
    return True
