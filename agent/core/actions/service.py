"""What operators may do with actions: the service that HTTP wraps and simulations call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.actions import cancelling, listing
from agent.core.actions.batching import Batches, Item, read_batch
from agent.core.actions.calling_off import cancel_correlated
from agent.core.actions.cancelling import Way
from agent.core.actions.documents import action_document
from agent.core.actions.listing import ActionRef, Filter
from agent.core.actions.rescheduling import read_reschedule, reschedule
from agent.core.actions.retrying import retry_document
from agent.core.actions.standing import standing_of
from agent.core.actions.submitting import WAIT_S_MAX, Submitting
from agent.core.actions.terms import Asker, Terms
from agent.core.occasion import Occasion
from agent.core.people import audit
from agent.core.recurring import dispatched
from agent.core.store.locks import lock_agent
from agent.core.store.port import AnyRow, Store
from agent.core.wakeups import EVENTS, Topic, Wakeups, action_topic, agent_topic
from agent.domain.definition import Owner
from agent.domain.ids import RandomBits
from agent.domain.phase import ENDED, Phase
from agent.infra.clock import Clock


class Dispatch:
    """Dispatch, cancel, and look."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bits: RandomBits,
        wakeups: Wakeups,
        terms: Terms | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._terms = terms or Terms()
        self._submitting = Submitting(store, wakeups, self._terms, self._occasion)
        self._batches = Batches(store, wakeups, self._terms, self._occasion, self._submitting)
        self.outcomes = self._submitting.outcomes

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def dispatch(
        self,
        document: Any,
        *,
        by: str = "admin",
        may_approve: bool = False,
        dry_run: bool = False,
        wait_s: float = 0.0,
    ) -> dict[str, Any]:
        """Check, judge, store and deliver; the outcome as seed 003 words it.

        Raises `InvalidDocument`, `NotFound` (the node), `Refused` (the id is taken, the role …).
        """
        asker = Asker(by, may_approve)
        return await self._submitting.submit(document, asker, dry_run=dry_run, wait_s=wait_s)

    async def dispatch_batch(
        self, document: Any, *, by: str = "admin", may_approve: bool = False, dry_run: bool = False
    ) -> list[Item]:
        """Many dispatches, each for itself: the answer or the error of each, in order."""
        asker = Asker(by, may_approve)
        return await self._batches.submit_each(read_batch(document), asker, dry_run=dry_run)

    async def retry(
        self,
        ref: ActionRef,
        document: Any = None,
        *,
        by: str = "admin",
        may_approve: bool = False,
        dry_run: bool = False,
        wait_s: float = 0.0,
    ) -> dict[str, Any]:
        """A new action for one that has ended. Raises as `dispatch`, and `Refused` (not_final)."""
        row = await self._store.read(lambda c: listing.find_action(c, ref))
        given = {} if document is None else document
        repeated, faults = retry_document(row, given, self._clock.now())
        how: dict[str, Any] = {"dry_run": dry_run, "wait_s": wait_s, "told": faults}
        return await self._submitting.submit(
            repeated, Asker(by, may_approve), **how, retry_of=row.id
        )

    async def cancel(
        self, ref: ActionRef, document: Any = None, *, by: str = "admin"
    ) -> dict[str, Any]:
        """Withdraw; the action as it is then. Raises `InvalidDocument`, `NotFound`, `Refused`."""
        asked = cancelling.read_cancel({} if document is None else document, by)
        occasion = self._occasion()

        def change(connection: Connection, row: AnyRow) -> None:
            if row.owner == Owner.CORE.value:
                dispatched.require_one_node(connection, row.id)
            way = cancelling.cancel(connection, occasion, row, asked)
            if row.owner == Owner.CORE.value:
                dispatched.note_cancelled(connection, occasion, [row.id], by)
            if way is not Way.NOTHING:
                detail = {"node": row.agent_id, "why": asked.reason, "way": way.value}
                audit.record(connection, occasion, by, "cancel", row.id, detail)

        return await self._change(ref, change)

    async def cancel_correlated(
        self, correlation_id: str, document: Any = None, *, by: str = "admin"
    ) -> dict[str, Any]:
        """Withdraw everything open with this correlation id. Raises `NotFound`."""
        asked = cancelling.read_cancel({} if document is None else document, by)
        occasion = self._occasion()
        told = await self._store.write(
            lambda c: cancel_correlated(c, occasion, correlation_id, asked)
        )
        topics: list[Topic] = [EVENTS]
        for one in told["actions"]:
            topics += [agent_topic(one["node"] or ""), action_topic(one["action_id"])]
        self._wakeups.notify(topics)
        return told

    async def reschedule(
        self, ref: ActionRef, document: Any, *, by: str = "admin", may_approve: bool = False
    ) -> dict[str, Any]:
        """Another time; the action as it is then. Raises as `cancel`."""
        asked = read_reschedule(document)
        occasion, asker = self._occasion(), Asker(by, may_approve)
        return await self._change(
            ref, lambda c, row: reschedule(c, occasion, row, asked, self._terms, asker)
        )

    async def _change(
        self, ref: ActionRef, change: Callable[[Connection, AnyRow], object]
    ) -> dict[str, Any]:
        """Change one action behind the lock of its node; the action as it is then."""

        def work(connection: Connection) -> tuple[AnyRow, Any]:
            found = listing.find_action(connection, ref)
            where = ActionRef(id=found.id, node=found.agent_id, owner=found.owner)
            dispatched.lock_rules(connection, [found.id])
            lock_agent(connection, found.agent_id)
            change(connection, listing.find_action(connection, where))
            row = listing.find_action(connection, where)
            return row, standing_of(connection, row)

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
