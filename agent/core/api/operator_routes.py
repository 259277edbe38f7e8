"""What the core answers to everybody: whether it is there."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.infra.asgi import answer
from agent.infra.query import Query
from agent.version import VERSION


class OperatorRoutes:
    """One method per endpoint."""

    def routes(self) -> list[BaseRoute]:
        """The table."""
        return [Route("/healthz", self.healthz, methods=["GET"])]

    async def healthz(self, request: Request) -> Response:
        """Open to everybody: a load balancer has no token."""
        Query(request).finish()
        return answer({"status": "ok", "version": VERSION})
