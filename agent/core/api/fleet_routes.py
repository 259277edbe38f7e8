"""Nodes over HTTP (docs/fleet.md): authenticate, decode, call a service, encode."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.actions.listing import LIMIT_DEFAULT, LIMIT_MAX, ActionRef
from agent.core.nodes.enrolment import TTL_S_DEFAULT, TTL_S_MAX
from agent.core.nodes.fleet import Fleet, read_nudge
from agent.core.nodes.nudging import Nudging
from agent.core.nodes.roster import Roster
from agent.core.nodes.selector import Selector, parse_selector
from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.domain.definition import Owner
from agent.domain.errors import Fault, InvalidDocument
from agent.infra.asgi import answer, read_json, read_optional_json, unless_gone
from agent.infra.query import Query
from agent.wire import fields as f
from agent.wire.fields import Field, read_closed

_TOKEN_BODY = {"node": Field(f.action_id), "ttl_s": Field(f.number(1, TTL_S_MAX))}


class FleetRoutes:
    """One method per endpoint."""

    def __init__(self, door: Door, roster: Roster, fleet: Fleet, nudging: Nudging) -> None:
        self._door = door
        self._roster = roster
        self._fleet = fleet
        self._nudging = nudging

    def routes(self) -> list[BaseRoute]:
        """The table. Words come before names: no node is called as they are."""
        return [
            Route("/v1/agents", self.list_agents, methods=["GET"]),
            Route("/v1/agents/freezes", self.freezes, methods=["GET"]),
            Route("/v1/agents/freeze", self.freeze, methods=["POST"]),
            Route("/v1/agents/thaw", self.thaw, methods=["POST"]),
            Route("/v1/agents/nudge", self.nudge_many, methods=["POST"]),
            Route("/v1/agents/{agent}", self.get_agent, methods=["GET"]),
            Route("/v1/agents/{agent}", self.edit_agent, methods=["PATCH"]),
            Route("/v1/agents/{agent}/nudge", self.nudge, methods=["POST"]),
            Route("/v1/agents/{agent}/decommission", self.decommission, methods=["POST"]),
            Route("/v1/actions/{id}/nudge", self.nudge_action, methods=["POST"]),
            Route("/v1/enrollment-tokens", self.list_tokens, methods=["GET"]),
            Route("/v1/enrollment-tokens", self.create_token, methods=["POST"]),
            Route("/v1/enrollment-tokens/{token}", self.revoke_token, methods=["DELETE"]),
        ]

    async def _who(self, request: Request, role: Role = Role.VIEWER) -> str:
        return (await self._door.require(request, role)).name

    async def list_agents(self, request: Request) -> Response:
        """By name."""
        await self._who(request)
        query = Query(request)
        after = query.text("after") or ""
        limit = query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        wanted = query.text("selector")
        decommissioned = query.flag("decommissioned")
        query.finish()
        selector = None if wanted is None else _selector(wanted)
        return answer(
            await self._roster.list(after, limit, selector, decommissioned=decommissioned)
        )

    async def get_agent(self, request: Request) -> Response:
        """One node with its catalogue."""
        await self._who(request)
        Query(request).finish()
        return answer(await self._roster.get(request.path_params["agent"]))

    async def edit_agent(self, request: Request) -> Response:
        """Its labels, and where its API is; the node as it is then."""
        by = await self._who(request, Role.ADMIN)
        Query(request).finish()
        agent_id = request.path_params["agent"]
        await self._fleet.edit(agent_id, await read_json(request), by)
        return answer(await self._roster.get(agent_id))

    async def decommission(self, request: Request) -> Response:
        """Out of service; the node as it is then."""
        by = await self._who(request, Role.ADMIN)
        Query(request).finish()
        agent_id = request.path_params["agent"]
        await self._fleet.decommission(agent_id, await read_json(request), by)
        return answer(await self._roster.get(agent_id))

    async def freeze(self, request: Request) -> Response:
        """Nothing starts on these nodes from now on."""
        by = await self._who(request, Role.OPERATOR)
        Query(request).finish()
        return answer(await self._fleet.freeze(await read_json(request), by), 201)

    async def thaw(self, request: Request) -> Response:
        """The end of that."""
        by = await self._who(request, Role.OPERATOR)
        Query(request).finish()
        return answer(await self._fleet.thaw(await read_json(request), by))

    async def freezes(self, request: Request) -> Response:
        """Those that hold; with `over`, those that are over."""
        await self._who(request)
        query = Query(request)
        over = query.flag("over")
        query.finish()
        return answer(await self._fleet.freezes(over=over))

    async def nudge(self, request: Request) -> Response:
        """A fresh look at a node."""
        by = await self._who(request, Role.OPERATOR)
        Query(request).finish()
        agent_id = request.path_params["agent"]
        return answer(await unless_gone(request, self._nudging.one(agent_id, by)))

    async def nudge_many(self, request: Request) -> Response:
        """A fresh look at the nodes of a selector."""
        by = await self._who(request, Role.OPERATOR)
        Query(request).finish()
        meant = read_nudge(await read_json(request))
        return answer(await unless_gone(request, self._nudging.many(meant, by)))

    async def nudge_action(self, request: Request) -> Response:
        """A fresh look at the node of an action."""
        by = await self._who(request, Role.OPERATOR)
        query = Query(request)
        ref = ActionRef(
            id=request.path_params["id"],
            node=query.text("node"),
            owner=query.one_of("owner", [owner.value for owner in Owner]),
        )
        query.finish()
        return answer(await unless_gone(request, self._nudging.action(ref, by)))

    async def list_tokens(self, request: Request) -> Response:
        """Enrolment tokens: never themselves, only what they are for."""
        await self._who(request, Role.ADMIN)
        query = Query(request)
        after = query.text("after") or ""
        limit = query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        query.finish()
        return answer(await self._fleet.enrolment_tokens(after, limit))

    async def create_token(self, request: Request) -> Response:
        """A single-use token; this answer is the only place where it can be read."""
        by = await self._who(request, Role.ADMIN)
        Query(request).finish()
        values = read_closed(await read_optional_json(request), _TOKEN_BODY)
        made = await self._roster.create_token(
            values.get("node"), values.get("ttl_s", TTL_S_DEFAULT), by=by
        )
        return answer(made, 201, {"cache-control": "no-store"})

    async def revoke_token(self, request: Request) -> Response:
        """It brings nobody in any more; the token as it was."""
        by = await self._who(request, Role.ADMIN)
        Query(request).finish()
        return answer(await self._fleet.revoke_token(request.path_params["token"], by))


def _selector(text: str) -> Selector:
    try:
        return parse_selector(text)
    except ValueError as error:
        raise InvalidDocument([Fault("selector", str(error))]) from None
