"""For a backend that pulls: its cursor over the events, and the snapshot to begin with."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from agent.domain.errors import Refused
from agent.infra.asgi import Query as Params
from agent.infra.asgi import answer
from agent.node.api.context import Context
from agent.node.store import events
from agent.node.store.meta import read_meta
from agent.node.store.pages import PAGE_MAX, Query, page
from agent.node.views import action_view

EVENTS_PAGE_MAX = 1_000
WAIT_S_MAX = 60.0
SEQ_MAX = 2**53


class EventEndpoints:
    """Bound to the daemon's parts."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def after(self, request: Request) -> Response:
        """`GET /v1/events?after=SEQ&wait=S`: in order; 410 below the oldest that is kept."""
        params = Params(request)
        after = params.whole("after", 0, 0, SEQ_MAX)
        limit = params.whole("limit", 100, 1, EVENTS_PAGE_MAX)
        wait_s = params.seconds("wait", 0.0, WAIT_S_MAX)
        params.finish()
        changes, clock = self._context.engine.changes, self._context.clock
        deadline = clock.monotonic() + wait_s
        while True:
            version = changes.version
            oldest = await self._context.store.read(events.oldest_seq)
            if after + 1 < oldest:
                raise Refused(
                    "gone", f"events before {oldest} are pruned; begin again with GET /v1/state"
                )
            found = await self._context.store.read(lambda c: events.after(c, after, limit))
            left_s = deadline - clock.monotonic()
            if found or left_s <= 0 or changes.closed:
                break
            await changes.after(version, left_s)
        last = found[-1].seq if found else after
        return answer({"events": [event.plain() for event in found], "after": last})

    async def state(self, request: Request) -> Response:
        """`GET /v1/state`: every action, paged; `seq` of the first page is where events go on."""
        params = Params(request)
        query = Query(
            limit=params.whole("limit", PAGE_MAX, 1, PAGE_MAX), after=params.text("after")
        )
        params.finish()
        meta = await self._context.store.read(read_meta)
        seq = await self._context.store.read(events.next_seq) - 1
        found = await self._context.store.read(lambda c: page(c, query))
        now = self._context.clock.now()
        return answer(
            {
                "agent_id": meta.agent_id,
                "agent_epoch": meta.agent_epoch,
                "seq": seq,
                "actions": [action_view(action, now) for action in found.actions],
                "next": found.next,
            }
        )
