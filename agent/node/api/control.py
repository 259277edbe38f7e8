"""Endpoints about the node as a whole: pause, resume, drain, brakes."""

from __future__ import annotations

import pwd
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agent.domain.brake import REASON_CHARS_MAX
from agent.domain.errors import NotFound, shown
from agent.infra.asgi import answer, read_json, read_optional_json
from agent.node.api.context import Context
from agent.node.control import Control
from agent.node.store import brakes
from agent.node.store.meta import pause_view
from agent.wire.brake import encode_brake
from agent.wire.fields import Field, number, read_closed, text

BRAKE_BYTES_MAX = 64 * 1024
DRAIN_WAIT_S_MAX = 600.0  # per request: a proxy or a client gives up on longer ones; ask again

_REASON = Field(text(REASON_CHARS_MAX))


class ControlEndpoints:
    """Bound to the daemon's parts."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._control: Control = context.control

    async def pause(self, request: Request) -> Response:
        """`POST /v1/pause {"reason"?}`: nothing starts from now on."""
        values = read_closed(await read_optional_json(request), {"reason": _REASON})
        meta = await self._control.pause(caller(request), values.get("reason", ""))
        return answer(pause_view(meta) | {"running": self._running()})

    async def resume(self, request: Request) -> Response:
        """`POST /v1/resume`: start what is due."""
        read_closed(await read_optional_json(request), {})
        meta = await self._control.resume(caller(request))
        return answer(pause_view(meta) | {"running": self._running()})

    async def drain(self, request: Request) -> Response:
        """`POST /v1/drain {"wait_s"?, "reason"?}`: pause; `drained` once nothing runs."""
        fields = {"wait_s": Field(number(0, DRAIN_WAIT_S_MAX)), "reason": _REASON}
        values = read_closed(await read_optional_json(request), fields)
        found = await self._control.drain(
            caller(request), values.get("reason", ""), values.get("wait_s", 0.0)
        )
        drained = found.running == 0 and bool(found.meta.paused)
        return answer(pause_view(found.meta) | {"drained": drained, "running": self._running()})

    async def brake(self, request: Request) -> Response:
        """`POST /v1/brake`: hold back a kind or labels; 201 with the brake."""
        document = await read_json(request, BRAKE_BYTES_MAX)
        return answer(encode_brake(await self._control.brake(document, caller(request))), 201)

    async def brakes(self, request: Request) -> Response:
        """`GET /v1/brake`: those that hold now, oldest first."""
        now = self._context.engine.believed_now()
        found = await self._context.store.read(lambda c: brakes.active(c, now))
        return answer({"brakes": [encode_brake(brake) for brake in found]})

    async def lift(self, request: Request) -> Response:
        """`DELETE /v1/brake/{id}`: the brake that was."""
        raw: str = request.path_params["id"]
        if not raw.isdecimal() or len(raw) > 18:
            raise NotFound(f"there is no brake {shown(raw)}; brakes have numbers")
        return answer(encode_brake(await self._control.lift(int(raw))))

    def _running(self) -> list[dict[str, Any]]:
        """What still runs, by name."""
        running = self._context.engine.running.values()
        return [
            {"id": one.definition.id, "kind": one.definition.kind, "attempt": one.attempt}
            for one in running
        ]


def caller(request: Request) -> str:
    """Who asks: the user's name on the socket, `api` with a token over TCP."""
    peer = request.scope.get("state", {}).get("peer")
    if peer is None:
        return "api"
    try:
        return pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        return f"uid {peer.uid}"
