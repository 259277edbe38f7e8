"""What people may do with questions: the service that HTTP wraps and simulations call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.actions import listing
from agent.core.actions.documents import action_document
from agent.core.actions.listing import ActionRef
from agent.core.actions.standing import standing_of
from agent.core.approvals import links, records
from agent.core.approvals.asking_nodes import ask_node
from agent.core.approvals.deciding import ANSWERS, Answer, decide, read_answer, require_other_eyes
from agent.core.approvals.links import Claim
from agent.core.approvals.records import ApprovalFilter
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.store.locks import lock_agent
from agent.core.store.port import AnyRow, Store
from agent.core.wakeups import EVENTS, Topic, Wakeups, action_topic, agent_topic
from agent.domain.definition import ApprovalState, Owner
from agent.domain.ids import RandomBits
from agent.domain.instants import format_instant
from agent.infra.clock import Clock


@dataclass(frozen=True, slots=True)
class Linked:
    """What a link leads to."""

    claim: Claim
    approval: dict[str, Any]


class Approvals:
    """Look, decide, lend a decision by link."""

    def __init__(
        self, store: Store, clock: Clock, random_bits: RandomBits, wakeups: Wakeups
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def list(self, wanted: ApprovalFilter) -> dict[str, Any]:
        """One page, newest first."""
        return await self._store.read(lambda c: records.list_approvals(c, wanted))

    async def get(self, approval_id: str) -> dict[str, Any]:
        """One question, whole. Raises `NotFound`."""
        return await self._store.read(lambda c: records.whole_approval(c, approval_id))

    async def answer(
        self, approval_id: str, document: Any, state: ApprovalState, *, by: str
    ) -> dict[str, Any]:
        """Decide; the question as it is then. Raises `InvalidDocument`, `NotFound`, `Refused`."""
        return await self._decide(approval_id, read_answer(document, state, by))

    async def answer_action(
        self, ref: ActionRef, document: Any, state: ApprovalState, *, by: str
    ) -> dict[str, Any]:
        """The same by the action's id; the action as it is then."""
        answer = read_answer(document, state, by)
        occasion = self._occasion()

        def work(connection: Connection) -> tuple[AnyRow, Any, list[Topic]]:
            if ref.owner != Owner.NODE.value:
                records.require_no_rule(connection, ref.id)
            row = listing.find_action(connection, ref)
            where = ActionRef(id=row.id, node=row.agent_id, owner=row.owner)
            if row.owner == Owner.NODE.value:
                lock_agent(connection, row.agent_id)
                ask_node(connection, occasion, listing.find_action(connection, where), answer)
                topics = [agent_topic(row.agent_id), action_topic(row.id), EVENTS]
            else:
                question = records.waiting_for(connection, row)
                topics = decide(connection, occasion, question.id, answer)
            found = listing.find_action(connection, where)
            return found, standing_of(connection, found), topics

        row, standing, topics = await self._store.write(work)
        self._wakeups.notify(topics)
        return action_document(row, self._clock.now(), standing)

    async def make_links(self, approval_id: str, document: Any, *, by: str) -> dict[str, Any]:
        """A link that approves and one that rejects, as paths of this API.

        Raises `InvalidDocument`, `NotFound`, `Refused` (`not_pending`, `four_eyes`).
        """
        order = links.read_order(document)
        occasion = self._occasion()

        def work(connection: Connection) -> dict[str, Any]:
            row = records.find_approval(connection, approval_id)
            records.require_pending(row, occasion.now)
            claims = {
                word: links.claim_for(row, order, by, state, occasion)
                for word, state in ANSWERS.items()
            }
            require_other_eyes(connection, row, claims["approve"].answer(None))
            secret = links.shared_secret(connection, occasion)
            detail = {"approval_id": row.id, "for": order.name}
            audit.record(connection, occasion, by, "approval_link", row.action_id, detail)
            sealed = {word: links.seal(claim, secret) for word, claim in claims.items()}
            some = claims["approve"]
            return {
                "approval_id": row.id,
                "acts_as": some.acts_as,
                "expires_at": format_instant(some.expires_at),
                **{word: f"/v1/links/{token}" for word, token in sealed.items()},
            }

        return await self._store.write(work)

    async def look(self, token: str) -> Linked:
        """What a link is about; changes nothing, whoever fetches it. Raises `Refused`."""
        now = self._clock.now()

        def work(connection: Connection) -> Linked:
            claim = links.unseal(token, links.known_secret(connection), now)
            links.require_maker(connection, claim, now)
            row = records.find_approval(connection, claim.a)
            records.require_pending(row, now)
            return Linked(claim, records.whole_approval(connection, claim.a))

        return await self._store.read(work)

    async def follow(self, token: str, reason: str | None) -> Linked:
        """Do what the link stands for. Raises `Refused`."""
        linked = await self.look(token)
        return Linked(linked.claim, await self._decide(linked.claim.a, linked.claim.answer(reason)))

    async def _decide(self, approval_id: str, answer: Answer) -> dict[str, Any]:
        occasion = self._occasion()

        def work(connection: Connection) -> tuple[dict[str, Any], list[Topic]]:
            topics = decide(connection, occasion, approval_id, answer)
            return records.whole_approval(connection, approval_id), topics

        document, topics = await self._store.write(work)
        self._wakeups.notify(topics)
        return document
