"""Server-sent events as an answer: chunks go out as they come, for as long as both sides are there.

A reader that takes nothing for `SEND_S_MAX` is cut off; whoever makes the chunks is closed then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent.infra.asgi import unless_gone

MEDIA_TYPE = "text/event-stream"
SEND_S_MAX = 30.0
_HEADERS = {
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx in front would keep events back otherwise
}


def is_wanted(request: Request) -> bool:
    """Whether the caller asks for server-sent events by name."""
    accepted = request.headers.get("accept", "").lower()
    return any(part.split(";")[0].strip() == MEDIA_TYPE for part in accepted.split(","))


def abort(request: Request) -> None:
    """Cut the connection of a request, whatever is under way on it."""
    line = getattr(request.state, "line", None)
    if line is not None:
        line.abort()


class EventStreamAnswer(Response):
    """An endless answer."""

    media_type = MEDIA_TYPE

    def __init__(self, request: Request, chunks: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._request = request
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the chunks end, or the caller hangs up."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        try:
            await unless_gone(self._request, self._send_all(send))
        finally:
            await self._chunks.aclose()

    async def _send_all(self, send: Send) -> None:
        async for chunk in self._chunks:
            try:
                async with asyncio.timeout(SEND_S_MAX):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                abort(self._request)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
