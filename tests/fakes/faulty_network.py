"""The way between a node and the core: delays, losses of requests and of answers, duplicates, cuts.

Every message goes through the real encoding, so that what cannot be said on the wire is not said
here either. A request that was lost, and an answer that was lost after its effect, look the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from agent.node.sync.port import CoreUnreachable
from agent.version import VERSION
from agent.wire import strict_json
from agent.wire.messages import (
    FREEZE,
    THAW,
    Enroll,
    Enrolled,
    EventsAck,
    EventsPush,
    NodeReport,
    PullAnswer,
    StatePush,
    decode_message,
)
from tests.fakes.sim_core import Services, SimCore
from tests.fakes.virtual_loop import Life, wait_any

T = TypeVar("T")
M = TypeVar("M", bound=msgspec.Struct)
Call = Callable[[Services], Awaitable[Any]]
Watch = Callable[..., None]


@dataclass(slots=True, kw_only=True)
class Weather:
    """What a link does to messages; probabilities per message, spans in seconds."""

    delay_s: tuple[float, float] = (0.001, 0.02)
    lost: float = 0.0
    doubled: float = 0.0
    timeout_s: tuple[float, float] = (0.1, 8.0)
    """How long it takes a sender to give up on what was lost."""
    late_s: tuple[float, float] = (0.0, 15.0)
    """How much later a duplicate arrives."""


CALM = Weather()


class Link:
    """The wire of one node. `cut` for a partition, `mend` after it."""

    def __init__(self, rng: random.Random, weather: Weather, watch: Watch) -> None:
        self.rng = rng
        self.weather = weather
        self.watch = watch
        self.is_up = True
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """Nothing gets through, and what waits for an answer is cut off."""
        self.is_up = False
        self._cut.set()
        self._cut = asyncio.Event()

    def mend(self) -> None:
        """As if nothing had been."""
        self.is_up = True

    async def carry(self, core: SimCore, what: str, call: Call, *, polls: bool) -> Any:
        """One request and its answer, or `CoreUnreachable`."""
        await self._travel(what, "request")
        if self._happens(self.weather.doubled):
            self.watch("network_doubled", call=what)
            asyncio.get_running_loop().call_later(
                self.rng.uniform(*self.weather.late_s), _send_again, core, call
            )
        served = asyncio.ensure_future(core.serve(call))
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            await wait_any(served, cut)
            if not served.done():
                raise CoreUnreachable("the connection was cut", cut=polls)
            answer = served.result()
        finally:
            cut.cancel()
            served.add_done_callback(_drop)
        await self._travel(what, "answer")
        return answer

    async def _travel(self, what: str, part: str) -> None:
        await asyncio.sleep(self.rng.uniform(*self.weather.delay_s))
        lost = self._happens(self.weather.lost)
        if self.is_up and not lost:
            return
        if lost:
            self.watch("network_lost", call=what, part=part)
        await asyncio.sleep(self.rng.uniform(*self.weather.timeout_s))
        raise CoreUnreachable(f"{what}: no answer")

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability


def _send_again(core: SimCore, call: Call) -> None:
    """A late duplicate: its effect is real, its answer goes nowhere."""
    asyncio.ensure_future(core.serve(call)).add_done_callback(_drop)


def _drop(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


class NetworkCore:
    """`agent.node.sync.port.Core` of one life of a node."""

    def __init__(self, core: SimCore, link: Link, life: Life, instance: str) -> None:
        self._core = core
        self._link = link
        self._life = life
        self._instance = instance
        self._agent_id = ""
        self._credential = ""

    def identify(self, agent_id: str, credential: str) -> None:
        """Speak as this node from now on."""
        self._agent_id = agent_id
        self._credential = credential

    async def enroll(self, token: str, nonce: str, agent_id: str | None) -> Enrolled:
        """Exchange a single-use token for a credential."""
        message = Enroll(token=token, nonce=nonce, agent_id=agent_id, version=VERSION)
        answer: Enrolled = await self._send(
            "enroll", lambda it: it.protocol.enroll(message), Enrolled
        )
        return answer

    async def pull(self, cursor: str, wait_s: float) -> PullAnswer:
        """Definitions and requests after `cursor`."""
        agent_id, instance, watch = self._agent_id, self._instance, self._link.watch

        async def call(it: Services) -> PullAnswer:
            watch("cursor_presented", cursor=cursor)
            answer = await it.protocol.pull(agent_id, instance, cursor, wait_s)
            told = [
                (one["id"], one.get("should_be_executed", True), one.get("to_date"))
                for one in answer.actions
            ]
            watch(
                "pull_answered", cursor=answer.cursor, full=answer.full, definitions=told,
                approved=[
                    one["id"] for one in answer.actions
                    if (one.get("approval") or {}).get("state") == "approved"
                ],
                freezes=[
                    (one.type, (one.args or {}).get("freeze"))
                    for one in answer.requests if one.type in (FREEZE, THAW)
                ],
            )  # fmt: skip
            return answer

        answer: PullAnswer = await self._send(
            "pull", self._known(call), PullAnswer, polls=wait_s > 0
        )
        return answer

    async def push_events(self, push: EventsPush) -> EventsAck:
        """Hand over events."""
        push = _through_the_wire(push, EventsPush)
        me = (self._agent_id, self._instance)
        call = self._known(lambda it: it.protocol.push_events(*me, push))
        answer: EventsAck = await self._send("events", call, EventsAck)
        return answer

    async def put_state(self, push: StatePush) -> None:
        """Hand over (a part of) everything this node has."""
        push = _through_the_wire(push, StatePush)
        me = (self._agent_id, self._instance)
        await self._send("state", self._known(lambda it: it.protocol.put_state(*me, push)), None)

    async def put_node(self, report: NodeReport) -> None:
        """Say what this node is."""
        report = _through_the_wire(report, NodeReport)
        me = (self._agent_id, self._instance)
        await self._send("node", self._known(lambda it: it.protocol.put_node(*me, report)), None)

    def _known(self, call: Call) -> Call:
        """After the check that stands in front of every endpoint."""
        agent_id, credential = self._agent_id, self._credential

        async def checked(it: Services) -> Any:
            await it.protocol.authenticate(agent_id, credential)
            return await call(it)

        return checked

    async def _send(
        self, what: str, call: Call, answer: type[M] | None, *, polls: bool = False
    ) -> Any:
        self._life.require()
        told = await self._link.carry(self._core, what, call, polls=polls)
        self._life.require()
        return None if answer is None else _through_the_wire(told, answer)


def _through_the_wire(message: Any, kind: type[M]) -> M:
    return decode_message(strict_json.encode(message), kind)
