"""What operators may do with actions: the service that HTTP wraps and simulations call."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.actions import cancelling, dispatching, listing
from agent.core.actions.documents import action_document, execution_document
from agent.core.actions.listing import ActionRef, Filter
from agent.core.actions.phases import phase_at_core
from agent.core.actions.standing import standing_of
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow, Store
from agent.core.wakeups import EVENTS, Wakeups, action_topic, agent_topic
from agent.domain.ids import RandomBits
from agent.domain.phase import ENDED, Phase
from agent.infra.clock import Clock

WAIT_S_MAX = 60.0


class Dispatch:
    """Dispatch, cancel, and look."""

    def __init__(
        self, store: Store, clock: Clock, random_bits: RandomBits, wakeups: Wakeups
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def dispatch(
        self, document: Any, *, by: str = "admin", dry_run: bool = False, wait_s: float = 0.0
    ) -> dict[str, Any]:
        """Store and deliver; the outcome as seed 003 words it.

        Raises `InvalidDocument`, `NotFound` (the node), `Refused` (the id is taken).
        """
        occasion = self._occasion()
        definition = dispatching.prepare(document, occasion)
        outcome = dispatching.outcome_of(definition, occasion)
        if dry_run:
            await self._store.read(lambda c: dispatching.require_possible(c, definition))
            return {**outcome, "outcome": "dry_run", "would_be": outcome["outcome"]}
        assert definition.node is not None, "prepare demands it"
        with self._wakeups.subscribed(action_topic(definition.id)) as waiter:
            await self._store.write(lambda c: dispatching.store(c, occasion, definition, by))
            self._wakeups.notify([agent_topic(definition.node), EVENTS])
            if definition.schedule is not None:
                return outcome  # it has no end of its own to wait for
            until = asyncio.get_running_loop().time() + min(wait_s, WAIT_S_MAX)
            ref = ActionRef(id=definition.id, node=definition.node, owner=definition.owner.value)
            while await waiter.wait_until(until):
                row = await self._store.read(lambda c: listing.find_action(c, ref))
                if phase_at_core(row, self._clock.now()) in ENDED:
                    return self._ended(row)
        return outcome

    def _ended(self, row: AnyRow) -> dict[str, Any]:
        phase = phase_at_core(row, self._clock.now())
        return {
            "outcome": "executed" if phase is Phase.DONE else "failed",
            "action_id": row.id,
            "response": {**execution_document(row), "phase": phase.value},
        }

    async def cancel(
        self, ref: ActionRef, document: Any = None, *, by: str = "admin"
    ) -> dict[str, Any]:
        """Withdraw; the action as it is then. Raises `InvalidDocument`, `NotFound`, `Refused`."""
        asked = cancelling.read_cancel({} if document is None else document, by)
        occasion = self._occasion()

        def work(connection: Connection) -> tuple[AnyRow, Any]:
            row = listing.find_action(connection, ref)
            cancelling.cancel(connection, occasion, row, asked)
            where = ActionRef(id=row.id, node=row.agent_id, owner=row.owner)
            return listing.find_action(connection, where), standing_of(connection, row)

        row, standing = await self._store.write(work)
        self._wakeups.notify([agent_topic(row.agent_id), action_topic(row.id), EVENTS])
        return action_document(row, self._clock.now(), standing)

    async def get(self, ref: ActionRef) -> dict[str, Any]:
        """One action, whole. Raises `NotFound`, `Refused` (ambiguous)."""

        def work(connection: Connection) -> tuple[AnyRow, Any, Any]:
            row = listing.find_action(connection, ref)
            return row, listing.progress_of(connection, row), standing_of(connection, row)

        row, progress, standing = await self._store.read(work)
        return {**action_document(row, self._clock.now(), standing), "progress": progress}

    async def wait(self, ref: ActionRef, wait_s: float) -> dict[str, Any]:
        """`get`, but not before it has ended or the time is over."""
        until = asyncio.get_running_loop().time() + min(wait_s, WAIT_S_MAX)
        with self._wakeups.subscribed(action_topic(ref.id)) as waiter:
            while True:
                document = await self.get(ref)
                if Phase(document["phase"]) in ENDED or not await waiter.wait_until(until):
                    return document

    async def list(self, wanted: Filter) -> dict[str, Any]:
        """One page of actions, newest first."""
        now = self._clock.now()
        return await self._store.read(lambda c: listing.list_actions(c, wanted, now))

    async def history(
        self, ref: ActionRef, after: int = 0, limit: int = listing.LIMIT_MAX
    ) -> dict[str, Any]:
        """What happened to one action, the core's own steps included."""
        return await self._store.read(
            lambda c: listing.history(c, listing.find_action(c, ref), after, limit)
        )

    async def events(
        self, after: int = 0, limit: int = listing.LIMIT_DEFAULT, wait_s: float = 0.0
    ) -> dict[str, Any]:
        """The global stream after a number; waits until there is something."""
        until = asyncio.get_running_loop().time() + min(wait_s, WAIT_S_MAX)
        with self._wakeups.subscribed(EVENTS) as waiter:
            while True:
                page = await self._store.read(lambda c: listing.events_after(c, after, limit))
                if page["events"] or not await waiter.wait_until(until):
                    return page
