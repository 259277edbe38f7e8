"""The node protocol behind two doors, for one contract suite: in this process, and over HTTP.

Whoever implements a backend of their own can put it behind a third one and run the same suite.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx

from agent.core.actions.listing import ActionRef, Filter
from agent.core.actions.service import Dispatch
from agent.core.events.hub import Hub
from agent.core.events.streaming import EventStream
from agent.core.nodes.protocol import NodeProtocol
from agent.core.nodes.roster import Roster
from agent.core.store.inline import InlineStore
from agent.core.store.port import Store
from agent.core.wakeups import Wakeups
from agent.domain.errors import AgentError
from agent.domain.phase import Phase
from agent.infra.asgi import error_answer
from agent.wire import strict_json
from agent.wire.messages import (
    Enroll,
    EventsPush,
    NodeReport,
    StatePush,
    convert_message,
)
from tests.fakes.core_process import CoreProcess

Who = tuple[str, str, str]
Body = dict[str, Any]


class Rejected(Exception):
    """The backend answered with an error."""

    def __init__(self, status: int, body: Body) -> None:
        self.status = status
        self.code = body["error"]
        self.expected = body.get("expected")
        self.acked = body.get("acked")
        self.faults = body.get("faults", [])
        super().__init__(f"{status} {body}")


class Backend(Protocol):
    """Everything the suite needs; `who` is (agent, credential, instance)."""

    async def enroll(self, body: Body) -> Body: ...
    async def pull(self, who: Who, cursor: str, wait: float) -> Body: ...
    async def events(self, who: Who, body: Body) -> Body: ...
    async def state(self, who: Who, body: Body) -> Body: ...
    async def node(self, who: Who, body: Body) -> Body: ...
    async def token(self, node: str | None, ttl_s: float = 3600.0) -> str: ...
    async def dispatch(self, body: Body, **query: Any) -> Body: ...
    async def cancel(self, action_id: str, body: Any) -> Body: ...
    async def action(self, action_id: str, **query: Any) -> Body: ...
    async def actions(self, **query: Any) -> Body: ...
    async def history(self, action_id: str) -> list[Body]: ...
    async def all_events(self, node: str) -> list[Body]: ...
    async def agent(self, node: str) -> Body: ...
    async def nudge(self, node: str) -> Body: ...


class SteppedClock:
    """A wall clock of the test's own."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds


