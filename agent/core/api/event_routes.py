"""`GET /v1/events` (docs/events.md): in pages, or live where the caller accepts it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent.core.actions.listing import LIMIT_DEFAULT, LIMIT_MAX
from agent.core.events.filter import EVERYTHING, MEMBERS, EventFilter, read_filter
from agent.core.events.streaming import WAIT_S_MAX, EventStream
from agent.core.people.door import Door
from agent.core.people.principal import Role
from agent.domain.errors import Fault, InvalidDocument, shown
from agent.infra import sse
from agent.infra.asgi import answer, unless_gone
from agent.infra.query import Query

AFTER_MAX = 2**53
LAST_EVENT_ID = "last-event-id"


class EventRoutes:
    """One method per endpoint."""

    def __init__(self, door: Door, stream: EventStream) -> None:
        self._door = door
        self._stream = stream

    def routes(self) -> list[BaseRoute]:
        """The table."""
        return [Route("/v1/events", self.events, methods=["GET"])]

    async def events(self, request: Request) -> Response:
        """The global stream."""
        await self._door.require(request, Role.VIEWER)
        if sse.is_wanted(request):
            return await self._live(request)
        query = Query(request)
        after = query.whole("after", 0, 0, AFTER_MAX)
        limit = query.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        wait_s = query.seconds("wait", 0.0, WAIT_S_MAX)
        wanted = _filter(query)
        page = self._stream.page(after, limit, wait_s, wanted)
        return answer(await unless_gone(request, page))

    async def _live(self, request: Request) -> Response:
        query = Query(request)
        given = query.text("after")
        after = query.whole("after", 0, 0, AFTER_MAX) if given is not None else None
        wanted = _filter(query)
        resumed = request.headers.get(LAST_EVENT_ID, "").strip()
        if resumed:  # a browser that reconnects sends its first URL again, and this besides
            after = _number(resumed)
        begin = await self._stream.begin(after)
        chunks = self._stream.live(begin, wanted, lambda: sse.abort(request))
        allowed = self._door.while_allowed(request, Role.VIEWER, chunks)
        return sse.EventStreamAnswer(request, allowed)


def _filter(query: Query) -> EventFilter:
    given = {name: query.text(name) for name in MEMBERS}
    faults: list[Fault] = []
    wanted = EVERYTHING
    try:
        wanted = read_filter({name: value for name, value in given.items() if value is not None})
    except InvalidDocument as error:
        faults += error.faults
    try:
        query.finish()
    except InvalidDocument as error:
        faults += error.faults
    if faults:
        raise InvalidDocument(faults)
    return wanted


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 16 or int(text) > AFTER_MAX:
        raise InvalidDocument(
            [Fault("Last-Event-ID", f"must be the number of an event, not {shown(text)}")]
        )
    return int(text)
