"""Who may operate the core and what they did: the service behind `/v1/tokens` and `/v1/audit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.core.occasion import Occasion
from agent.core.people import chain, tokens
from agent.core.store.port import Store
from agent.domain.ids import RandomBits
from agent.infra.clock import Clock


class Access:
    """Tokens and the audit log. `on_revoked` makes the door ask again."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        on_revoked: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._on_revoked = on_revoked

    async def create_token(self, body: Any, by: str) -> dict[str, Any]:
        """A token, shown this once. Raises `InvalidDocument`, `Refused`."""
        asked = tokens.read_new_token(body)
        occasion = Occasion(self._clock.now(), self._random_bits)
        token, told = await self._store.write(lambda c: tokens.create(c, occasion, asked, by))
        return {"token": token, **told}

    async def list_tokens(self, after: str, limit: int, *, whole: bool) -> dict[str, Any]:
        """One page, without the revoked and expired ones unless `whole`."""
        now = self._clock.now()
        return await self._store.read(lambda c: tokens.page(c, after, limit, now, whole=whole))

    async def revoke_token(self, token_id: str, by: str) -> None:
        """Raises `NotFound`, `Refused` (last_admin)."""
        occasion = Occasion(self._clock.now(), self._random_bits)
        await self._store.write(lambda c: tokens.revoke(c, occasion, token_id, by))
        self._on_revoked()

    async def audit(self, wanted: chain.Wanted) -> dict[str, Any]:
        """Lines of the audit log, newest first."""
        return await self._store.read(lambda c: chain.page(c, wanted))

    async def verify_audit(self, after: chain.Place, limit: int) -> dict[str, Any]:
        """Whether the chain holds from a place on."""
        return await self._store.read(lambda c: chain.verify(c, after, limit))
