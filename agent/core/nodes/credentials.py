"""Who calls: a bearer credential is looked up by its digest, and belongs to one node.

Found ones are remembered for `TRUST_S`, so that a node does not cost a query per request. What
revokes one says so within its transaction, and every process forgets what it remembers of that
node; `TRUST_S` bounds how long one is believed by a process that cannot hear the others.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from agent.core.nodes.enrolment import first_use
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import credentials
from agent.core.tokens import digest_of, matches
from agent.core.wakeups import CREDENTIAL, Wakeups
from agent.domain.errors import Refused, shown

TRUST_S = 90.0  # beyond the longest poll: a node that only waits costs no look-up per poll
TRUSTED_MAX = 20_000


class Credentials:
    """The check in front of every endpoint of the node protocol."""

    def __init__(self, store: Store, wakeups: Wakeups) -> None:
        self._store = store
        wakeups.listen(CREDENTIAL, self._forget)
        self._trusted: dict[str, tuple[str, float]] = {}
        """By node, its newest credential (as digest) and until when: no older one is believed."""
        self._forgotten = 0

    def _forget(self, agent_id: str | None) -> None:
        """Of one node, or of all."""
        if agent_id is None:
            self._trusted.clear()
        self._trusted.pop(agent_id or "", None)
        self._forgotten += 1

    async def require(
        self, credential: str, agent_id: str, occasion: Occasion, monotonic_s: float
    ) -> None:
        """Raises `Refused`: 401 for an unknown credential, 403 for another node's path."""
        digest = digest_of(credential)
        known, until_s = self._trusted.get(agent_id, ("", 0.0))
        if matches(digest, [known]) and monotonic_s <= until_s:
            return
        forgotten = self._forgotten
        if await self._look_up(digest, occasion) != agent_id:
            raise Refused(
                "forbidden", f"this credential is not the one of the node {shown(agent_id)}"
            )
        if forgotten != self._forgotten:
            return  # one was revoked meanwhile, perhaps this one: the next request looks again
        if len(self._trusted) >= TRUSTED_MAX:
            self._trusted.clear()
        self._trusted[agent_id] = (digest, monotonic_s + TRUST_S)

    def forget(self, agent_id: str) -> None:
        """It was taken out of service: what was believed is looked up again."""
        self._trusted.pop(agent_id, None)

    async def _look_up(self, digest: str, occasion: Occasion) -> str:
        found = await self._store.read(lambda connection: _row(connection, digest))
        if found is None or not matches(found.digest, [digest]):
            raise _unknown()
        agent_id = str(found.agent_id)
        if found.used_at is None and not await self._store.write(
            lambda connection: first_use(connection, occasion, digest, agent_id)
        ):
            raise _unknown()
        return agent_id


def _unknown() -> Refused:
    return Refused(
        "unauthorized", "this credential is not known here; the node must be enrolled anew"
    )


_BY_DIGEST = select(credentials).where(credentials.c.digest == bindparam("digest"))


def _row(connection: Connection, digest: str) -> AnyRow | None:
    return connection.execute(_BY_DIGEST, {"digest": digest}).first()
