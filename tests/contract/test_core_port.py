"""`agent.node.sync.port.Core` against a core: over HTTP to a real `cored`, and the simulation's.

What sync relies on is the same behind both. What happens when the other side is no core at all is
in `test_http_core_misled.py`.
"""

from __future__ import annotations

import asyncio
import functools
import random
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest

from agent.infra.clock import SystemClock
from agent.node.sync.http_core import HttpCore
from agent.node.sync.port import Core, CoreRefused, CoreUnreachable
from agent.version import VERSION
from agent.wire.messages import EventsPush, NodeReport, StatePush
from tests.fakes.core_backends import Backend, OverHttp
from tests.fakes.core_process import CoreProcess
from tests.fakes.faulty_network import CALM, Link, NetworkCore
from tests.fakes.sim_core import SimCore
from tests.fakes.virtual_loop import Life

pytestmark = pytest.mark.timeout(60)


class Identified(Core, Protocol):
    """What both have besides the port."""

    def identify(self, agent_id: str, credential: str) -> None: ...


class Place(Protocol):
    """A core, and ways to it."""

    def door(self) -> Identified:
        """The port of another `agentd` start."""
        ...

    async def token(self) -> str: ...
    async def dispatch(self, node: str, action_id: str) -> None: ...


class OverHttpPlace:
    """A `cored` process."""

    def __init__(self, url: str, backend: Backend) -> None:
        self._url = url
        self._backend = backend

    def door(self) -> Identified:
        return HttpCore(self._url, instance=secrets.token_hex(8), version=VERSION)

    async def token(self) -> str:
        return await self._backend.token(None)

    async def dispatch(self, node: str, action_id: str) -> None:
        await self._backend.dispatch({"node": node, "id": action_id, "kind": "sleep"})


class SimulatedPlace:
    """The simulation's core and wire, on the machine's clock."""

    def __init__(self, core: SimCore) -> None:
        self._core = core

    def door(self) -> Identified:
        link = Link(random.Random(1), CALM, lambda *_, **__: None)
        return NetworkCore(self._core, link, Life("n"), secrets.token_hex(8))

    async def token(self) -> str:
        made = await self._core.serve(lambda it: it.roster.create_token(None))
        return str(made["token"])

    async def dispatch(self, node: str, action_id: str) -> None:
        document = {"node": node, "id": action_id, "kind": "sleep"}
        await self._core.serve(lambda it: it.dispatch.dispatch(document))


OpenPlace = Callable[[], AbstractAsyncContextManager[Place]]


@asynccontextmanager
async def simulated() -> AsyncIterator[Place]:
    core = SimCore(SystemClock(), secrets.randbits)
    try:
        yield SimulatedPlace(core)
    finally:
        core.close()


@pytest.fixture(params=["over_http", "simulated"])
def place(request: pytest.FixtureRequest) -> OpenPlace:
    if request.param == "simulated":
        return simulated
    process: CoreProcess = request.getfixturevalue("core_process")

    @asynccontextmanager
    async def over_http() -> AsyncIterator[Place]:
        async with OverHttp.to(process) as backend:
            yield OverHttpPlace(process.url, backend)

    return over_http


Scenario = Callable[[Place], Awaitable[None]]


def scenario(play: Scenario) -> Callable[[OpenPlace], None]:
    """A test that is given a core."""

    @functools.wraps(play)
    def test(place: OpenPlace) -> None:
        async def run() -> None:
            async with place() as opened:
                await play(opened)

        asyncio.run(run())

    del test.__wrapped__
    return test


async def enrolled(place: Place) -> tuple[Identified, str, str]:
    """A port with an identity, the node's name, and its epoch, known to the core."""
    core, epoch = place.door(), secrets.token_hex(8)
    enrolled = await core.enroll(await place.token(), secrets.token_hex(8), None)
    core.identify(enrolled.agent_id, enrolled.credential)
    await core.put_state(StatePush(agent_epoch=epoch, as_of_seq=0, first_seq=1))
    return core, enrolled.agent_id, epoch


def refusals(*seqs: int) -> list[dict[str, Any]]:
    """Events of the simplest sort, with marks of their own."""
    at = "2026-01-01T00:00:00Z"
    return [
        {"seq": seq, "mark": f"{secrets.token_hex(6)}{seq:04}", "type": "definition_refused",
         "at": at, "action_id": None, "revision": 1, "faults": []}
        for seq in seqs
    ]  # fmt: skip