class InProcess:
    """The services themselves, over an in-memory store unless told otherwise."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = InlineStore.in_memory() if store is None else store
        self.wakeups = Wakeups()
        self.clock = SteppedClock()
        parts = (self.store, self.clock, secrets.randbits, self.wakeups)
        self.protocol = NodeProtocol(*parts)
        self.operator = Dispatch(*parts)
        self.roster = Roster(*parts)
        self.stream = EventStream(self.store, self.wakeups, Hub(self.store, self.wakeups))

    async def _plain(self, call: Any) -> Any:
        try:
            value = await call
        except AgentError as error:
            answer = error_answer(error)
            raise Rejected(answer.status_code, strict_json.decode(bytes(answer.body))) from error
        return strict_json.decode(strict_json.encode(value))

    async def enroll(self, body: Body) -> Any:
        return await self._plain(self.protocol.enroll(convert_message(body, Enroll)))

    async def _as_node(self, who: Who, call: Callable[[], Any]) -> Any:
        async def both() -> Any:
            await self.protocol.authenticate(who[0], who[1])
            return await call()

        return await self._plain(both())

    async def pull(self, who: Who, cursor: str, wait: float) -> Any:
        return await self._as_node(who, lambda: self.protocol.pull(who[0], who[2], cursor, wait))

    async def events(self, who: Who, body: Body) -> Any:
        push = convert_message(body, EventsPush)
        return await self._as_node(who, lambda: self.protocol.push_events(who[0], who[2], push))

    async def state(self, who: Who, body: Body) -> Any:
        push = convert_message(body, StatePush)
        return await self._as_node(who, lambda: self.protocol.put_state(who[0], who[2], push))

    async def node(self, who: Who, body: Body) -> Any:
        report = convert_message(body, NodeReport)
        return await self._as_node(who, lambda: self.protocol.put_node(who[0], who[2], report))

    async def token(self, node: str | None, ttl_s: float = 3600.0) -> Any:
        return (await self.roster.create_token(node, ttl_s))["token"]

    async def dispatch(self, body: Body, **query: Any) -> Any:
        wait_s = float(query.pop("wait", 0))
        return await self._plain(self.operator.dispatch(body, wait_s=wait_s, **query))

    async def cancel(self, action_id: str, body: Any) -> Any:
        return await self._plain(self.operator.cancel(ActionRef(id=action_id), body))

    async def action(self, action_id: str, **query: Any) -> Any:
        return await self._plain(self.operator.get(ActionRef(id=action_id, **query)))

    async def actions(self, **query: Any) -> Any:
        query["after"] = int(query.get("after", 0))
        if "phase" in query:
            query["phase"] = Phase(query["phase"])
        return await self._plain(self.operator.list(Filter(**query)))

    async def history(self, action_id: str) -> Any:
        found = await self._plain(self.operator.history(ActionRef(id=action_id)))
        return found["events"]

    async def all_events(self, node: str) -> Any:
        found = await self._plain(self.stream.page(0, 100_000))
        return [event for event in found["events"] if event["node"] == node]

    async def agent(self, node: str) -> Any:
        return await self._plain(self.roster.get(node))

    async def nudge(self, node: str) -> Any:
        return await self._plain(self.roster.nudge(node))


class OverHttp:
    """A real core, as any node and any operator sees it."""

    def __init__(self, core: CoreProcess, client: httpx.AsyncClient) -> None:
        self._core = core
        self._client = client

    @classmethod
    @asynccontextmanager
    async def to(cls, core: CoreProcess) -> AsyncIterator[OverHttp]:
        async with httpx.AsyncClient(base_url=core.url, timeout=30, trust_env=False) as client:
            yield cls(core, client)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        who: Who | None = None,
        body: Any = None,
        query: dict[str, Any] | None = None,
    ) -> Any:
        headers = {"Authorization": f"Bearer {who[1] if who else self._core.token}"}
        if who:
            headers["Agent-Instance"] = who[2]
        content = None if body is None else strict_json.encode(body)
        answer = await self._client.request(
            method, path, content=content, params=query or {}, headers=headers
        )
        document = strict_json.decode(answer.content)
        if answer.status_code >= 300:
            raise Rejected(answer.status_code, document)
        return document

    async def enroll(self, body: Body) -> Any:
        return await self._call("POST", "/v1/agents/enroll", body=body)

    async def pull(self, who: Who, cursor: str, wait: float) -> Any:
        query = {"cursor": cursor, "wait": f"{wait:g}"}
        return await self._call("GET", f"/v1/agents/{who[0]}/actions", who=who, query=query)

    async def events(self, who: Who, body: Body) -> Any:
        return await self._call("POST", f"/v1/agents/{who[0]}/events", who=who, body=body)

    async def state(self, who: Who, body: Body) -> Any:
        return await self._call("PUT", f"/v1/agents/{who[0]}/state", who=who, body=body)

    async def node(self, who: Who, body: Body) -> Any:
        return await self._call("PUT", f"/v1/agents/{who[0]}/node", who=who, body=body)

    async def token(self, node: str | None, ttl_s: float = 3600.0) -> Any:
        body = {"ttl_s": ttl_s} | ({"node": node} if node else {})
        return (await self._call("POST", "/v1/enrollment-tokens", body=body))["token"]

    async def dispatch(self, body: Body, **query: Any) -> Any:
        plain = {key: str(value).lower() for key, value in query.items()}
        return await self._call("POST", "/v1/dispatch", body=body, query=plain)

    async def cancel(self, action_id: str, body: Any) -> Any:
        return await self._call("POST", f"/v1/actions/{action_id}/cancel", body=body)

    async def action(self, action_id: str, **query: Any) -> Any:
        return await self._call("GET", f"/v1/actions/{action_id}", query=query)

    async def actions(self, **query: Any) -> Any:
        return await self._call("GET", "/v1/actions", query=query)

    async def history(self, action_id: str) -> Any:
        return (await self._call("GET", f"/v1/actions/{action_id}/history"))["events"]

    async def all_events(self, node: str) -> Any:
        found: list[Body] = []
        after = "0"
        while True:
            page = await self._call("GET", "/v1/events", query={"after": after, "limit": "500"})
            if not page["events"]:
                return [event for event in found if event["node"] == node]
            found += page["events"]
            after = page["next"]

    async def agent(self, node: str) -> Any:
        return await self._call("GET", f"/v1/agents/{node}")

    async def nudge(self, node: str) -> Any:
        return await self._call("POST", f"/v1/agents/{node}/nudge")
