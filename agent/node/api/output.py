"""`GET /v1/actions/{id}/output`: what a script wrote, as bytes, from any offset, live if asked.

The runner holds the bytes; they are handed through in chunks and never gathered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agent.domain.action import Action
from agent.domain.errors import NotFound, Refused
from agent.infra.asgi import Query as Params
from agent.node.api.context import Context
from agent.node.engine import run_key
from agent.node.ports import OutputChunk, RunnerAway, RunnerRefused
from agent.node.views import find

CHUNK_BYTES = 64 * 1024
LOOK_AGAIN_S = 0.2  # for more output of a script that runs, while somebody follows
OFFSET_MAX = 2**62


class OutputEndpoint:
    """Streams output; `X-Output-Offset` tells where the first byte stands."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self, request: Request) -> Response:
        """One stream of the latest attempt: `?stream=stdout|stderr&offset=N&follow=true`."""
        params = Params(request)
        stream = params.one_of("stream", ("stdout", "stderr")) or "stdout"
        offset = params.whole("offset", 0, 0, OFFSET_MAX)
        follow = params.flag("follow")
        params.finish()
        action_id = request.path_params["id"]
        action = await self._context.store.read(lambda c: find(c, action_id))
        first = await self._first(action, stream, offset, follow=follow)
        headers = {} if first is None else {
            "X-Output-Offset": str(first.offset), "X-Output-Total": str(first.total),
        }  # fmt: skip
        body = self._chunks(action, stream, offset, first, follow=follow)
        return StreamingResponse(body, media_type="application/octet-stream", headers=headers)

    async def _first(
        self, action: Action, stream: str, offset: int, *, follow: bool
    ) -> OutputChunk | None:
        if not action.start_no:
            if follow and not action.is_final:
                return None
            raise NotFound(f"action {action.definition.id!r} has not started; it has no output")
        return await self._chunk(action, stream, offset)

    async def _chunk(self, action: Action, stream: str, offset: int) -> OutputChunk:
        try:
            return await self._context.runner.output(run_key(action), stream, offset, CHUNK_BYTES)
        except RunnerRefused as error:
            raise NotFound(f"the output of {action.definition.id!r} is gone: {error}") from None
        except RunnerAway as error:
            raise Refused("unavailable", f"the runner is away, try again: {error}") from None

    async def _chunks(
        self, action: Action, stream: str, offset: int, first: OutputChunk | None, *, follow: bool
    ) -> AsyncIterator[bytes]:
        """To what is there now, or with `follow` until the action is final and all is read."""
        chunk = first
        while True:
            if chunk is not None and chunk.data:
                yield chunk.data
                offset = chunk.next_offset
            elif not follow:
                return
            else:
                latest = await self._latest(action)
                if latest.start_no != action.start_no:
                    action, offset = latest, 0  # another attempt: its output follows
                elif latest.is_final and (chunk is None or chunk.done):
                    return
                else:
                    await asyncio.sleep(LOOK_AGAIN_S)
            chunk = await self._chunk_or_none(action, stream, offset)

    async def _latest(self, action: Action) -> Action:
        return await self._context.store.read(lambda c: find(c, action.definition.id))

    async def _chunk_or_none(self, action: Action, stream: str, offset: int) -> OutputChunk | None:
        if not action.start_no:
            return None
        try:
            return await self._chunk(action, stream, offset)
        except Refused:
            return None  # the headers are out: the stream can only end, or wait for the runner
