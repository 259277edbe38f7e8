"""The door of the operator API: a bearer token is looked up by its digest, and has a role.

Found ones are remembered for `TRUST_S`, so that a busy client does not cost a query per request;
a revocation made by another process is seen after that time at the latest.
"""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.engine import Connection
from starlette.requests import Request

from agent.core.occasion import Occasion
from agent.core.people.principal import Principal, Role
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import api_tokens
from agent.core.tokens import digest_of, matches
from agent.domain.errors import Refused
from agent.domain.ids import RandomBits
from agent.infra.asgi import bearer_token
from agent.infra.clock import Clock

TRUST_S = 5.0
TRUSTED_MAX = 4096


class Door:
    """Asked first by every endpoint for people."""

    def __init__(self, store: Store, clock: Clock, random_bits: RandomBits) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._trusted: dict[str, tuple[Principal, float]] = {}

    async def require(self, request: Request, role: Role) -> Principal:
        """Who asks. Raises `Refused`: 401 without a known token, 403 without the role."""
        principal = await self.principal_of(bearer_token(request))
        principal.require(role)
        return principal

    async def principal_of(self, token: str) -> Principal:
        """Whose token it is. Raises `Refused` (401)."""
        digest = digest_of(token)
        known = self._trusted.get(digest)
        if known is None or known[1] < self._clock.monotonic():
            known = (await self._look_up(digest), self._clock.monotonic() + TRUST_S)
            if len(self._trusted) >= TRUSTED_MAX:
                self._trusted.clear()
            self._trusted[digest] = known
        return known[0]

    def forget(self) -> None:
        """Believe nobody without asking: a token was revoked."""
        self._trusted.clear()

    async def _look_up(self, digest: str) -> Principal:
        occasion = Occasion(self._clock.now(), self._random_bits)
        found = await self._store.read(lambda c: _standing_row(c, occasion, digest))
        if found is None or not matches(found.digest, [digest]):
            raise Refused(
                "unauthorized",
                "this token is not known here, or it was revoked or has expired; the core's first "
                "one is in its admin.token",
            )
        return Principal(found.name, Role(found.role))


def _standing_row(connection: Connection, occasion: Occasion, digest: str) -> AnyRow | None:
    query = select(api_tokens).where(
        api_tokens.c.digest == digest,
        api_tokens.c.revoked_at.is_(None),
        or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > occasion.now),
    )
    return connection.execute(query).first()
