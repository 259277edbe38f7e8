"""`GET /v1/forecast`: what will happen on this node, as far as the clock alone tells."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agent.domain.errors import Fault, InvalidDocument, NotFound
from agent.domain.instants import format_instant
from agent.infra.asgi import answer
from agent.infra.query import Query as Params
from agent.node.api.context import Context
from agent.node.forecast import (
    AHEAD_S_DEFAULT,
    FIRES_DEFAULT,
    FIRES_MAX,
    Circumstances,
    Question,
    forecast_view,
)
from agent.node.store import actions, brakes, recurring
from agent.node.store.meta import read_meta


class ForecastEndpoint:
    """Bound to the daemon's parts."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self, request: Request) -> Response:
        """Up to `until` (a day; of one `id` at least its next), `limit` fires at most."""
        now = self._context.clock.now()
        params = Params(request)
        asked = params.instant("until")
        until = asked or now + timedelta(seconds=AHEAD_S_DEFAULT)
        only = params.text("id")
        limit = params.whole("limit", FIRES_DEFAULT, 1, FIRES_MAX)
        params.finish()
        if until <= now:
            text = f"{format_instant(until)} is not after now ({format_instant(now)})"
            raise InvalidDocument([Fault("until", text)])
        question = Question(now=now, until=until, id=only, limit=limit, stretch=asked is None)
        return answer(await self._context.store.read(lambda c: self._look(c, question)))

    def _look(self, connection: sqlite3.Connection, question: Question) -> dict[str, Any]:
        one = question.id
        if one is not None and not (
            recurring.exists(connection, one) or actions.by_id(connection, one)
        ):
            raise NotFound(f"there is neither an action nor a recurring action {one!r} here")
        meta = read_meta(connection)
        given = Circumstances(
            place=self._context.place,
            paused=(meta.pause_reason or "") if meta.paused else None,
            brakes=brakes.active(connection, question.now),
        )
        return forecast_view(connection, question, given)
