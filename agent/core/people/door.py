"""The door of the operator API: a bearer token is looked up by its digest, and has a role.

Found ones are remembered for `TRUST_S`, so that a busy client does not cost a query per request;
a revocation made by another process is seen after that time at the latest, an expiry at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.engine import Connection
from starlette.requests import Request

from agent.core.occasion import Occasion
from agent.core.people.principal import Principal, Role
from agent.core.people.tokens import USED_NOTED_EVERY, note_use, standing
from agent.core.store.port import AnyRow, Store, StoreUnavailable
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
        self._revocations = 0

    async def require(self, request: Request, role: Role) -> Principal:
        """Who asks. Raises `Refused`: 401 without a known token, 403 without the role."""
        principal = await self.principal_of(bearer_token(request))
        principal.require(role)
        return principal

    async def while_allowed(
        self, request: Request, role: Role, chunks: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """An endless answer, for as long as its caller may have it: it ends with the token.

        Whoever asks again is told why. Chunks that come every few seconds make it soon.
        """
        try:
            async for chunk in chunks:
                try:
                    await self.require(request, role)
                except Refused:
                    return
                yield chunk
        finally:
            await chunks.aclose()

    async def principal_of(self, token: str) -> Principal:
        """Whose token it is. Raises `Refused` (401)."""
        digest = digest_of(token)
        known = self._trusted.get(digest)
        if known is None or known[1] < self._clock.monotonic():
            revocations = self._revocations
            known = await self._look_up(digest)
            if len(self._trusted) >= TRUSTED_MAX:
                self._trusted.clear()
            if revocations == self._revocations:  # else what was read may be the old truth
                self._trusted[digest] = known
        return known[0]

    def forget(self) -> None:
        """Believe nobody without asking: a token was revoked."""
        self._revocations += 1
        self._trusted.clear()

    async def _look_up(self, digest: str) -> tuple[Principal, float]:
        """Whose it is, and until when that is believed."""
        occasion = Occasion(self._clock.now(), self._random_bits)
        found = await self._store.read(lambda c: _standing_row(c, occasion, digest))
        if found is None or not matches(found.digest, [digest]):
            raise Refused(
                "unauthorized",
                "this token is not known here, or it was revoked or has expired; the core's first "
                "one is in its admin.token",
            )
        noted = found.last_used_at
        if noted is None or occasion.now - noted >= USED_NOTED_EVERY:
            # A core that cannot write (a full disk) still lets people look; the store tells of it.
            with suppress(StoreUnavailable):
                await self._store.write(lambda c: note_use(c, occasion, digest))
        left_s = TRUST_S
        if found.expires_at is not None:
            left_s = min(left_s, (found.expires_at - occasion.now).total_seconds())
        principal = Principal(found.name, Role(found.role))
        return principal, self._clock.monotonic() + left_s


def _standing_row(connection: Connection, occasion: Occasion, digest: str) -> AnyRow | None:
    query = select(api_tokens).where(api_tokens.c.digest == digest, standing(occasion.now))
    return connection.execute(query).first()
