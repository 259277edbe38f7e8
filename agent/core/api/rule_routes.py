"""Rules over HTTP (docs/rules.md): which hold, reading their files anew, trying one out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.core.rules.keeper import RuleKeeper
from agent.infra.asgi import answer, read_json
from agent.infra.query import Query


class RuleRoutes:
    """One method per endpoint."""

    def __init__(self, door: Door, rules: RuleKeeper) -> None:
        self._door = door
        self._rules = rules

    def routes(self) -> list[BaseRoute]:
        """The table."""
        return [
            Route("/v1/rules", self.list_rules, methods=["GET"]),
            Route("/v1/rules/reload", self.reload, methods=["POST"]),
            Route("/v1/rules/test", self.test, methods=["POST"]),
        ]

    async def list_rules(self, request: Request) -> Response:
        """In the order in which they are asked."""
        await self._door.require(request, Role.VIEWER)
        Query(request).finish()
        return answer(self._rules.list())

    async def reload(self, request: Request) -> Response:
        """All or nothing."""
        principal = await self._door.require(request, Role.ADMIN)
        Query(request).finish()
        return answer(await self._rules.reload(principal.name))

    async def test(self, request: Request) -> Response:
        """Nothing is stored, so whoever may look may ask."""
        await self._door.require(request, Role.VIEWER)
        Query(request).finish()
        return answer(await self._rules.test(await read_json(request)))
