"""The node protocol as one service: what HTTP wraps, and what a simulation calls directly.

Every method is one transaction (a pull: a few small ones; a push shares one with other nodes');
decisions are functions over its connection, with the time and randomness of one `Occasion`.
Waiting is on the event loop's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy.engine import Connection

from agent.core.nodes import enrolment, freezes
from agent.core.nodes.admission import (
    Fenced,
    admit,
    agent_row,
    locked_agent_row,
    may_speak,
    note_fenced,
    speaker_row,
)
from agent.core.nodes.arrivals import Arrival, Arrivals
from agent.core.nodes.credentials import Credentials
from agent.core.nodes.cursor import Place, parse_cursor, place_of
from agent.core.nodes.events import Receipt, read_batch
from agent.core.nodes.fresh import FreshReport, fresh, is_news
from agent.core.nodes.page import changes_page, full_page
from agent.core.nodes.presence import Presence
from agent.core.nodes.pushes import apply_events
from agent.core.nodes.reporting import apply_report
from agent.core.nodes.silence import note_alive
from agent.core.nodes.state import StateReceipt, apply_state, require_sound
from agent.core.nodes.stream import acknowledge, fork, mark_at, stream_of
from agent.core.occasion import Occasion
from agent.core.store.locks import share
from agent.core.store.port import AnyRow, Store
from agent.core.wakeups import EVENTS, Topic, Wakeups, action_topic, agent_topic
from agent.domain.errors import Refused
from agent.domain.ids import RandomBits
from agent.infra.clock import Clock
from agent.wire.messages import (
    ERROR_UNAUTHORIZED,
    Enroll,
    Enrolled,
    EventsAck,
    EventsPush,
    NodeReport,
    PullAnswer,
    StateAccepted,
    StatePush,
    plain_faults,
)

T = TypeVar("T")

WAIT_S_MAX = 60.0
FENCED_NOTED_EVERY_S = 10.0
PULL_TURNS_MAX = 8  # settle, then read; more only while instances fight over one name


class NodeProtocol:
    """What nodes may do. `presence` is to be run by whoever wires this."""

    def __init__(
        self, store: Store, clock: Clock, random_bits: RandomBits, wakeups: Wakeups
    ) -> None:
        self.presence = Presence(store, clock, random_bits, wakeups, note_alive)
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self.arrivals = Arrivals(store)
        self._credentials = Credentials(store, wakeups)
        self._fenced_s: dict[str, float] = {}

    def _occasion(self) -> Occasion:
        return Occasion(self._clock.now(), self._random_bits)

    async def authenticate(self, agent_id: str, credential: str) -> None:
        """Raises `Refused`: unauthorized, or forbidden for another node's path."""
        await self._credentials.require(
            credential, agent_id, self._occasion(), self._clock.monotonic()
        )

    async def enroll(self, message: Enroll) -> Enrolled:
        """Token in, credential out. Raises `EnrolmentRefused`, `Refused`."""
        occasion = self._occasion()
        enrolled = await self._store.write(lambda c: enrolment.enroll(c, occasion, message))
        self._wakeups.notify([EVENTS])
        return enrolled

    async def pull(
        self, agent_id: str, instance: str, cursor: str, wait_s: float = 0.0
    ) -> PullAnswer:
        """What is new for the node after its cursor; waits for it. Raises `Refused`, `Fenced`."""
        until = asyncio.get_running_loop().time() + min(wait_s, WAIT_S_MAX)
        with (
            self._wakeups.subscribed(agent_topic(agent_id)) as waiter,
            self.presence.connected(agent_id),
        ):
            while True:
                answer = await self._pull_now(agent_id, instance, cursor)
                if answer.full or answer.actions or answer.requests:
                    return answer
                if not await waiter.wait_until(until):
                    return answer

    async def _pull_now(self, agent_id: str, instance: str, cursor: str) -> PullAnswer:
        for _ in range(PULL_TURNS_MAX):
            occasion = self._occasion()
            answer = await self._guard(
                agent_id,
                instance,
                self._store.read(lambda c: _read_pull(c, agent_id, instance, cursor)),
            )
            if answer is not None:
                self.presence.note(agent_id, occasion.now)
                return answer
            # Shielded: who hangs up now must not keep the others from hearing what was committed.
            await asyncio.shield(self._settle(agent_id, instance, cursor, occasion))
        raise Fenced(agent_id)

    async def _settle(self, agent_id: str, instance: str, cursor: str, occasion: Occasion) -> None:
        await self._store.write(lambda c: _settle_pull(c, occasion, agent_id, instance, cursor))
        self._wakeups.notify([agent_topic(agent_id), EVENTS])

    async def push_events(self, agent_id: str, instance: str, push: EventsPush) -> EventsAck:
        """Store events. Raises `EventsRefused` (what it says is acked is durable), `Fenced`."""
        batch = read_batch(push)
        arrival = Arrival(agent_id, instance, self._occasion(), batch)
        receipt = await self.arrivals.add(arrival)
        if receipt is None:
            alone = partial(apply_events, batch=batch)
            receipt = await self._write_as(agent_id, instance, alone)
        if receipt.stored:
            self._notify(agent_id, receipt)
        if receipt.refusal is not None:
            raise receipt.refusal
        return EventsAck(acked=receipt.acked)

    async def put_state(self, agent_id: str, instance: str, push: StatePush) -> StateAccepted:
        """Take a part of the node's state. Raises `EventsRefused`, `Fenced`."""
        require_sound(push)
        receipt = await self._write_as(
            agent_id, instance, lambda c, occasion, agent: apply_state(c, occasion, agent, push)
        )
        self._notify(agent_id, receipt)
        return StateAccepted(faults=plain_faults(tuple(receipt.faults[:50])))

    async def take_state(self, agent_id: str, push: StatePush) -> None:
        """A part that the core itself has pulled from the node; of the history that it knows.

        Raises `Refused`.
        """
        require_sound(push)
        occasion = self._occasion()

        def write(connection: Connection) -> StateReceipt:
            agent = locked_agent_row(connection, agent_id)
            if agent.decommissioned_at is not None or agent.agent_epoch != push.agent_epoch:
                raise Refused(
                    "forked", "its history is another one than is known here; it has to send it"
                )
            note_alive(connection, occasion, agent)
            return apply_state(connection, occasion, agent, push)

        self._notify(agent_id, await self._store.write(write))

    def now(self) -> datetime:
        """The core's wall clock."""
        return self._clock.now()

    async def put_node(self, agent_id: str, instance: str, report: NodeReport) -> None:
        """Keep what the node says of itself. Raises `Fenced`."""
        stored = fresh(report, self._clock.now())
        is_known = await self._guard(
            agent_id,
            instance,
            self._store.read(lambda c: _is_known(c, agent_id, instance, stored)),
        )
        if is_known:  # its clock has gone on, a script has: no commit of its own for that
            self.presence.tell(agent_id, stored)
            return
        self.presence.forget(agent_id)
        is_told = await self._write_as(
            agent_id,
            instance,
            lambda c, occasion, agent: apply_report(c, occasion, agent, report, stored),
            sharing=freezes.LOCK,
        )
        if is_told:
            self._wakeups.notify([agent_topic(agent_id), EVENTS])

    async def _write_as(
        self,
        agent_id: str,
        instance: str,
        work: Callable[[Connection, Occasion, AnyRow], T],
        sharing: str | None = None,
    ) -> T:
        """One write in the name of the node. Raises `Fenced`, and what the work raises."""
        occasion = self._occasion()

        def write(connection: Connection) -> tuple[bool, T]:
            if sharing is not None:
                share(connection, sharing)
            agent, took_over = admit(connection, occasion, agent_id, instance)
            return took_over, work(connection, occasion, agent)

        took_over, result = await self._guard(agent_id, instance, self._store.write(write))
        if took_over:  # an open poll of the one before ends with that
            self._wakeups.notify([agent_topic(agent_id), EVENTS])
        return result

    def _notify(self, agent_id: str, receipt: Receipt | StateReceipt) -> None:
        topics: list[Topic] = [EVENTS]
        topics += [action_topic(action_id) for action_id in sorted(receipt.touched)]
        if receipt.redelivered:
            topics.append(agent_topic(agent_id))
        self._wakeups.notify(topics)

    async def _guard(self, agent_id: str, instance: str, work: Awaitable[T]) -> T:
        """Let a fenced instance's attempt be seen by operators, now and then."""
        try:
            return await work
        except Fenced:
            await self._note_fenced(agent_id, instance)
            raise
        except Refused as error:
            if error.code == ERROR_UNAUTHORIZED:  # out of service: once it is back, by another one
                self._credentials.forget(agent_id)
            raise

    async def _note_fenced(self, agent_id: str, instance: str) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._fenced_s.get(agent_id, -FENCED_NOTED_EVERY_S) < FENCED_NOTED_EVERY_S:
            return
        self._fenced_s[agent_id] = now_s
        occasion = self._occasion()
        await self._store.write(lambda c: note_fenced(c, occasion, agent_id, instance))
        self._wakeups.notify([EVENTS])


