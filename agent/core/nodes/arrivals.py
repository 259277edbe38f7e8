"""Pushes of events that arrive while others are being stored wait for these, and go together.

Alone, a push goes at once. The more nodes push, the more share one transaction and its statements,
which cost more than the rows. Only what is as usual goes this way: whatever else a push may need
(a start of agentd never seen before, a node back from a silence, one that somebody else is changing
just now) is for the way that each can go alone, and so is a group of which one cannot be stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from sqlalchemy.engine import Connection

from agent.core.nodes.admission import admit_known
from agent.core.nodes.events import Batch, Receipt
from agent.core.nodes.pushes import Push, apply_pushes
from agent.core.occasion import Occasion
from agent.core.store.port import Store, StoreUnavailable
from agent.domain.errors import Refused

GROUPS_MAX = 2  # being stored at once: one is decided while the other waits for its database
PUSHES_MAX = 64  # of one group: what all of them wait for is still a few hundredths of a second
EVENTS_MAX = 1024  # the same, where pushes are long
TEXT_MAX = 1024 * 1024  # the same, where they are large; in characters of what is stored
PASSED_MAX = 256  # arrivals of nodes that are in the group already, which are looked past
WAITING_MAX = 20_000  # more means the database does not keep up

TOGETHER, APART, REFUSED = "together", "apart", "refused"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A decoded push, of whoever it says; that it may speak is seen when it is stored."""

    agent_id: str
    instance: str
    occasion: Occasion
    batch: Batch

    @property
    def text_size(self) -> int:
        """Of what is to be stored, in characters."""
        return sum(len(event.body) for event in self.batch.events)


Stored = Receipt | None
_Outcome = Receipt | Refused | None
_Waiting = tuple[Arrival, asyncio.Future[Stored]]


class Arrivals:
    """What has arrived and is not stored yet. `groups` counts what became of the stored ones."""

    def __init__(self, store: Store) -> None:
        self.groups: Counter[str] = Counter()
        self._store = store
        self._waiting: deque[_Waiting] = deque()
        self._storing: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many pushes wait for a group."""
        return len(self._waiting)

    async def add(self, arrival: Arrival) -> Stored:
        """Store it beside others; None if it is to be stored alone, and nothing was done.

        Raises `EventsRefused`, `StoreUnavailable`.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise StoreUnavailable("the database does not keep up; try again shortly")
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, future))
        if len(self._storing) < GROUPS_MAX:
            self._storing.add(asyncio.create_task(self._store_waiting(), name="arrivals"))
        return await future

    async def _store_waiting(self) -> None:
        """Group after group, until nobody waits."""
        try:
            while self._waiting:
                await self._store_group(_next_group(self._waiting))
        finally:
            # In the step that found nobody waiting: whoever comes in the next one begins anew.
            self._storing.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _store_group(self, group: Sequence[_Waiting]) -> None:
        arrivals = [arrival for arrival, _ in group]
        outcomes: Sequence[_Outcome] = ()
        try:
            outcomes = await self._store.write(partial(store_group, arrivals))
            became = TOGETHER
        except StoreUnavailable as error:
            outcomes, became = [error] * len(group), REFUSED
        except asyncio.CancelledError:
            outcomes = [StoreUnavailable("the core is going down")] * len(group)
            became = REFUSED
            raise
        except BaseException:  # noqa: BLE001  (of one of them: each goes alone, and hears its own)
            outcomes, became = [None] * len(group), APART
        finally:
            self.groups[became] += 1
            for (_, future), outcome in zip(group, outcomes, strict=True):
                _settle(future, outcome)


def _next_group(waiting: deque[_Waiting]) -> list[_Waiting]:
    """In the order of arrival; one push of a node, so another one goes with the next group."""
    group: list[_Waiting] = []
    passed: list[_Waiting] = []
    names = set[str]()
    events = size = 0
    while waiting and len(group) < PUSHES_MAX and len(passed) < PASSED_MAX:
        one = waiting.popleft()
        arrival = one[0]
        if arrival.agent_id in names:
            passed.append(one)
            continue
        events += len(arrival.batch.events)
        size += arrival.text_size
        if group and (events > EVENTS_MAX or size > TEXT_MAX):
            passed.append(one)
            break
        names.add(arrival.agent_id)
        group.append(one)
    waiting.extendleft(reversed(passed))
    return group


def _settle(future: asyncio.Future[Stored], outcome: _Outcome) -> None:
    if future.done():  # its caller has gone away
        return
    if isinstance(outcome, Refused):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def store_group(arrivals: Sequence[Arrival], connection: Connection) -> list[_Outcome]:
    """Store those that are as usual; None for each of the others."""
    admitted = admit_known(connection, {one.agent_id: one.instance for one in arrivals})
    usual = [one for one in arrivals if one.agent_id in admitted]
    pushes = [Push(one.occasion, admitted[one.agent_id], one.batch) for one in usual]
    outcomes = apply_pushes(connection, pushes)
    stored = {one.agent_id: outcome for one, outcome in zip(usual, outcomes, strict=True)}
    return [stored.get(one.agent_id) for one in arrivals]
