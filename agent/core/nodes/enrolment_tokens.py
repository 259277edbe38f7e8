"""Enrolment tokens as operators see them: which there are, and taking one back.

The token itself is known to nobody here; the beginning of its digest names it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.locks import serialize
from agent.core.store.port import AnyRow
from agent.core.store.schema import credentials, enrollment_tokens
from agent.domain.errors import NotFound, Refused, shown
from agent.domain.instants import format_instant, maybe_format

OPEN_MAX = 20_000  # that can still be used: a fleet that is brought in at once
KEPT = timedelta(days=7)  # what expired is shown so long
ID_CHARS = 16
_HEX = frozenset("0123456789abcdef")


def make_room(connection: Connection, now: datetime) -> None:
    """Forget what expired long ago. Raises `Refused` where too many could still be used."""
    serialize(connection, "enrollment_tokens")
    connection.execute(delete(enrollment_tokens).where(enrollment_tokens.c.expires_at < now - KEPT))
    is_open = (enrollment_tokens.c.expires_at > now) & enrollment_tokens.c.used_at.is_(None)
    count = connection.execute(select(func.count()).where(is_open)).scalar_one()
    if count >= OPEN_MAX:
        raise Refused(
            "too_many",
            f"there are {count} enrolment tokens that nobody has used yet; revoke some of them",
        )


def list_tokens(connection: Connection, after: str, limit: int, now: datetime) -> dict[str, Any]:
    """A page, by id. `state`: open, used or expired."""
    digest = enrollment_tokens.c.digest
    query = select(enrollment_tokens).order_by(digest).limit(limit + 1)
    if after:
        query = query.where(digest > after + "g")  # behind every digest that begins like this
    rows = connection.execute(query).all()
    page = rows[:limit]
    return {
        "tokens": [_document(row, now) for row in page],
        "next": page[-1].digest[:ID_CHARS] if len(rows) > limit else None,
    }


def revoke_token(
    connection: Connection, occasion: Occasion, token_id: str, by: str
) -> dict[str, Any]:
    """It cannot be used any more, nor a credential of it that nobody has used yet.

    A node that is in by it stays in: `decommission` takes a node out. Raises `NotFound`.
    """
    row = _named(connection, token_id)
    connection.execute(delete(enrollment_tokens).where(enrollment_tokens.c.digest == row.digest))
    connection.execute(
        delete(credentials).where(
            credentials.c.token_digest == row.digest, credentials.c.used_at.is_(None)
        )
    )
    document = _document(row, occasion.now)
    audit.record(
        connection,
        occasion,
        by,
        "enrollment_token_revoke",
        row.agent_id or "",
        {"id": document["id"]},
    )
    return document


def _named(connection: Connection, token_id: str) -> AnyRow:
    if len(token_id) >= ID_CHARS and set(token_id) <= _HEX:
        digest = enrollment_tokens.c.digest
        query = select(enrollment_tokens).where(digest >= token_id, digest < token_id + "g")
        row = connection.execute(query).first()
        if row is not None:
            return row
    raise NotFound(f"there is no enrolment token {shown(token_id)}; corectl enroll-token --list")


def _document(row: AnyRow, now: datetime) -> dict[str, Any]:
    state = "used" if row.used_at is not None else "expired" if row.expires_at <= now else "open"
    return {
        "id": row.digest[:ID_CHARS],
        "node": row.agent_id,
        "state": state,
        "created_at": format_instant(row.created_at),
        "expires_at": format_instant(row.expires_at),
        "used_at": maybe_format(row.used_at),
        "used_for": row.used_for,
    }
