"""The node protocol as one service: what HTTP wraps, and what a simulation calls directly.

Every method is one transaction (a pull: a few small ones); decisions are functions over its
connection, with the time and randomness of one `Occasion`. Waiting is on the event loop's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TypeVar

from sqlalchemy import update
from sqlalchemy.engine import Connection

from agent.core.nodes import enrolment
from agent.core.nodes.admission import Fenced, admit, agent_row, may_speak
from agent.core.nodes.credentials import Credentials
from agent.core.nodes.cursor import Place, parse_cursor, place_of
from agent.core.nodes.events import apply_events, read_batch
from agent.core.nodes.page import changes_page, full_page
from agent.core.nodes.state import apply_state, require_sound
from agent.core.nodes.stream import acknowledge, fork, mark_at, stream_of
from agent.core.occasion import Occasion
from agent.core.store.port import AnyRow, Store
from agent.core.store.schema import agents
from agent.core.wakeups import EVENTS, Topic, Wakeups, action_topic, agent_topic
from agent.domain.ids import RandomBits
from agent.infra.clock import Clock
from agent.wire.messages import (
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
from agent.wire.strict_json import encode_text

T = TypeVar("T")

WAIT_S_MAX = 60.0
SEEN_EVERY_S = 30.0  # how old `last_seen_at` may get on disk while a node only asks
FENCED_NOTED_EVERY_S = 10.0
PULL_TURNS_MAX = 8  # settle, then read; more only while instances fight over one name


class NodeProtocol:
    """What nodes may do."""

    def __init__(
        self, store: Store, clock: Clock, random_bits: RandomBits, wakeups: Wakeups
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bits = random_bits
        self._wakeups = wakeups
        self._credentials = Credentials(store)
        self._seen_s: dict[str, float] = {}
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
        with self._wakeups.subscribed(agent_topic(agent_id)) as waiter:
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
                agent_id, self._store.read(lambda c: _read_pull(c, agent_id, instance, cursor))
            )
            if answer is not None:
                await self._note_seen(agent_id, occasion)
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
        receipt = await self._write_as(
            agent_id, instance, lambda c, occasion, agent: apply_events(c, occasion, agent, batch)
        )
        if receipt.stored:
            self._notify_actions(receipt.touched)
        if receipt.refusal is not None:
            raise receipt.refusal
        return EventsAck(acked=receipt.acked)

    async def put_state(self, agent_id: str, instance: str, push: StatePush) -> StateAccepted:
        """Take a part of the node's state. Raises `EventsRefused`, `Fenced`."""
        require_sound(push)
        receipt = await self._write_as(
            agent_id, instance, lambda c, occasion, agent: apply_state(c, occasion, agent, push)
        )
        self._notify_actions(receipt.touched)
        return StateAccepted(faults=plain_faults(tuple(receipt.faults[:50])))

    def now(self) -> datetime:
        """The core's wall clock."""
        return self._clock.now()

    async def put_node(self, agent_id: str, instance: str, report: NodeReport) -> None:
        """Keep what the node says of itself. Raises `Fenced`."""
        await self._write_as(
            agent_id, instance, lambda c, occasion, agent: _put_node(c, occasion, agent, report)
        )

    async def _write_as(
        self,
        agent_id: str,
        instance: str,
        work: Callable[[Connection, Occasion, AnyRow], T],
    ) -> T:
        """One write in the name of the node. Raises `Fenced`, and what the work raises."""
        occasion = self._occasion()

        def write(connection: Connection) -> tuple[bool, T]:
            agent, took_over = admit(connection, occasion, agent_id, instance)
            return took_over, work(connection, occasion, agent)

        took_over, result = await self._guard(agent_id, self._store.write(write))
        if took_over:  # an open poll of the one before ends with that
            self._wakeups.notify([agent_topic(agent_id), EVENTS])
        return result

    def _notify_actions(self, action_ids: Iterable[str]) -> None:
        topics: list[Topic] = [EVENTS]
        topics += [action_topic(action_id) for action_id in sorted(action_ids)]
        self._wakeups.notify(topics)

    async def _guard(self, agent_id: str, work: Awaitable[T]) -> T:
        """Let a fenced instance's attempt be seen by operators, now and then."""
        try:
            return await work
        except Fenced:
            await self._note_fenced(agent_id)
            raise

    async def _note_fenced(self, agent_id: str) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._fenced_s.get(agent_id, -FENCED_NOTED_EVERY_S) < FENCED_NOTED_EVERY_S:
            return
        self._fenced_s[agent_id] = now_s
        values = {"fenced_count": agents.c.fenced_count + 1, "fenced_at": self._clock.now()}
        await self._store.write(lambda c: _set_agent(c, agent_id, values))

    async def _note_seen(self, agent_id: str, occasion: Occasion) -> None:
        """A long poll changes nothing; that the node lives is written rarely."""
        now_s = self._clock.monotonic()
        if now_s - self._seen_s.get(agent_id, -SEEN_EVERY_S) < SEEN_EVERY_S:
            return
        self._seen_s[agent_id] = now_s
        await self._store.write(lambda c: _set_agent(c, agent_id, {"last_seen_at": occasion.now}))


def _read_pull(
    connection: Connection, agent_id: str, instance: str, text: str
) -> PullAnswer | None:
    """The answer, or None when something must be written first."""
    agent = agent_row(connection, agent_id)
    if not may_speak(connection, agent, instance):
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


def _put_node(
    connection: Connection, occasion: Occasion, agent: AnyRow, report: NodeReport
) -> None:
    values = {
        "report": encode_text(report),
        "report_at": occasion.now,
        "last_seen_at": occasion.now,
    }
    _set_agent(connection, agent.id, values)


def _set_agent(connection: Connection, agent_id: str, values: dict[str, object]) -> None:
    connection.execute(update(agents).where(agents.c.id == agent_id).values(**values))
