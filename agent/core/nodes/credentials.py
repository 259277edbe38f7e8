"""Who calls: a bearer credential is looked up by its digest, and belongs to one node.

Found ones are remembered for `TRUST_S`, so that a busy node does not cost a query per request;
within that time a revocation made by another process is not seen yet.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core.nodes.enrolment import first_use
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import credentials
from agent.core.tokens import digest_of, matches
from agent.domain.errors import Refused, shown

TRUST_S = 5.0
TRUSTED_MAX = 20_000


class Credentials:
    """The check in front of every endpoint of the node protocol."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trusted: dict[str, tuple[str, float]] = {}

    async def require(
        self, credential: str, agent_id: str, occasion: Occasion, monotonic_s: float
    ) -> None:
        """Raises `Refused`: 401 for an unknown credential, 403 for another node's path."""
        digest = digest_of(credential)
        trusted = self._trusted.get(digest)
        if trusted is None or trusted[1] < monotonic_s:
            trusted = (await self._look_up(digest, occasion), monotonic_s + TRUST_S)
            if len(self._trusted) >= TRUSTED_MAX:
                self._trusted.clear()
            self._trusted[digest] = trusted
        if trusted[0] != agent_id:
            raise Refused(
                "forbidden", f"this credential is not the one of the node {shown(agent_id)}"
            )

    def forget(self) -> None:
        """Believe nobody without asking: a credential was revoked."""
        self._trusted.clear()

    async def _look_up(self, digest: str, occasion: Occasion) -> str:
        found = await self._store.read(lambda connection: _row(connection, digest))
        if found is None or not matches(found.digest, [digest]):
            raise _unknown()
        agent_id = str(found.agent_id)
        if found.used_at is None:
            if not await self._store.write(
                lambda connection: first_use(connection, occasion, digest, agent_id)
            ):
                raise _unknown()
            self.forget()
        return agent_id


def _unknown() -> Refused:
    return Refused(
        "unauthorized", "this credential is not known here; the node must be enrolled anew"
    )


def _row(connection: Connection, digest: str) -> AnyRow | None:
    return connection.execute(select(credentials).where(credentials.c.digest == digest)).first()
