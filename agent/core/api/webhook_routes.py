"""`/v1/webhooks` (docs/events.md): authenticate, decode, call the service, encode."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.actions.listing import LIMIT_DEFAULT, LIMIT_MAX
from agent.core.events.registry import Registry
from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.domain.errors import NotFound, shown
from agent.infra.asgi import answer, read_json
from agent.infra.query import Query

ROW_MAX = 2**53


class WebhookRoutes:
    """One method per endpoint. For admins alone: who knows a chat's URL may write there."""

    def __init__(self, door: Door, registry: Registry) -> None:
        self._door = door
        self._registry = registry

    def routes(self) -> list[BaseRoute]:
        """The table."""
        one, letter = "/v1/webhooks/{id}", "/v1/webhooks/{id}/failures/{row}"
        return [
            Route("/v1/webhooks", self.create, methods=["POST"]),
            Route("/v1/webhooks", self.list, methods=["GET"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/enable", self.enable, methods=["POST"]),
            Route(f"{one}/disable", self.disable, methods=["POST"]),
            Route(f"{one}/test", self.test, methods=["POST"]),
            Route(f"{one}/failures", self.failures, methods=["GET"]),
            Route(f"{letter}/retry", self.retry, methods=["POST"]),
            Route(letter, self.drop, methods=["DELETE"]),
        ]

    async def _admit(self, request: Request) -> str:
        """Who asks; a query string has no place here."""
        by = (await self._door.require(request, Role.ADMIN)).name
        Query(request).finish()
        return by

    async def create(self, request: Request) -> Response:
        """A new one; this answer is the only place where its secret can be read."""
        by = await self._admit(request)
        made = await self._registry.create(await read_json(request), by)
        return answer(made, 201, {"cache-control": "no-store"})

    async def list(self, request: Request) -> Response:
        """All."""
        await self._admit(request)
        return answer(await self._registry.list())

    async def get(self, request: Request) -> Response:
        """One."""
        await self._admit(request)
        return answer(await self._registry.get(request.path_params["id"]))

    async def delete(self, request: Request) -> Response:
        """Take it away."""
        by = await self._admit(request)
        return answer(await self._registry.delete(request.path_params["id"], by))

    async def enable(self, request: Request) -> Response:
        """Deliver on."""
        by = await self._admit(request)
        return answer(await self._registry.enable(request.path_params["id"], by, enabled=True))

    async def disable(self, request: Request) -> Response:
        """Rest."""
        by = await self._admit(request)
        return answer(await self._registry.enable(request.path_params["id"], by, enabled=False))

    async def test(self, request: Request) -> Response:
        """Send one message now."""
        await self._admit(request)
        return answer(await self._registry.test(request.path_params["id"]))

    async def failures(self, request: Request) -> Response:
        """The dead letters."""
        await self._door.require(request, Role.ADMIN)
        query = Query(request)
        after = query.whole("after", 0, 0, ROW_MAX)
        limit = query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        query.finish()
        return answer(await self._registry.failures(request.path_params["id"], after, limit))

    async def retry(self, request: Request) -> Response:
        """Send a dead letter once more."""
        by = await self._admit(request)
        number = _row_of(request)
        return answer(await self._registry.retry(request.path_params["id"], number, by))

    async def drop(self, request: Request) -> Response:
        """Forget a dead letter."""
        by = await self._admit(request)
        return answer(await self._registry.drop(request.path_params["id"], _row_of(request), by))


def _row_of(request: Request) -> int:
    text = request.path_params["row"]
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise NotFound(f"there is no dead letter {shown(text)}")
    return int(text)
