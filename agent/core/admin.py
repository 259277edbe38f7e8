"""The first operator: the holder of `admin.token`, written on the core's first start."""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.people.principal import Role
from agent.core.store.schema import api_tokens
from agent.core.tokens import digest_of

FIRST_ADMIN = "admin"
TOKEN_ID_CHARS = 12


def ensure_known(connection: Connection, occasion: Occasion, token: str) -> None:
    """Make sure that the token is one of an admin; one that was revoked stays so."""
    digest = digest_of(token)
    known = select(api_tokens.c.digest).where(api_tokens.c.digest == digest)
    if connection.execute(known).first() is None:
        row = {
            "digest": digest,
            "id": digest[:TOKEN_ID_CHARS],
            "name": FIRST_ADMIN,
            "role": Role.ADMIN.value,
            "created_at": occasion.now,
        }
        connection.execute(insert(api_tokens), [row])


def is_anybody_known(connection: Connection) -> bool:
    """Whether the core has any token at all."""
    return connection.execute(select(api_tokens.c.digest).limit(1)).first() is not None