@scenario
async def test_a_dispatch_ends_the_poll_that_waits(place: Place) -> None:
    core, node, _ = await enrolled(place)
    first = await core.pull("", 0.0)
    poll = asyncio.ensure_future(core.pull(first.cursor, 20.0))
    await asyncio.sleep(0.1)
    assert not poll.done()
    action_id = f"a-{secrets.token_hex(4)}"
    await place.dispatch(node, action_id)
    answer = await asyncio.wait_for(poll, 10)
    assert [one["id"] for one in answer.actions] == [action_id]
    again = await core.pull(first.cursor, 0.0)
    assert again.actions == answer.actions, "nothing is acknowledged before its cursor is presented"
    assert (await core.pull(answer.cursor, 0.0)).actions == []


@scenario
async def test_an_empty_poll_ends_after_its_wait(place: Place) -> None:
    core, _, _ = await enrolled(place)
    cursor = (await core.pull("", 0.0)).cursor
    answer = await core.pull(cursor, 0.2)
    assert (answer.actions, answer.full) == ([], False)


@scenario
async def test_events_are_acknowledged_in_order(place: Place) -> None:
    core, _, epoch = await enrolled(place)
    events = refusals(1, 2, 3)
    assert (await core.push_events(EventsPush(agent_epoch=epoch, events=events))).acked == 3
    assert (await core.push_events(EventsPush(agent_epoch=epoch, events=events))).acked == 3
    assert (await core.push_events(EventsPush(agent_epoch=epoch, events=[]))).acked == 3


@scenario
async def test_a_gap_names_what_is_expected(place: Place) -> None:
    core, _, epoch = await enrolled(place)
    with pytest.raises(CoreRefused) as refused:
        await core.push_events(EventsPush(agent_epoch=epoch, events=refusals(4)))
    assert (refused.value.code, refused.value.expected) == ("gap", 1)


@scenario
async def test_another_history_is_a_fork(place: Place) -> None:
    core, _, epoch = await enrolled(place)
    await core.push_events(EventsPush(agent_epoch=epoch, events=refusals(1)))
    for push in (
        EventsPush(agent_epoch=epoch, events=refusals(1)),
        EventsPush(agent_epoch="unheard-of", events=refusals(2)),
    ):
        with pytest.raises(CoreRefused) as refused:
            await core.push_events(push)
        assert refused.value.code == "forked"


@scenario
async def test_a_later_start_fences_the_one_before(place: Place) -> None:
    core, node, _ = await enrolled(place)
    later = place.door()
    token = await place.token()
    with pytest.raises(CoreRefused):
        await later.enroll(token, "n", node)  # an unbound token never takes over a known name
    later.identify(*identity_of(core))
    await later.pull("", 0.0)
    with pytest.raises(CoreRefused) as refused:
        await core.pull("", 0.0)
    assert refused.value.code == "fenced"


def identity_of(core: Any) -> tuple[str, str]:
    """The same node's, for another start of it."""
    return core._agent_id, core._credential


@scenario
async def test_nobody_is_refused(place: Place) -> None:
    _, node, _ = await enrolled(place)
    stranger = place.door()
    stranger.identify(node, "guessed")
    with pytest.raises(CoreRefused) as refused:
        await stranger.pull("", 0.0)
    assert refused.value.code == "unauthorized"


@scenario
async def test_a_report_is_taken(place: Place) -> None:
    core, _, _ = await enrolled(place)
    await core.put_node(NodeReport(version=VERSION, host="here"))


@scenario
async def test_each_answer_of_the_core_tells_its_date(place: Place) -> None:
    """Over HTTP; a simulated core has no header, and its node no doubts."""
    core, _, _ = await enrolled(place)
    if isinstance(core, HttpCore):
        dates: list[datetime] = []
        core.on_date = dates.append
        await core.put_node(NodeReport(version=VERSION, host="here"))
        assert abs(dates[0] - SystemClock().now()) < timedelta(seconds=30)


def test_a_core_that_is_down_is_unreachable(unused_tcp_port: int) -> None:
    async def run() -> None:
        core = HttpCore(f"http://127.0.0.1:{unused_tcp_port}", instance="i", version=VERSION)
        with pytest.raises(CoreUnreachable):
            await core.pull("", 0.0)
        await core.close()

    asyncio.run(run())


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
