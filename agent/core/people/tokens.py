"""API tokens: who has one, for what, since when; making and revoking them.

The name is what every record says of its holder, so no two tokens that can be used share one. Only
digests are stored. A permanent admin always remains: who cannot make tokens cannot get back in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.people.principal import CORE, Role
from agent.core.store.locks import serialize
from agent.core.store.port import AnyRow
from agent.core.store.schema import api_tokens
from agent.core.tokens import digest_of
from agent.domain.errors import NotFound, Refused, shown
from agent.domain.instants import format_instant, maybe_format
from agent.wire import fields as f
from agent.wire.fields import Field, read_closed

TOKEN_ID_CHARS = 12
TTL_S_MAX = 10 * 366 * 86400.0
TOKENS_MAX = 10_000  # rows; a job that makes itself a token per run forgets to give them a ttl_s
DEAD_KEPT = timedelta(days=30)  # what people made and is over stays listed; less if room is needed
USED_NOTED_EVERY = timedelta(minutes=1)  # how old `last_used_at` may get: reads stay reads
LOCK = "api_tokens"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")


def _name(value: Any) -> str:
    if isinstance(value, str) and _NAME.match(value) and value != CORE.name:
        return value
    raise ValueError(
        f"{shown(value)} cannot name a token: 1–64 of A–Z a–z 0–9 . _ @ -, first a letter or "
        f"digit; {CORE.name!r} is the core itself"
    )


_BODY = {
    "name": Field(_name, required=True),
    "role": Field(f.choice(Role), required=True),
    "ttl_s": Field(f.number(1, TTL_S_MAX)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """What was asked for."""

    name: str
    role: Role
    ttl_s: float | None = None


def read_new_token(document: Any) -> NewToken:
    """Raises `InvalidDocument` with every fault."""
    return NewToken(**read_closed(document, _BODY))


def standing(now: datetime) -> ColumnElement[bool]:
    """Whether a row is one that opens the door."""
    live = or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > now)
    return and_(api_tokens.c.revoked_at.is_(None), live)


def create(
    connection: Connection, occasion: Occasion, asked: NewToken, by: str
) -> tuple[str, dict[str, Any]]:
    """A new token, and what is shown of it. Raises `Refused` (exists, too_many)."""
    serialize(connection, LOCK)
    _forget_the_dead(connection, occasion.now - DEAD_KEPT)
    if _count(connection) >= TOKENS_MAX:
        _forget_the_dead(connection, occasion.now)
    count = _count(connection)
    if count >= TOKENS_MAX:
        raise Refused("too_many", f"there are {count} tokens already; revoke some, or use ttl_s")
    if is_named(connection, occasion, asked.name):
        raise Refused(
            "exists", f"a token named {asked.name!r} is in use; revoke it or choose another name"
        )
    token = occasion.new_secret()
    row = insert_token(connection, occasion, token, asked, by=by, created_by=by)
    return token, document(row, occasion.now)


def revoke(connection: Connection, occasion: Occasion, token_id: str, by: str) -> None:
    """It opens nothing from now on. Raises `NotFound`, `Refused` (last_admin)."""
    serialize(connection, LOCK)
    mine = (api_tokens.c.id == token_id, api_tokens.c.revoked_at.is_(None))
    row = connection.execute(select(api_tokens).where(*mine)).first()
    if row is None:
        raise NotFound(
            f"there is no token {shown(token_id)}, or it was revoked before; corectl tokens lists "
            "them"
        )
    if _is_permanent_admin(row) and not _another_admin(connection, row):
        raise Refused(
            "last_admin",
            f"{row.name!r} is the last admin whose token does not expire; make another one first",
        )
    connection.execute(update(api_tokens).where(*mine).values(revoked_at=occasion.now))
    audit.record(connection, occasion, by, "token_revoke", row.name, {"id": row.id})


def note_use(connection: Connection, occasion: Occasion, digest: str) -> None:
    """It was used; written only where the last note is old."""
    old = or_(
        api_tokens.c.last_used_at.is_(None),
        api_tokens.c.last_used_at < occasion.now - USED_NOTED_EVERY,
    )
    connection.execute(
        update(api_tokens)
        .where(api_tokens.c.digest == digest, old)
        .values(last_used_at=occasion.now)
    )


def page(
    connection: Connection, after: str, limit: int, now: datetime, *, whole: bool
) -> dict[str, Any]:
    """Tokens by id; the revoked and expired ones only where `whole`."""
    query = select(api_tokens).where(api_tokens.c.id > after)
    if not whole:
        query = query.where(standing(now))
    rows = connection.execute(query.order_by(api_tokens.c.id).limit(limit + 1)).all()
    return {
        "tokens": [document(row, now) for row in rows[:limit]],
        "next": rows[limit - 1].id if len(rows) > limit else None,
    }


def document(row: AnyRow, now: datetime) -> dict[str, Any]:
    """One token as it is shown; never the secret, nor its digest."""
    expired = row.expires_at is not None and row.expires_at <= now
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "state": "revoked" if row.revoked_at else "expired" if expired else "active",
        "created_at": format_instant(row.created_at),
        "created_by": row.created_by,
        "expires_at": maybe_format(row.expires_at),
        "last_used_at": maybe_format(row.last_used_at),
        "revoked_at": maybe_format(row.revoked_at),
    }


def is_named(connection: Connection, occasion: Occasion, name: str) -> bool:
    """Whether a token that can be used has this name."""
    query = select(api_tokens.c.id).where(api_tokens.c.name == name, standing(occasion.now))
    return connection.execute(query.limit(1)).first() is not None


def insert_token(
    connection: Connection,
    occasion: Occasion,
    token: str,
    asked: NewToken,
    *,
    by: str,
    created_by: str | None,
) -> AnyRow:
    """The row of a new token, with its audit line."""
    digest = digest_of(token)
    expires_at = None if asked.ttl_s is None else occasion.now + timedelta(seconds=asked.ttl_s)
    row = {
        "digest": digest,
        "id": digest[:TOKEN_ID_CHARS],
        "name": asked.name,
        "role": asked.role.value,
        "created_at": occasion.now,
        "created_by": created_by,
        "expires_at": expires_at,
    }
    connection.execute(insert(api_tokens), [row])
    detail = {"id": row["id"], "role": row["role"], "expires_at": maybe_format(expires_at)}
    audit.record(connection, occasion, by, "token_create", asked.name, detail)
    return connection.execute(select(api_tokens).where(api_tokens.c.digest == digest)).one()


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(api_tokens)).scalar_one()


def _forget_the_dead(connection: Connection, before: datetime) -> None:
    """Never one of a file (`created_by` is NULL): forgotten, it would be let in again."""
    over = or_(api_tokens.c.revoked_at <= before, api_tokens.c.expires_at <= before)
    connection.execute(delete(api_tokens).where(api_tokens.c.created_by.is_not(None), over))


def _is_permanent_admin(row: AnyRow) -> bool:
    return bool(row.role == Role.ADMIN.value and row.expires_at is None)


def _another_admin(connection: Connection, row: AnyRow) -> bool:
    query = select(api_tokens.c.id).where(
        api_tokens.c.role == Role.ADMIN.value,
        api_tokens.c.expires_at.is_(None),
        api_tokens.c.revoked_at.is_(None),
        api_tokens.c.id != row.id,
    )
    return connection.execute(query.limit(1)).first() is not None
