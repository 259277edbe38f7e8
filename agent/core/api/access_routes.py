"""Tokens and the audit log over HTTP (docs/access.md), and the description of it all."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.actions.listing import LIMIT_DEFAULT, LIMIT_MAX
from agent.core.api.description import describe_core
from agent.core.people.access import Access
from agent.core.people.chain import VERIFIED_AT_ONCE, Wanted, parse_place
from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.infra.asgi import answer, read_json
from agent.infra.query import Query

AFTER_MAX = 2**53


class AccessRoutes:
    """One method per endpoint."""

    def __init__(self, door: Door, access: Access) -> None:
        self._door = door
        self._access = access

    def routes(self) -> list[BaseRoute]:
        """The table."""
        return [
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/v1/tokens", self.list_tokens, methods=["GET"]),
            Route("/v1/tokens", self.create_token, methods=["POST"]),
            Route("/v1/tokens/{id}", self.revoke_token, methods=["DELETE"]),
            Route("/v1/audit", self.audit, methods=["GET"]),
            Route("/v1/audit/verify", self.verify_audit, methods=["GET"]),
        ]

    async def openapi(self, request: Request) -> Response:
        """Open to everybody: a generator has no token, and there is no secret in it."""
        Query(request).finish()
        return answer(describe_core())

    async def list_tokens(self, request: Request) -> Response:
        """By id."""
        await self._door.require(request, Role.ADMIN)
        query = Query(request)
        after = query.text("after") or ""
        limit = query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        whole = query.flag("all")
        query.finish()
        return answer(await self._access.list_tokens(after, limit, whole=whole))

    async def create_token(self, request: Request) -> Response:
        """Nowhere else, and never again, can the token be read."""
        by = await self._door.require(request, Role.ADMIN)
        Query(request).finish()
        made = await self._access.create_token(await read_json(request), by.name)
        return answer(made, 201, {"cache-control": "no-store"})

    async def revoke_token(self, request: Request) -> Response:
        """Nothing is left to say."""
        by = await self._door.require(request, Role.ADMIN)
        Query(request).finish()
        await self._access.revoke_token(request.path_params["id"], by.name)
        return Response(status_code=204)

    async def audit(self, request: Request) -> Response:
        """For viewers too: who looks after the operators need not be one."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        wanted = Wanted(
            who=query.text("who"),
            what=query.text("what"),
            target=query.text("target"),
            limit=query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX),
            after=query.whole("after", 0, 0, AFTER_MAX),
        )
        query.finish()
        return answer(await self._access.audit(wanted))

    async def verify_audit(self, request: Request) -> Response:
        """A bounded part of the chain; `next` goes on."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        after = query.text("after")
        limit = query.whole("limit", VERIFIED_AT_ONCE, 1, VERIFIED_AT_ONCE)
        query.finish()
        return answer(await self._access.verify_audit(parse_place(after), limit))
