"""The first operator: the holder of `admin.token`, written on the core's first start."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.people.principal import CORE, Role
from agent.core.people.tokens import LOCK, NewToken, insert_token, is_named
from agent.core.store.locks import serialize
from agent.core.store.schema import api_tokens
from agent.core.tokens import digest_of

FIRST_ADMIN = "admin"


def ensure_known(connection: Connection, occasion: Occasion, token: str) -> None:
    """Make sure that the token is one of an admin; one that was revoked stays so."""
    serialize(connection, LOCK)
    digest = digest_of(token)
    known = select(api_tokens.c.digest).where(api_tokens.c.digest == digest)
    if connection.execute(known).first() is not None:
        return
    name, number = FIRST_ADMIN, 1
    while is_named(connection, occasion, name):  # each state directory has a token of its own
        number += 1
        name = f"{FIRST_ADMIN}-{number}"
    asked = NewToken(name=name, role=Role.ADMIN)
    # Made by nobody: a file's token is never forgotten, or it would be let in again (see tokens).
    insert_token(connection, occasion, token, asked, by=CORE.name, created_by=None)


def is_anybody_known(connection: Connection) -> bool:
    """Whether the core has any token at all."""
    return connection.execute(select(api_tokens.c.digest).limit(1)).first() is not None
