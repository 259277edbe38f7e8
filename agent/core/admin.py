"""Who operates the core: the holder of an admin token. Roles come between it and the API later."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from agent.core.occasion import Occasion
from agent.core.store.schema import admin_tokens
from agent.core.tokens import digest_of, matches
from agent.domain.errors import Refused

FIRST_ADMIN = "admin"


class Admins:
    """The tokens that open the operator API, as digests, with the name each acts under."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def require(self, token: str) -> str:
        """The name behind the token. Raises `Refused` (401)."""
        digest = digest_of(token)
        for known, name in self._names.items():
            if matches(digest, [known]):
                return name
        raise Refused(
            "unauthorized", "this token is not known here; the core's is in its admin.token"
        )


def ensure_known(connection: Connection, occasion: Occasion, token: str) -> None:
    """Make sure that the token opens the API."""
    digest = digest_of(token)
    if digest not in load(connection):
        row = {"digest": digest, "name": FIRST_ADMIN, "created_at": occasion.now}
        connection.execute(insert(admin_tokens), [row])


def load(connection: Connection) -> dict[str, str]:
    """Digest → name."""
    rows = connection.execute(select(admin_tokens.c.digest, admin_tokens.c.name))
    return {row.digest: row.name for row in rows}
