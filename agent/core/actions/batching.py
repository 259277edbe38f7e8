"""Many dispatches in one request, each for itself: its answer, or why it was refused, in order.

Neighbours that go to one node each are planned and stored as one set, in one transaction and as few
statements; the others (a selector, a schedule) go the way of a single dispatch, in their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.actions import dispatching, settling
from agent.core.actions.planning import Plan, plan_each
from agent.core.actions.settling import Planned, Result, nodes_told
from agent.core.actions.submission import Submission
from agent.core.actions.submitting import Submitting
from agent.core.actions.terms import Asker, Terms
from agent.core.occasion import Occasion
from agent.core.store.port import Store, StoreUnavailable
from agent.core.wakeups import EVENTS, Wakeups, agent_topic
from agent.domain.errors import AgentError, Fault, InvalidDocument, Refused

BATCH_MAX = 500  # dispatches of one request
BATCH_ACTIONS_MAX = 20_000  # of all of them together, as of one dispatch by a selector
SET_MAX = (
    100  # a transaction's worth: each may lock a name, and a server has a few thousand of them
)
Item = dict[str, Any] | AgentError


class Batches:
    """The way of a batch, on top of that of each."""

    def __init__(
        self,
        store: Store,
        wakeups: Wakeups,
        terms: Terms,
        occasion: Callable[[], Occasion],
        submitting: Submitting,
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._terms = terms
        self._occasion = occasion
        self._submitting = submitting

    async def submit_each(
        self, documents: Sequence[Any], asker: Asker, *, dry_run: bool = False
    ) -> list[Item]:
        """A batch: each stands alone, in this order; its answer, or why it was refused."""
        answers: list[Item] = []
        together: list[Submission | AgentError] = []
        occasion, stored = self._occasion(), 0

        async def settle_together() -> None:
            nonlocal occasion
            answers.extend(await self._submit_set(occasion, together, asker, dry_run=dry_run))
            together.clear()
            occasion = self._occasion()

        for document in documents:
            if len(together) >= SET_MAX:
                await settle_together()
            try:
                submission = self._submitting.read(occasion, document, asker)
            except AgentError as error:
                together.append(error)
                continue
            if _is_simple(submission):
                together.append(submission)
                continue
            await settle_together()
            if stored >= BATCH_ACTIONS_MAX:
                answers.append(_too_many())
                continue
            answers.append(await self._alone(occasion, submission, asker, dry_run=dry_run))
            stored += _count(answers[-1])
        await settle_together()
        return answers

    async def _alone(
        self, occasion: Occasion, submission: Submission, asker: Asker, *, dry_run: bool
    ) -> Item:
        try:
            return await self._submitting.submit_read(occasion, submission, asker, dry_run=dry_run)
        except AgentError as error:
            return error

    async def _submit_set(
        self,
        occasion: Occasion,
        read: Sequence[Submission | AgentError],
        asker: Asker,
        *,
        dry_run: bool,
    ) -> list[Item]:
        """Simple ones (`_is_simple`) in one transaction; errors stay where they are."""
        some = [one for one in read if isinstance(one, Submission)]
        if not some:
            return [one for one in read if isinstance(one, AgentError)]
        try:
            results = iter(await self._settle_set(occasion, some, asker, dry_run=dry_run))
        except StoreUnavailable as error:
            return [error if isinstance(one, Submission) else one for one in read]
        except Refused:  # a value that no column holds, in whichever: each for itself will tell
            return [
                await self._alone(occasion, one, asker, dry_run=dry_run)
                if isinstance(one, Submission)
                else one
                for one in read
            ]
        answers: list[Item] = []
        for one in read:
            result = next(results) if isinstance(one, Submission) else one
            if isinstance(one, Submission) and isinstance(result, Result):
                answers.append(self._submitting.answer(one, result, dry_run=dry_run))
            else:
                assert isinstance(result, AgentError), "it is one or the other"
                answers.append(result)
        return answers

    async def _settle_set(
        self, occasion: Occasion, submissions: Sequence[Submission], asker: Asker, *, dry_run: bool
    ) -> list[Result | AgentError]:
        def work(connection: Connection) -> list[Result | AgentError]:
            plans = plan_each(connection, occasion, submissions, self._terms, asker)
            planned = [
                Planned(submission, [plan])
                for submission, plan in zip(submissions, plans, strict=True)
                if isinstance(plan, Plan)
            ]
            results: Sequence[Result | AgentError]
            if dry_run:
                results = settling.settle_each(connection, occasion, planned)
            else:
                results = dispatching.carry_out_each(connection, occasion, planned, asker.name)
            settled = iter(results)
            return [next(settled) if isinstance(plan, Plan) else plan for plan in plans]

        if dry_run:
            return await self._store.read(work)
        found = await self._store.write(work)
        told = {
            agent_topic(node): None
            for result in found
            if isinstance(result, Result)
            for node in nodes_told(result)
        }
        self._wakeups.notify([*told, EVENTS])
        return found


def read_batch(document: Any) -> Sequence[Any]:
    """The dispatches of a batch. Raises `InvalidDocument`; what is in them is told one by one."""
    if not isinstance(document, dict) or not isinstance(document.get("actions"), list):
        raise InvalidDocument([Fault("actions", "must be a list of dispatches")])
    faults = [
        Fault(key[:64], "is not known here; dry_run is a parameter of the query")
        for key in list(document)[:10]
        if key != "actions"
    ]
    actions: list[Any] = document["actions"]
    if not 1 <= len(actions) <= BATCH_MAX:
        faults.append(Fault("actions", f"has {len(actions)} entries; 1 to {BATCH_MAX} are allowed"))
    if faults:
        raise InvalidDocument(faults)
    return actions


def _is_simple(submission: Submission) -> bool:
    """Whether it is one action of one node that is named."""
    return submission.target.node is not None and submission.definition.schedule is None


def _count(answer: Item) -> int:
    return len(answer.get("actions", ())) if isinstance(answer, dict) else 0


def _too_many() -> InvalidDocument:
    text = f"this batch has reached {BATCH_ACTIONS_MAX} actions; send what is left in another"
    return InvalidDocument([Fault("selector", text)])
