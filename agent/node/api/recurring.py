"""Endpoints about recurring actions: create, show, change, remove, and what is done by hand."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agent.domain.recurring import REASON_CHARS_MAX, Recurring
from agent.infra.asgi import answer, read_json, read_optional_json
from agent.infra.query import Query as Params
from agent.node.api.context import Context
from agent.node.recurring_commands import Backfill
from agent.node.recurring_views import PAGE_DEFAULT, PAGE_MAX, find, page_view, rule_view
from agent.node.views import action_view
from agent.wire import fields as f
from agent.wire.fields import Field, read_closed

DOCUMENT_BYTES_MAX = 256 * 1024
_PAUSE = {"reason": Field(f.text(REASON_CHARS_MAX))}
_BACKFILL = {"from": Field(f.instant, required=True), "to": Field(f.instant, required=True)}


class RecurringEndpoints:
    """Bound to the daemon's parts."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self, request: Request) -> Response:
        """`GET /v1/recurring`: a page by id, with `next` to go on."""
        params = Params(request)
        limit = params.whole("limit", PAGE_DEFAULT, 1, PAGE_MAX)
        after = params.text("after")
        params.finish()
        place, now = self._context.place, self._context.clock.now()
        return answer(
            await self._context.store.read(
                lambda c: page_view(c, place, now, after=after, limit=limit)
            )
        )

    async def create(self, request: Request) -> Response:
        """`POST /v1/recurring`: a definition with `schedule`; 201 with it as it was accepted."""
        return await self.accept(await read_json(request, DOCUMENT_BYTES_MAX))

    async def accept(self, document: Any) -> Response:
        """The same for a document that came in as an action, and has a `schedule`."""
        return await self._answer(await self._context.recurring.create(document), 201)

    async def show(self, request: Request) -> Response:
        """`GET /v1/recurring/{id}`."""
        rule_id = request.path_params["id"]
        return await self._answer(await self._context.store.read(lambda c: find(c, rule_id)))

    async def replace(self, request: Request) -> Response:
        """`PUT /v1/recurring/{id}`: the whole new definition; later instants only."""
        document = await read_json(request, DOCUMENT_BYTES_MAX)
        rule_id = request.path_params["id"]
        return await self._answer(await self._context.recurring.replace(rule_id, document))

    async def remove(self, request: Request) -> Response:
        """`DELETE /v1/recurring/{id}`: it ends; what waits of it too, what runs goes on."""
        rule_id = request.path_params["id"]
        return await self._answer(await self._context.recurring.remove(rule_id))

    async def cancel(self, rule_id: str) -> Response | None:
        """End it on this node, whoever owns it; None where there is no such recurring action."""
        rule = await self._context.recurring.cancel(rule_id)
        return None if rule is None else await self._answer(rule)

    async def pause(self, request: Request) -> Response:
        """`POST /v1/recurring/{id}/pause {"reason"?}`: plan nothing more until `resume`."""
        body = read_closed(await read_optional_json(request) or {}, _PAUSE)
        rule_id = request.path_params["id"]
        return await self._answer(await self._context.recurring.pause(rule_id, body.get("reason")))

    async def resume(self, request: Request) -> Response:
        """`POST /v1/recurring/{id}/resume`: plan again; the pause counts as downtime."""
        rule_id = request.path_params["id"]
        return await self._answer(await self._context.recurring.resume(rule_id))

    async def run(self, request: Request) -> Response:
        """`POST /v1/recurring/{id}/run`: one occurrence now, beside the schedule; 201."""
        context = self._context
        action = await context.recurring.run(request.path_params["id"])
        view = action_view(action, context.clock.now(), paused=context.engine.paused)
        return answer(view, 201)

    async def backfill(self, request: Request) -> Response:
        """`POST /v1/recurring/{id}/backfill {"from", "to"}`: the instants of [from, to) again."""
        body = read_closed(await read_json(request), _BACKFILL)
        asked = Backfill(begin=body["from"], end=body["to"])
        made = await self._context.recurring.backfill(request.path_params["id"], asked)
        ids = [action.definition.id for action in made]
        return answer({"created": ids, "count": len(ids)}, 201)

    async def _answer(self, rule: Recurring, status: int = 200) -> Response:
        place, now = self._context.place, self._context.clock.now()
        view = await self._context.store.read(lambda c: rule_view(c, rule, place, now))
        return answer(view, status)
