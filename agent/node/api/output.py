"""`GET /v1/actions/{id}/output`: what a script wrote, as bytes, from any offset, live if asked.

The runner holds the bytes; they are handed through in chunks and never gathered. One answer is
bytes of one attempt without a gap, so that whoever counts them knows where to go on: where the
runner dropped the middle, or another attempt begins, the answer ends and the next one tells its
own attempt and offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agent.domain.action import Action
from agent.domain.errors import NotFound, Refused
from agent.infra.query import Query as Params
from agent.node.api.context import Context
from agent.node.engine import run_key
from agent.node.ports import OutputChunk, RunnerAway, RunnerRefused
from agent.node.views import find

CHUNK_BYTES = 64 * 1024
LOOK_AGAIN_S = 0.2  # for more output of a script that runs, while somebody follows
WAIT_FOR_START_S_MAX = 20.0  # for a start, per answer; whoever follows then asks again
OFFSET_MAX = 2**62


class OutputEndpoint:
    """Streams output; `X-Output-Attempt` and `X-Output-Offset` tell what the first byte is."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self, request: Request) -> Response:
        """Output of the latest attempt: `?stream=stdout|stderr|both&offset=N&follow=true`.

        `both`: stdout and stderr in the order in which the runner read them; `offset` then counts
        the bytes of both together.

        Followed before it has started, the answer is of attempt 0, empty, and ends at the start.
        """
        params = Params(request)
        stream = params.one_of("stream", ("stdout", "stderr", "both")) or "stdout"
        offset = params.whole("offset", 0, 0, OFFSET_MAX)
        follow = params.flag("follow")
        params.finish()
        action_id = request.path_params["id"]
        action = await self._context.store.read(lambda c: find(c, action_id))
        if not action.start_no:
            if action.is_final or not follow:
                raise NotFound(f"action {action_id!r} has not started; it has no output")
            return _streaming(self._until_started(action), attempt=0, offset=0, total=0)
        first = await self._chunk(action, stream, offset)
        body = self._chunks(action, stream, first, follow=follow)
        return _streaming(
            body, attempt=action.attempt, offset=first.offset, total=first.total,
            pruned=first.pruned,
        )  # fmt: skip

    async def _until_started(self, action: Action) -> AsyncIterator[bytes]:
        """No byte; ends once there may be one."""
        changes, clock = self._context.engine.changes, self._context.clock
        deadline = clock.monotonic() + WAIT_FOR_START_S_MAX
        while (left_s := deadline - clock.monotonic()) > 0 and not changes.closed:
            version = changes.version
            latest = await self._latest(action)
            if latest.start_no or latest.is_final:
                break
            await changes.after(version, left_s)
        return
        yield b""

    async def _chunks(
        self, action: Action, stream: str, first: OutputChunk, *, follow: bool
    ) -> AsyncIterator[bytes]:
        """To what is there now, or with `follow` until the action is final and all is read."""
        chunk, offset = first, first.offset
        while chunk.offset == offset:  # else: a gap
            if chunk.data:
                yield chunk.data
                offset = chunk.next_offset
            elif not follow or not await self._more_may_come(action, chunk):
                return
            chunk = await self._chunk(action, stream, offset, patient=follow)

    async def _more_may_come(self, action: Action, chunk: OutputChunk) -> bool:
        latest = await self._latest(action)
        if latest.start_no != action.start_no or (latest.is_final and chunk.done):
            return False
        if self._context.engine.changes.closed:
            return False  # the daemon stops; a follower comes again and goes on by offset
        await asyncio.sleep(LOOK_AGAIN_S)
        return True

    async def _latest(self, action: Action) -> Action:
        return await self._context.store.read(lambda c: find(c, action.definition.id))

    async def _chunk(
        self, action: Action, stream: str, offset: int, *, patient: bool = False
    ) -> OutputChunk:
        """Some bytes; `patient` waits for a runner that is away, as a follower's answer does."""
        while True:
            try:
                key = run_key(action)
                return await self._context.runner.output(key, stream, offset, CHUNK_BYTES)
            except RunnerRefused as error:
                raise NotFound(f"the output of {action.definition.id!r} is gone: {error}") from None
            except RunnerAway as error:
                if not patient:
                    raise Refused(
                        "unavailable", f"the runner is away, try again: {error}"
                    ) from None
            await asyncio.sleep(LOOK_AGAIN_S)


def _streaming(
    body: AsyncIterator[bytes], *, attempt: int, offset: int, total: int, pruned: bool = False
) -> StreamingResponse:
    headers = {
        "X-Output-Attempt": str(attempt),
        "X-Output-Offset": str(offset),
        "X-Output-Total": str(total),
    }
    if pruned:  # it was there; what all outputs take together is bounded
        headers["X-Output-Pruned"] = "true"
    return StreamingResponse(body, media_type="application/octet-stream", headers=headers)
