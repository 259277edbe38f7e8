"""`GET /metrics` (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.infra.query import Query


class MetricRoutes:
    """One endpoint, for viewers: a scraper has a token like any other program."""

    def __init__(self, door: Door, expose: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        self._door = door
        self._expose = expose

    def routes(self) -> list[BaseRoute]:
        """The table."""
        return [Route("/metrics", self.metrics, methods=["GET"])]

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        await self._door.require(request, Role.VIEWER)
        Query(request).finish()
        return Response(await self._expose(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