def _is_known(connection: Connection, agent_id: str, instance: str, report: FreshReport) -> bool:
    """Whether nothing but the time of day is new in this report, and no more to be written."""
    agent = agent_row(connection, agent_id)
    return (
        may_speak(connection, agent, instance)
        and agent.silent_at is None
        and not is_news(agent.report, report)
    )


def _read_pull(
    connection: Connection, agent_id: str, instance: str, text: str
) -> PullAnswer | None:
    """The answer, or None when something must be written first."""
    agent = speaker_row(connection, agent_id)
    if not may_speak(connection, agent, instance) or agent.silent_at is not None:
        return None
    cursor = parse_cursor(text)
    stream = stream_of(connection, agent)
    if cursor is None:
        return full_page(connection, agent_id, stream.head, None)
    place = place_of(cursor, stream, mark_at(connection, agent, cursor.seq))
    if place is Place.RESTART:
        return full_page(connection, agent_id, stream.head, None)
    if place is Place.INSIDE_FULL:
        return full_page(connection, agent_id, cursor, cursor.resume)
    if place is Place.FORK or cursor.seq > stream.acked_seq:
        return None
    if cursor.seq == stream.head.seq:  # nearly always, where ten thousand nodes wait
        return PullAnswer(cursor=str(cursor), full=False, actions=[], requests=[])
    return changes_page(connection, agent_id, cursor)


def _settle_pull(
    connection: Connection, occasion: Occasion, agent_id: str, instance: str, text: str
) -> None:
    """Take over, acknowledge, or begin a new epoch: whatever the presented cursor demands."""
    agent, _ = admit(connection, occasion, agent_id, instance)
    cursor = parse_cursor(text)
    if cursor is None:
        return
    stream = stream_of(connection, agent)
    place = place_of(cursor, stream, mark_at(connection, agent, cursor.seq))
    if place is Place.FORK:
        fork(connection, occasion, agent, cursor)
    elif place is Place.KNOWN and cursor.seq > stream.acked_seq:
        acknowledge(connection, occasion, agent, cursor)
