"""The stream of events as people and programs read it: in pages, or live as server-sent events.

Live: what is kept behind the reader's cursor comes from the store, page by page; then the hub is
joined, the last stretch up to its place is read, and the rest comes from the hub's queue. So each
event is sent once, in the order of its numbers, wherever the reader began.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from agent.core.actions.documents import event_document
from agent.core.events.beside import Asked, look_beside
from agent.core.events.filter import EVERYTHING, EventFilter
from agent.core.events.hub import Hub, Subscriber, frame_of, nothing
from agent.core.events.reading import Stretch, head_of, read_after, require_kept
from agent.core.store.port import AnyRow, Store
from agent.core.wakeups import EVENTS, Wakeups

KEEP_ALIVE_S = 15.0  # proxies cut what is silent for half a minute or a minute
RETRY_MS = 3000
PAGE = 200
PAGES_PER_ANSWER_MAX = 25  # a rare type in a long history: the cursor moves on, answer by answer
UNSETTLED_S = 0.1
WAIT_S_MAX = 60.0


class EventStream:
    """Reading events; the service that HTTP wraps."""

    def __init__(self, store: Store, wakeups: Wakeups, hub: Hub) -> None:
        self._store = store
        self._wakeups = wakeups
        self._hub = hub

    async def page(
        self, after: int, limit: int, wait_s: float = 0.0, wanted: EventFilter = EVERYTHING
    ) -> dict[str, Any]:
        """Events after a number; waits until there is one. Raises `Gone`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(wait_s, WAIT_S_MAX)
        with self._wakeups.subscribed(EVENTS) as waiter:
            while True:
                rows, after, is_unsettled = await self._gather(after, limit, wanted)
                if rows or loop.time() >= until or self._wakeups.closing:
                    return {"events": [event_document(row) for row in rows], "next": str(after)}
                step_s = UNSETTLED_S if is_unsettled else WAIT_S_MAX
                await waiter.wait_until(min(until, loop.time() + step_s))

    async def _gather(
        self, after: int, limit: int, wanted: EventFilter
    ) -> tuple[list[AnyRow], int, bool]:
        found: list[AnyRow] = []
        for _ in range(PAGES_PER_ANSWER_MAX):
            size = limit if wanted == EVERYTHING else PAGE
            read = partial(_look, after=after, limit=size, wanted=wanted)
            stretch, rows = await self._store.read(read)
            left = limit - len(found)
            found += rows[:left]
            if len(rows) > left:
                return found, found[-1].id, stretch.is_unsettled
            after = stretch.reached
            if len(found) == limit or stretch.reached >= stretch.head:
                break
        return found, after, stretch.is_unsettled

    async def begin(self, after: int | None) -> int:
        """Where a live stream begins; None: with what happens from now on.

        Raises `Gone`, and `Refused` (busy) while that can still be answered.
        """
        self._hub.require_room()
        if after is None:
            return await self._store.read(head_of)
        return await self._store.read(lambda c: require_kept(c, after))

    async def live(
        self, after: int, wanted: EventFilter, on_cut: Callable[[], None] = nothing
    ) -> AsyncGenerator[bytes, None]:
        """Chunks of the stream, for as long as the reader keeps up. Raises `Gone`, `Refused`."""
        yield f"retry: {RETRY_MS}\nid: {after}\n\n".encode()
        reached = after
        while not self._wakeups.closing:
            chunk, reached, is_near = await self._catch_up(reached, wanted, None)
            if chunk:
                yield chunk
            if is_near:
                break
        subscriber = await self._hub.join(wanted, on_cut)
        try:
            goal = subscriber.reached
            while reached < goal and not self._wakeups.closing:
                chunk, reached, _ = await self._catch_up(reached, wanted, goal)
                if chunk:
                    yield chunk
            async for chunk in _queued(subscriber, reached):
                yield chunk
        finally:
            self._hub.leave(subscriber)

    async def _catch_up(
        self, after: int, wanted: EventFilter, up_to: int | None
    ) -> tuple[bytes, int, bool]:
        """A page of what is kept; whether there is hardly more."""
        read = partial(_look, after=after, limit=PAGE, wanted=wanted)
        stretch, rows = await self._store.read(read)
        if up_to is not None:
            rows = [row for row in rows if row.id <= up_to]
        reached = stretch.reached if up_to is None else min(stretch.reached, up_to)
        return b"".join(map(frame_of, rows)), reached, stretch.reached >= stretch.head


async def _queued(subscriber: Subscriber, told: int) -> AsyncGenerator[bytes, None]:
    """What the hub brings, and a sign of life where it brings nothing.

    The sign carries the number that was reached: a filter that nothing passes for months still
    has a cursor that is kept.
    """
    while subscriber.ending is None:
        chunk = await subscriber.take(KEEP_ALIVE_S)
        if chunk:
            yield chunk
        elif subscriber.ending is None and subscriber.reached > told:
            told = subscriber.reached
            yield f"id: {told}\n\n".encode()
        else:
            yield b":\n\n"


def _look(
    connection: Connection, *, after: int, limit: int, wanted: EventFilter
) -> tuple[Stretch, list[AnyRow]]:
    begin = -1
    while begin != (kept := require_kept(connection, after)):
        # Again behind it: a read of events may begin a younger snapshot, with less in it.
        begin = kept
        stretch = read_after(connection, begin, limit, wanted.node)
    beside = look_beside(connection, stretch.rows, Asked.by([wanted]))
    rows = [row for row, more in zip(stretch.rows, beside, strict=True) if wanted.wants(row, more)]
    return stretch, rows
