"""From a submission to its answer: plan it, store it, wake the nodes, wait for the end if asked to.

One node is planned inside the write; many are judged beside the writer, which has others to serve.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.actions import dispatching, listing, settling
from agent.core.actions.answers import answer_of
from agent.core.actions.documents import execution_document
from agent.core.actions.listing import ActionRef
from agent.core.actions.phases import phase_at_core
from agent.core.actions.planning import Plan, plan_dispatch, require_may_approve
from agent.core.actions.settling import Result, nodes_told, waitable
from agent.core.actions.submission import Submission, read_submission
from agent.core.actions.terms import Asker, Terms
from agent.core.occasion import Occasion
from agent.core.recurring import dispatched
from agent.core.store.port import Store
from agent.core.wakeups import EVENTS, Wakeups, action_topic, agent_topic
from agent.domain.phase import ENDED

WAIT_S_MAX = 60.0


class Submitting:
    """The way of every dispatch, single or in a batch, new or a retry."""

    def __init__(
        self, store: Store, wakeups: Wakeups, terms: Terms, occasion: Callable[[], Occasion]
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._terms = terms
        self._occasion = occasion
        self.outcomes: Counter[str] = Counter()
        """What was answered in this life of `cored`, for `/metrics`."""

    async def submit(
        self,
        document: Any,
        asker: Asker,
        *,
        dry_run: bool = False,
        wait_s: float = 0.0,
        **made: Any,
    ) -> dict[str, Any]:
        """One dispatch. Raises `InvalidDocument`, `NotFound`, `Refused`; then nothing is stored."""
        occasion = self._occasion()
        submission = self.read(occasion, document, asker, **made)
        return await self.submit_read(occasion, submission, asker, dry_run=dry_run, wait_s=wait_s)

    def read(self, occasion: Occasion, document: Any, asker: Asker, **made: Any) -> Submission:
        """The dispatch, for somebody who may do it. Raises `InvalidDocument`, `Refused`."""
        submission = read_submission(document, occasion, self._terms.default_target, **made)
        require_may_approve(submission, asker)
        return submission

    async def submit_read(
        self,
        occasion: Occasion,
        submission: Submission,
        asker: Asker,
        *,
        dry_run: bool,
        wait_s: float = 0.0,
    ) -> dict[str, Any]:
        """One dispatch that was read already. Raises as `submit`."""
        if submission.definition.schedule is not None:
            return await self._recurring(occasion, submission, asker, dry_run=dry_run)
        result = await self._carry_out(occasion, submission, asker, dry_run=dry_run)
        ends = await self._ends(waitable(result), wait_s) if wait_s > 0 and not dry_run else {}
        return self.answer(submission, result, dry_run=dry_run, ends=ends)

    def answer(self, submission: Submission, result: Result, **how: Any) -> dict[str, Any]:
        """What is told of it, counted."""
        answer = answer_of(submission, result, **how)
        self.outcomes[answer["outcome"]] += 1
        return answer

    async def _recurring(
        self, occasion: Occasion, submission: Submission, asker: Asker, *, dry_run: bool
    ) -> dict[str, Any]:
        """It has no end of its own to wait for."""
        if dry_run:
            return await self._store.read(
                lambda c: dispatched.look(c, occasion, submission, self._terms, asker)
            )
        told, topics = await self._store.write(
            lambda c: dispatched.store(c, occasion, submission, self._terms, asker)
        )
        self._wakeups.notify(topics)
        return told

    async def _carry_out(
        self, occasion: Occasion, submission: Submission, asker: Asker, *, dry_run: bool
    ) -> Result:
        def plan(connection: Connection) -> list[Plan]:
            return plan_dispatch(connection, occasion, submission, self._terms, asker)

        if dry_run:
            return await self._store.read(
                lambda c: settling.settle(c, occasion, submission, plan(c))
            )
        plans = None if submission.target.is_one else await self._store.read(plan)

        def work(connection: Connection) -> Result:
            planned = plan(connection) if plans is None else plans
            return dispatching.carry_out(connection, occasion, submission, planned, asker.name)

        result = await self._store.write(work)
        self._wakeups.notify([*map(agent_topic, nodes_told(result)), EVENTS])
        return result

    async def _ends(self, refs: Sequence[ActionRef], wait_s: float) -> dict[str, dict[str, Any]]:
        """Of the actions that ended in time: execution and phase, by id."""
        until = asyncio.get_running_loop().time() + min(wait_s, WAIT_S_MAX)
        for ref in refs:
            if not await self._wait_for(ref, until):
                break
        now = self._occasion().now
        rows = await self._store.read(lambda c: listing.find_each(c, refs))
        return {
            row.id: {**execution_document(row), "phase": phase_at_core(row, now).value}
            for row in rows
            if phase_at_core(row, now) in ENDED
        }

    async def _wait_for(self, ref: ActionRef, until: float) -> bool:
        """Whether it ended in time; one after the other, as all are waited for."""
        with self._wakeups.subscribed(action_topic(ref.id)) as waiter:
            while True:
                rows = await self._store.read(lambda c: listing.find_each(c, [ref]))
                now = self._occasion().now
                if all(phase_at_core(row, now) in ENDED for row in rows):
                    return True  # also where it was pruned since: it had ended then
                if not await waiter.wait_until(until):
                    return False
