"""The node protocol over HTTP (docs/protocol.md): decode, call the service, encode."""

from __future__ import annotations

from email.utils import format_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core import log_events
from agent.core.nodes.admission import Fenced
from agent.core.nodes.enrolment import EnrolmentRefused
from agent.core.nodes.events import EventsRefused
from agent.core.nodes.protocol import WAIT_S_MAX, NodeProtocol
from agent.domain.errors import Refused, shown
from agent.infra.asgi import answer, bearer_token, read_message, unless_gone
from agent.infra.query import Query
from agent.wire.messages import (
    INSTANCE_HEADER,
    PROTOCOL,
    PROTOCOL_HEADER,
    Enroll,
    EventsPush,
    NodeReport,
    StatePush,
)

ENROLL_BYTES_MAX = 16 * 1024  # whoever sends it has shown nothing yet: it must not cost much


class NodeRoutes:
    """One method per endpoint."""

    def __init__(self, protocol: NodeProtocol, log: Any) -> None:
        self._protocol = protocol
        self._log = log

    def routes(self) -> list[BaseRoute]:
        """The table of the node protocol."""
        return [
            Route("/v1/agents/enroll", self.enroll, methods=["POST"]),
            Route("/v1/agents/{agent}/actions", self.pull, methods=["GET"]),
            Route("/v1/agents/{agent}/events", self.push_events, methods=["POST"]),
            Route("/v1/agents/{agent}/node", self.put_node, methods=["PUT"]),
            Route("/v1/agents/{agent}/state", self.put_state, methods=["PUT"]),
        ]

    async def enroll(self, request: Request) -> Response:
        """Token in, credential out."""
        _require_version(request)
        Query(request).finish()
        message = await read_message(request, Enroll, ENROLL_BYTES_MAX)
        try:
            enrolled = await self._protocol.enroll(message)
        except EnrolmentRefused as error:
            self._log.warning(
                log_events.ENROLMENT_REFUSED,
                cause=error.cause,
                node=shown(message.agent_id),
                client=request.client.host if request.client else None,
            )
            raise
        self._log.info(log_events.ENROLLED, node=enrolled.agent_id, version=message.version[:64])
        return answer(enrolled, headers=self._headers())

    async def pull(self, request: Request) -> Response:
        """Long poll."""
        agent_id, instance = await self._caller(request)
        query = Query(request)
        cursor = query.text("cursor") or ""
        wait_s = query.seconds("wait", 0.0, WAIT_S_MAX)
        query.finish()
        try:
            found = await unless_gone(
                request, self._protocol.pull(agent_id, instance, cursor, wait_s)
            )
        except Fenced:
            self._log.warning(log_events.NODE_FENCED, node=agent_id, instance=instance)
            raise
        return answer(found, headers=self._headers())

    async def push_events(self, request: Request) -> Response:
        """Events in, how far they are durable out."""
        agent_id, instance = await self._caller(request)
        Query(request).finish()
        push = await read_message(request, EventsPush)
        try:
            ack = await self._protocol.push_events(agent_id, instance, push)
        except EventsRefused as error:
            self._log.warning(
                log_events.EVENTS_REFUSED, node=agent_id, code=error.code, error=str(error)
            )
            raise
        return answer(ack, headers=self._headers())

    async def put_node(self, request: Request) -> Response:
        """What the node is."""
        agent_id, instance = await self._caller(request)
        Query(request).finish()
        await self._protocol.put_node(agent_id, instance, await read_message(request, NodeReport))
        return answer({}, headers=self._headers())

    async def put_state(self, request: Request) -> Response:
        """A part of everything the node has."""
        agent_id, instance = await self._caller(request)
        Query(request).finish()
        push = await read_message(request, StatePush)
        accepted = await self._protocol.put_state(agent_id, instance, push)
        return answer(accepted, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        """With the date (RFC 9110): a node that doubts its own clock asks ours."""
        date = format_datetime(self._protocol.now(), usegmt=True)
        return {PROTOCOL_HEADER: str(PROTOCOL), "Date": date}

    async def _caller(self, request: Request) -> tuple[str, str]:
        """Which node, which start of it. Raises `Refused`; nothing of the body was read."""
        agent_id: str = request.path_params["agent"]
        await self._protocol.authenticate(agent_id, bearer_token(request))
        _require_version(request)
        return agent_id, request.headers.get(INSTANCE_HEADER, "")


def _require_version(request: Request) -> None:
    """A node that names its version must be understood; one that names none speaks ours."""
    spoken = request.headers.get(PROTOCOL_HEADER)
    if spoken is not None and spoken.strip() != str(PROTOCOL):
        raise Refused(
            "unsupported_protocol",
            f"this core speaks version {PROTOCOL} of the node protocol, not {shown(spoken)}; "
            "upgrade the older side",
        )
