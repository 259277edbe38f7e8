"""A core in this process with nodes that a test speaks for: enrolled, labelled, silent, frozen."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy.engine import Connection

from agent.core import timers
from agent.core.actions.documents import event_document
from agent.core.actions.listing import ActionRef
from agent.core.app import Core
from agent.core.nodes.pulled_state import Page, Unusable
from agent.core.nodes.selector import Selector, parse_selector
from agent.core.nodes.silence import Lease
from agent.core.occasion import Occasion
from agent.core.store.inline import InlineStore
from agent.core.store.port import Store
from agent.core.store.schema import events
from agent.domain.instants import format_instant
from agent.wire.messages import Enroll, EventsPush, NodeReport, PullAnswer, StatePush
from tests.fakes.core_backends import SteppedClock

ADMIN = "anna"


class ScriptedNodeApi:
    """Nodes' own APIs: pages by URL, or the words with which one cannot be used."""

    def __init__(self) -> None:
        self.pages: dict[str, list[Page] | str] = {}
        self.tokens: dict[str, str] = {}

    async def state_of(self, url: str, token: str) -> AsyncIterator[Page]:
        """As the port has it."""
        self.tokens[url] = token
        found = self.pages.get(url, "nobody answers there")
        if isinstance(found, str):
            raise Unusable(found)
        for page in found:
            yield page


class FleetCore:
    """The services over a store in memory, or what `open_store` opens; a test turns the clock."""

    open_store: ClassVar[Callable[[], Store]] = InlineStore.in_memory

    def __init__(self, lease: Lease | None = None) -> None:
        self.store = type(self).open_store()
        self.clock = SteppedClock()
        self.core = Core(self.store, self.clock, secrets.randbits, lease=lease)
        self.api = ScriptedNodeApi()
        self.core.nudging._api = self.api
        self.cursors: dict[str, str] = {}
        self.credentials: dict[str, str] = {}

    async def enroll(self, *names: str, features: tuple[str, ...] = ("freeze",)) -> None:
        """Nodes that have pulled and reported."""
        for name in names:
            await self.admit(name)
            await self.pull(name)
            await self.report(name, features=features)

    async def admit(self, name: str) -> None:
        """By a token that is made for it."""
        token = (await self.core.roster.create_token(name, 3600))["token"]
        enrolled = await self.core.nodes.enroll(Enroll(token=token, nonce="n"))
        self.credentials[name] = enrolled.credential
        self.cursors[name] = ""

    async def pull(self, name: str, instance: str = "i1") -> PullAnswer:
        """One pull; what came is acknowledged by the next one."""
        answer = await self.core.nodes.pull(name, instance, self.cursors[name], 0.0)
        self.cursors[name] = answer.cursor
        return answer

    async def requests(self, name: str) -> list[tuple[str, Mapping[str, Any] | None]]:
        """What is asked of the node, of the kinds that this is about."""
        answer = await self.pull(name)
        await self.pull(name)  # acknowledges
        return [(one.type, one.args) for one in answer.requests if one.type != "send_state"]

    async def report(self, name: str, instance: str = "i1", **members: Any) -> None:
        """The node's report; labels, brakes, features, progress as a test wants them."""
        members.setdefault("features", ("freeze",))
        members["features"] = list(members["features"])
        members.setdefault("catalogue", [{"kind": "work", "faults": []}])
        clock = {"now": format_instant(self.clock.now()), "state": "trusted"}
        report = NodeReport(version="1.0", host="box", **{"clock": clock, **members})
        await self.core.nodes.put_node(name, instance, report)

    async def state(self, name: str, epoch: str, *actions: Any, as_of: int = 0) -> None:
        """Everything that the node has, in one part."""
        push = StatePush(
            agent_epoch=epoch, as_of_seq=as_of, first_seq=as_of + 1, cursor=self.cursors[name],
            snapshot=secrets.token_hex(4), actions=list(actions),
        )  # fmt: skip
        await self.core.nodes.put_state(name, "i1", push)

    async def tell(self, name: str, epoch: str, *events: Any) -> None:
        """Events of the node."""
        push = EventsPush(agent_epoch=epoch, events=list(events))
        await self.core.nodes.push_events(name, "i1", push)

    async def dispatch(self, node: str, **fields: Any) -> str:
        """One action; its id."""
        made = await self.core.dispatch.dispatch({"kind": "work", "node": node} | fields, by=ADMIN)
        return str(made["action_id"])

    async def agent(self, name: str) -> dict[str, Any]:
        """As the API shows it."""
        return await self.core.roster.get(name)

    async def names(self, selector: str | None = None, **more: bool) -> list[str]:
        """Who is listed."""
        wanted: Selector | None = None if selector is None else parse_selector(selector)
        page = await self.core.roster.list("", 100, wanted, **more)
        return [one["id"] for one in page["agents"]]

    async def action(self, action_id: str) -> dict[str, Any]:
        """As the API shows it."""
        return await self.core.dispatch.get(ActionRef(id=action_id))

    async def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The core's own events, of one node or of all."""

        def read(connection: Connection) -> list[dict[str, Any]]:
            query = select(events).where(events.c.seq.is_(None)).order_by(events.c.id)
            return [event_document(row) for row in connection.execute(query).all()]

        found = await self.store.read(read)
        return [one for one in found if name is None or one["node"] == name]

    async def kinds(self, name: str | None = None) -> list[str]:
        """The words of these events."""
        return [one["type"] for one in await self.events(name)]

    async def later(self, flush: bool = True, **span: float) -> None:
        """Turn the clock, write who was heard, and fire what is due until nothing is."""
        if flush:
            await self.core.nodes.presence.flush()
        delta = timedelta(**span)
        self.clock.at += delta
        self.clock.seconds += delta.total_seconds()
        occasion = Occasion(self.clock.now(), secrets.randbits)
        handlers = self.core.timer_handlers
        for _ in range(20):
            await self.store.write(lambda c: timers.fire_due(c, occasion, handlers))


def transition(seq: int, action_id: str, status: str, now: str, **more: Any) -> dict[str, Any]:
    """A status change as a node reports it."""
    execution = {"execution_status": status, "attempt": 1}
    return {
        "seq": seq, "mark": f"mark{seq}{action_id[:6]}", "type": "transition", "at": now,
        "action_id": action_id, "from": "NULL" if status == "STARTED" else "STARTED",
        "to": status, "attempt": 1, "execution": execution, **more,
    }  # fmt: skip


def item(action_id: str, status: str = "NULL", **more: Any) -> dict[str, Any]:
    """An action of the core's as it stands in a state."""
    return {
        "action_id": action_id, "revision": 1, "owner": "core",
        "execution": {"execution_status": status, "attempt": 1}, **more,
    }  # fmt: skip
