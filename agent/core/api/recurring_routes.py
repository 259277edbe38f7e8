"""Recurring actions over HTTP (docs/recurring.md): authenticate, decode, call a service, encode."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.actions.listing import LIMIT_DEFAULT, LIMIT_MAX
from agent.core.nodes.selector import Selector, parse_selector
from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.core.recurring.backfilling import Backfill
from agent.core.recurring.forecast import AHEAD_S_DEFAULT, FIRES_DEFAULT, FIRES_MAX, Question
from agent.core.recurring.service import RecurringService
from agent.core.recurring.views import NODES_SHOWN, RuleFilter
from agent.domain.errors import Fault, InvalidDocument
from agent.domain.recurring import REASON_CHARS_MAX
from agent.infra.asgi import answer, read_json, read_optional_json
from agent.infra.query import Query
from agent.wire import fields as f
from agent.wire.fields import Field, read_closed

AFTER_MAX = 2**53
_PAUSE = {"reason": Field(f.text(REASON_CHARS_MAX))}
_BACKFILL = {
    "from": Field(f.instant, required=True),
    "to": Field(f.instant, required=True),
    "node": Field(f.action_id),
}
_RUN = {"node": Field(f.action_id)}


class RecurringRoutes:
    """One method per endpoint."""

    def __init__(self, door: Door, recurring: RecurringService) -> None:
        self._door = door
        self._recurring = recurring

    def routes(self) -> list[BaseRoute]:
        """The table."""
        one = "/v1/recurring/{id}"
        return [
            Route("/v1/recurring", self.list, methods=["GET"]),
            Route("/v1/recurring", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/pause", self.pause, methods=["POST"]),
            Route(f"{one}/resume", self.resume, methods=["POST"]),
            Route(f"{one}/run", self.run, methods=["POST"]),
            Route(f"{one}/backfill", self.backfill, methods=["POST"]),
            Route(f"{one}/history", self.history, methods=["GET"]),
            Route(f"{one}/forecast", self.forecast, methods=["GET"]),
            Route("/v1/forecast", self.forecast_all, methods=["GET"]),
        ]

    async def _operator(self, request: Request) -> dict[str, Any]:
        who = await self._door.require(request, Role.OPERATOR)
        return {"by": who.name, "may_approve": who.may(Role.APPROVER)}

    async def _by(self, request: Request) -> str:
        return (await self._door.require(request, Role.OPERATOR)).name

    async def list(self, request: Request) -> Response:
        """By id."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        wanted = RuleFilter(
            node=query.text("node"),
            deleted=query.flag("deleted"),
            limit=query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX),
            after=query.text("after") or "",
        )
        query.finish()
        return answer(await self._recurring.list(wanted))

    async def create(self, request: Request) -> Response:
        """A definition with a schedule, for a node or for all that match."""
        who = await self._operator(request)
        Query(request).finish()
        document = await read_json(request)
        return answer(await self._recurring.create(document, **who), 201)

    async def get(self, request: Request) -> Response:
        """One, with how it stands on its nodes, a page of them."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        after = query.text("after") or ""
        limit = query.whole("limit", NODES_SHOWN, 1, LIMIT_MAX)
        query.finish()
        return answer(await self._recurring.get(_id(request), after, limit))

    async def update(self, request: Request) -> Response:
        """The whole new definition; later instants only."""
        who = await self._operator(request)
        Query(request).finish()
        document = await read_json(request)
        return answer(await self._recurring.update(_id(request), document, **who))

    async def delete(self, request: Request) -> Response:
        """Withdrawn everywhere; it stays readable."""
        by = await self._by(request)
        Query(request).finish()
        return answer(await self._recurring.delete(_id(request), by=by))

    async def pause(self, request: Request) -> Response:
        """Plan nothing more of it."""
        by = await self._by(request)
        Query(request).finish()
        body = read_closed(await read_optional_json(request) or {}, _PAUSE)
        return answer(await self._recurring.pause(_id(request), body.get("reason"), by=by))

    async def resume(self, request: Request) -> Response:
        """Plan again; the pause counts as downtime."""
        by = await self._by(request)
        Query(request).finish()
        read_closed(await read_optional_json(request) or {}, {})
        return answer(await self._recurring.resume(_id(request), by=by))

    async def run(self, request: Request) -> Response:
        """One occurrence now, on each node that has it or on one."""
        by = await self._by(request)
        Query(request).finish()
        body = read_closed(await read_optional_json(request) or {}, _RUN)
        asked = Backfill(node=body.get("node"))
        return answer(await self._recurring.backfill(_id(request), asked, by=by), 201)

    async def backfill(self, request: Request) -> Response:
        """Its instants of [from, to) once more."""
        by = await self._by(request)
        Query(request).finish()
        body = read_closed(await read_json(request), _BACKFILL)
        asked = Backfill(begin=body["from"], end=body["to"], node=body.get("node"))
        return answer(await self._recurring.backfill(_id(request), asked, by=by), 201)

    async def history(self, request: Request) -> Response:
        """Its occurrences, newest first."""
        await self._door.require(request, Role.VIEWER)
        query = Query(request)
        node = query.text("node")
        after = query.whole("after", 0, 0, AFTER_MAX)
        limit = query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        query.finish()
        return answer(await self._recurring.history(_id(request), node, after, limit))

    async def forecast(self, request: Request) -> Response:
        """What of it starts when."""
        await self._door.require(request, Role.VIEWER)
        return await self._forecast(request, rule_id=_id(request))

    async def forecast_all(self, request: Request) -> Response:
        """What starts when in the fleet, and when much of it at once."""
        await self._door.require(request, Role.VIEWER)
        return await self._forecast(request)

    async def _forecast(self, request: Request, rule_id: str | None = None) -> Response:
        query = Query(request)
        now = self._recurring.now()
        until = query.instant("until") or now + timedelta(seconds=AHEAD_S_DEFAULT)
        node = query.text("node")
        selector = query.text("selector")
        limit = query.whole("limit", FIRES_DEFAULT, 1, FIRES_MAX)
        query.finish()
        question = Question(
            now=now, until=until, rule_id=rule_id, node=node, selector=_selector(selector),
            limit=limit,
        )  # fmt: skip
        return answer(await self._recurring.forecast(question))


def _id(request: Request) -> str:
    found: str = request.path_params["id"]
    return found


def _selector(text: str | None) -> Selector | None:
    if text is None:
        return None
    try:
        return parse_selector(text)
    except ValueError as error:
        raise InvalidDocument([Fault("selector", str(error))]) from None
