"""Pushes of events that arrive while others are being stored wait for these, and go together.

Alone, a push goes at once. The more nodes push, the more share one transaction and its statements,
which cost more than the rows. Only what is as usual goes this way: whatever else a push may need
(a start of agentd never seen before, a node back from a silence, one that somebody else is changing
just now) is for the way that each can go alone, and so is a group of which one cannot be stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.engine import Connection

from agent.core.nodes.admission import admit_known
from agent.core.nodes.events import Batch, EventsRefused, Receipt
from agent.core.nodes.pushes import Push, apply_pushes
from agent.core.occasion import Occasion
from agent.core.store.port import Store, StoreUnavailable

GROUPS_MAX = 2  # being stored at once: one is decided while the other waits for its database
PUSHES_MAX = 64  # of one group: what all of them wait for is still a few hundredths of a second
EVENTS_MAX = 1024  # the same, where pushes are large; a single one may have more

Outcome = Receipt | EventsRefused | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A decoded push, of whoever it says; that it may speak is seen when it is stored."""

    agent_id: str
    instance: str
    occasion: Occasion
    batch: Batch


class Arrivals:
    """What has arrived and is not stored yet."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[tuple[Arrival, asyncio.Future[Outcome]]] = deque()
        self._groups: set[asyncio.Task[None]] = set()

    async def store(self, arrival: Arrival) -> Receipt | None:
        """Store it beside others; None if it is to be stored alone, and nothing was done.

        Raises `EventsRefused`, `StoreUnavailable`.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, future))
        if len(self._groups) < GROUPS_MAX:
            group = asyncio.create_task(self._store_waiting(), name="arrivals")
            self._groups.add(group)
            group.add_done_callback(self._groups.discard)
        outcome = await future
        if isinstance(outcome, EventsRefused):
            raise outcome
        return outcome

    async def _store_waiting(self) -> None:
        """Group after group, until nobody waits."""
        while self._waiting:
            group = self._next_group()
            arrivals = [arrival for arrival, _ in group]
            outcomes: Sequence[Outcome | StoreUnavailable]
            try:
                outcomes = await self._store.write(partial(store_group, arrivals))
            except StoreUnavailable as error:
                outcomes = [error] * len(group)
            except Exception:  # noqa: BLE001  (one of them: alone, each raises its own to its own)
                outcomes = [None] * len(group)
            for (_, future), outcome in zip(group, outcomes, strict=True):
                _settle(future, outcome)

    def _next_group(self) -> list[tuple[Arrival, asyncio.Future[Outcome]]]:
        """In the order of arrival; the second push of a node waits for the first one's end."""
        group: list[tuple[Arrival, asyncio.Future[Outcome]]] = []
        events, names = 0, set[str]()
        while self._waiting and len(group) < PUSHES_MAX:
            arrival, _ = self._waiting[0]
            events += len(arrival.batch.events)
            if group and (events > EVENTS_MAX or arrival.agent_id in names):
                break
            names.add(arrival.agent_id)
            group.append(self._waiting.popleft())
        return group


def _settle(future: asyncio.Future[Outcome], outcome: Outcome | StoreUnavailable) -> None:
    if future.done():  # its caller has gone away
        return
    if isinstance(outcome, StoreUnavailable):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def store_group(arrivals: Sequence[Arrival], connection: Connection) -> list[Outcome]:
    """Store those that are as usual; None for each of the others."""
    admitted = admit_known(connection, {one.agent_id: one.instance for one in arrivals})
    usual = [one for one in arrivals if one.agent_id in admitted]
    pushes = [Push(one.occasion, admitted[one.agent_id], one.batch) for one in usual]
    outcomes = apply_pushes(connection, pushes)
    stored = {one.agent_id: outcome for one, outcome in zip(usual, outcomes, strict=True)}
    return [stored.get(one.agent_id) for one in arrivals]
