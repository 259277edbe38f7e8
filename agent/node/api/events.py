"""For a backend that pulls: its cursor over the events, and the snapshot to begin with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agent.domain.errors import Refused
from agent.infra.asgi import answer
from agent.infra.query import Query as Params
from agent.node.api.access import came_by_network
from agent.node.api.context import Context
from agent.node.pulling import is_news, note_pull
from agent.node.recurring_views import rule_view
from agent.node.state_pages import state_page
from agent.node.store import events
from agent.node.store.meta import Meta, read_meta
from agent.node.store.pages import PAGE_MAX
from agent.node.views import action_view
from agent.wire import strict_json

EVENTS_PAGE_MAX = 1_000
EVENTS_BYTES_MAX = 2 * 1024 * 1024  # a thousand of the largest would be far more
WAIT_S_MAX = 60.0
SEQ_MAX = 2**53


class Gone(Refused):
    """The cursor names a place that this node does not know; `expected` is the oldest it does."""

    def __init__(self, message: str, oldest: int) -> None:
        super().__init__("gone", message)
        self.expected = oldest


class EventEndpoints:
    """Bound to the daemon's parts."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def after(self, request: Request) -> Response:
        """`GET /v1/events?after=SEQ&wait=S`: in order; 410 below the oldest that is kept.

        Over TCP `after` acknowledges: what is up to it may be forgotten (`ack` says otherwise).
        """
        params = Params(request)
        after = params.whole("after", 0, 0, SEQ_MAX)
        limit = params.whole("limit", 100, 1, EVENTS_PAGE_MAX)
        wait_s = params.seconds("wait", 0.0, WAIT_S_MAX)
        ack = params.flag("ack") if "ack" in request.query_params else came_by_network(request)
        params.finish()
        changes, clock = self._context.engine.changes, self._context.clock
        deadline = clock.monotonic() + wait_s
        while True:
            version = changes.version
            batch = await self._context.store.read(lambda c: read_batch(c, after, limit))
            left_s = deadline - clock.monotonic()
            if batch.events or left_s <= 0 or changes.closed:
                break
            if ack:
                await self._acknowledge(batch.meta, after)
                ack = False
            await changes.after(version, left_s)
        if ack:
            await self._acknowledge(batch.meta, after)
        last = batch.events[-1]["seq"] if batch.events else after
        epoch = batch.meta.agent_epoch
        return answer({"events": batch.events, "after": last, "agent_epoch": epoch})

    async def _acknowledge(self, meta: Meta, after: int) -> None:
        """Before the wait: who hangs up meanwhile has said it all the same."""
        now = self._context.clock.now()
        if is_news(meta, after, now):
            await self._context.store.write(lambda c: note_pull(c, after, now))

    async def state(self, request: Request) -> Response:
        """`GET /v1/state`: every action, paged; `seq` of the first page is where events go on."""
        params = Params(request)
        limit, after = params.whole("limit", PAGE_MAX, 1, PAGE_MAX), params.text("after")
        params.finish()
        place = self._context.place
        now = self._context.clock.now()

        def look(connection: sqlite3.Connection) -> dict[str, Any]:
            # The number first: what is committed in between is told twice, never not at all.
            meta, seq = read_meta(connection), events.next_seq(connection) - 1
            found = state_page(connection, after, limit)
            return {
                "agent_id": meta.agent_id,
                "agent_epoch": meta.agent_epoch,
                "seq": seq,
                "cursor": meta.cursor,
                "actions": [action_view(action, now) for action in found.actions],
                "recurring": [
                    rule_view(connection, rule, place, now, latest=0) for rule in found.rules
                ],
                "next": found.next,
            }

        return answer(await self._context.store.read(look))


@dataclass(frozen=True, slots=True)
class Batch:
    """Events as the wire has them, and the node's values at the time."""

    events: list[dict[str, Any]]
    meta: Meta


def read_batch(connection: sqlite3.Connection, after: int, limit: int) -> Batch:
    """What follows `after`, bounded in number and bytes. Raises `Gone` where that is not known."""
    meta, newest = read_meta(connection), events.next_seq(connection) - 1
    oldest = events.oldest_seq(connection)
    if after + 1 < oldest:
        raise Gone(f"events before {oldest} are pruned; begin again with GET /v1/state", oldest)
    if after > newest:
        raise Gone(
            f"this node has no event {after}, its newest is {newest}: its database was restored "
            "or replaced; begin again with GET /v1/state",
            oldest,
        )
    chosen: list[dict[str, Any]] = []
    size = 0
    with closing(events.each_after(connection, after, limit)) as held:
        for event in held:
            plain = event.plain()
            size += len(strict_json.encode(plain))
            if chosen and size > EVENTS_BYTES_MAX:
                break
            chosen.append(plain)
    return Batch(chosen, meta)
