"""The operator API over HTTP (docs/core-api.md): authenticate, decode, call a service, encode."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.actions.listing import LIMIT_DEFAULT, LIMIT_MAX, ActionRef, Filter
from agent.core.actions.service import WAIT_S_MAX, Dispatch
from agent.core.nodes.enrolment import TTL_S_DEFAULT, TTL_S_MAX
from agent.core.nodes.roster import Roster
from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.domain.definition import Owner
from agent.domain.lifecycle import ExecutionStatus
from agent.domain.phase import Phase
from agent.infra.asgi import (
    Query,
    answer,
    read_json,
    read_optional_json,
    unless_gone,
)
from agent.version import VERSION
from agent.wire import fields as f
from agent.wire.fields import Field, read_closed

AFTER_MAX = 2**53
_TOKEN_BODY = {"node": Field(f.action_id), "ttl_s": Field(f.number(1, TTL_S_MAX))}


class OperatorRoutes:
    """One method per endpoint."""

    def __init__(self, door: Door, dispatch: Dispatch, roster: Roster) -> None:
        self._door = door
        self._dispatch = dispatch
        self._roster = roster

    def routes(self) -> list[BaseRoute]:
        """The table of the operator API."""
        return [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/v1/dispatch", self.dispatch, methods=["POST"]),
            Route("/v1/actions", self.list_actions, methods=["GET"]),
            Route("/v1/actions/{id}", self.get_action, methods=["GET"]),
            Route("/v1/actions/{id}/history", self.history, methods=["GET"]),
            Route("/v1/actions/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/agents", self.list_agents, methods=["GET"]),
            Route("/v1/agents/{agent}", self.get_agent, methods=["GET"]),
            Route("/v1/agents/{agent}/nudge", self.nudge, methods=["POST"]),
            Route("/v1/enrollment-tokens", self.create_token, methods=["POST"]),
            Route("/v1/events", self.events, methods=["GET"]),
        ]

    async def _who(self, request: Request, role: Role = Role.VIEWER) -> str:
        return (await self._door.require(request, role)).name

    async def healthz(self, request: Request) -> Response:
        """Open to everybody: a load balancer has no token."""
        return answer({"status": "ok", "version": VERSION})

    async def dispatch(self, request: Request) -> Response:
        """One action to one node."""
        by = await self._who(request, Role.OPERATOR)
        query = Query(request)
        dry_run = query.flag("dry_run")
        wait_s = query.seconds("wait", 0.0, WAIT_S_MAX)
        query.finish()
        document = await read_json(request)
        return answer(
            await self._dispatch.dispatch(document, by=by, dry_run=dry_run, wait_s=wait_s)
        )

    async def list_actions(self, request: Request) -> Response:
        """Newest first."""
        await self._who(request)
        query = Query(request)
        phase = query.one_of("phase", [phase.value for phase in Phase])
        wanted = Filter(
            node=query.text("node"),
            status=query.one_of("status", [status.value for status in ExecutionStatus]),
            phase=Phase(phase) if phase else None,
            kind=query.text("kind"),
            limit=query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX),
            after=query.whole("after", 0, 0, AFTER_MAX),
        )
        query.finish()
        return answer(await self._dispatch.list(wanted))

    async def get_action(self, request: Request) -> Response:
        """One action, whole; `wait` answers when it has ended."""
        await self._who(request)
        query = Query(request)
        ref = _ref(request, query)
        wait_s = query.seconds("wait", 0.0, WAIT_S_MAX)
        query.finish()
        return answer(await unless_gone(request, self._dispatch.wait(ref, wait_s)))

    async def history(self, request: Request) -> Response:
        """What happened to it."""
        await self._who(request)
        query = Query(request)
        ref = _ref(request, query)
        after = query.whole("after", 0, 0, AFTER_MAX)
        limit = query.whole("limit", LIMIT_MAX, 1, LIMIT_MAX)
        query.finish()
        return answer(await self._dispatch.history(ref, after, limit))

    async def cancel(self, request: Request) -> Response:
        """Withdraw it."""
        by = await self._who(request, Role.OPERATOR)
        query = Query(request)
        ref = _ref(request, query)
        query.finish()
        document = await read_optional_json(request)
        return answer(await self._dispatch.cancel(ref, document, by=by))

    async def list_agents(self, request: Request) -> Response:
        """By name."""
        await self._who(request)
        query = Query(request)
        after = query.text("after") or ""
        limit = query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        query.finish()
        return answer(await self._roster.list(after, limit))

    async def get_agent(self, request: Request) -> Response:
        """One node with its catalogue."""
        await self._who(request)
        Query(request).finish()
        return answer(await self._roster.get(request.path_params["agent"]))

    async def nudge(self, request: Request) -> Response:
        """Ask the node for everything."""
        by = await self._who(request, Role.OPERATOR)
        Query(request).finish()
        return answer(await self._roster.nudge(request.path_params["agent"], by))

    async def create_token(self, request: Request) -> Response:
        """A single-use token; this answer is the only place where it can be read."""
        await self._who(request, Role.ADMIN)
        Query(request).finish()
        values = read_closed(await read_optional_json(request), _TOKEN_BODY)
        made = await self._roster.create_token(
            values.get("node"), values.get("ttl_s", TTL_S_DEFAULT)
        )
        return answer(made, 201, {"cache-control": "no-store"})

    async def events(self, request: Request) -> Response:
        """The global stream in pages."""
        await self._who(request)
        query = Query(request)
        after = query.whole("after", 0, 0, AFTER_MAX)
        limit = query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        wait_s = query.seconds("wait", 0.0, WAIT_S_MAX)
        query.finish()
        return answer(await unless_gone(request, self._dispatch.events(after, limit, wait_s)))


def _ref(request: Request, query: Query) -> ActionRef:
    return ActionRef(
        id=request.path_params["id"],
        node=query.text("node"),
        owner=query.one_of("owner", [owner.value for owner in Owner]),
    )
