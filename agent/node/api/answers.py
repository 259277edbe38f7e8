"""Endpoints that describe the daemon itself: doctor, metrics, OpenAPI."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from agent.infra.asgi import answer
from agent.infra.prometheus import CONTENT_TYPE, encode
from agent.node.api.context import Context
from agent.node.api.openapi import describe_api
from agent.node.scrape import read_scraped


class AnswerEndpoints:
    """Bound to the daemon's parts."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def doctor(self, request: Request) -> Response:
        """`GET /v1/doctor`: every invariant, measured now; takes up to two seconds."""
        checks = await self._context.doctor.examine()
        return answer({"checks": [check.plain() for check in checks]})

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`: Prometheus' text format."""
        now = self._context.clock.now()
        scraped = await self._context.store.read(lambda c: read_scraped(c, now))
        text = encode(self._context.scrape.families(scraped))
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        """`GET /openapi.json`: this API, as a document."""
        return answer(describe_api())
