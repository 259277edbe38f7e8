"""Live events for many subscribers: one reader of the store, however many listen.

The reader sleeps until a commit brought events, gathers for a moment what else comes, reads once
and hands each event, encoded once, to whoever wants it. A subscriber's queue is bounded: one that
does not keep up is cut off, and comes back with the number it reached; nobody waits for it.
Without subscribers there is no reader.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial

from sqlalchemy.engine import Connection

from agent.core.actions.documents import event_document
from agent.core.events.beside import Asked, look_beside
from agent.core.events.filter import Beside, EventFilter
from agent.core.events.reading import Stretch, head_of, read_after
from agent.core.store.port import AnyRow, Store
from agent.core.wakeups import EVENTS, Wakeups
from agent.domain.errors import Refused
from agent.wire import strict_json

PAGE = 500
GATHER_S = 0.02  # 500 commits a second become at most 50 reads; nobody sees the difference
UNSETTLED_S = 0.1  # an older writer is still at it: its rollback would wake nobody
SHARED_LOOK_S = 5.0  # a `cored` that is killed behind its commit has told nobody of it
QUIET_S = 3600.0
QUEUE_EVENTS_MAX = 4096
QUEUE_BYTES_MAX = 4 * 1024 * 1024
SLICE_BYTES = 256 * 1024  # handed out in one go: a page may hold more than a queue does
FRAME_BYTES = 256  # what an event has there besides its body, more or less
SUBSCRIBERS_MAX = 5000

OnFailure = Callable[[BaseException], None]


class Ending(StrEnum):
    """Why a subscription is over."""

    SLOW = "slow"
    CLOSED = "closed"


def nothing() -> None:
    """Nobody needs to be told."""


def frame_of(event: AnyRow) -> bytes:
    """One event as server-sent events have it (the document has no line breaks)."""
    head = f"id: {event.id}\nevent: {event.type}\ndata: ".encode()
    return head + strict_json.encode(event_document(event)) + b"\n\n"


class Subscriber:
    """One listener's queue. `on_cut` is called when it is given up on while it may be stuck."""

    def __init__(self, wanted: EventFilter, reached: int, on_cut: Callable[[], None]) -> None:
        self.wanted = wanted
        self.reached = reached
        """The number up to which everything it wants has been put into its queue."""
        self.ending: Ending | None = None
        self._on_cut = on_cut
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._rung = asyncio.Event()

    def offer(self, frame: bytes) -> None:
        """Put an event in, or give up on this one."""
        self._frames.append(frame)
        self._bytes += len(frame)
        self._rung.set()
        if len(self._frames) > QUEUE_EVENTS_MAX or self._bytes > QUEUE_BYTES_MAX:
            self.end(Ending.SLOW)

    def end(self, why: Ending) -> None:
        """No more of it; what was queued and not sent is for the next time."""
        if self.ending is not None:
            return
        self.ending = why
        self._frames.clear()
        self._rung.set()
        if why is Ending.SLOW:
            self._on_cut()

    async def take(self, wait_s: float) -> bytes:
        """Everything that waits, at once; empty when nothing came in time, or at the end.

        What comes in the very moment that the time is up is taken too: behind an empty answer
        `reached` counts as told.
        """
        if not self._frames and self.ending is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._rung.wait()
        self._rung.clear()
        found = b"".join(self._frames)
        self._frames.clear()
        self._bytes = 0
        return found


class Hub:
    """The one reader and its subscribers. `join`, read, `leave`."""

    def __init__(self, store: Store, wakeups: Wakeups, on_failure: OnFailure | None = None) -> None:
        self._store = store
        self._wakeups = wakeups
        self._on_failure = on_failure
        self._subscribers: dict[Subscriber, None] = {}
        self._reader: asyncio.Task[None] | None = None
        self._joining = asyncio.Lock()
        self._position = 0
        self.cut_off = 0

    @property
    def subscribers(self) -> int:
        """How many listen."""
        return len(self._subscribers)

    def require_room(self) -> None:
        """Raise `Refused` (busy): no more may listen."""
        if len(self._subscribers) >= SUBSCRIBERS_MAX:
            raise Refused("busy", f"{SUBSCRIBERS_MAX} listen already; try again later")

    async def join(self, wanted: EventFilter, on_cut: Callable[[], None] = nothing) -> Subscriber:
        """Listen from the hub's place on: `reached` of the result. Raises `Refused` (busy)."""
        self.require_room()
        async with self._joining:
            if self._reader is None:
                self._position = await self._store.read(head_of)
            subscriber = Subscriber(wanted, self._position, on_cut)
            self._subscribers[subscriber] = None
            if self._wakeups.closing:
                subscriber.end(Ending.CLOSED)
            elif self._reader is None:
                self._reader = asyncio.create_task(self._run(), name="event-hub")
            return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Forget it; the last one that leaves sends the reader to sleep."""
        self._subscribers.pop(subscriber, None)
        if not self._subscribers and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    async def _run(self) -> None:
        try:
            with self._wakeups.subscribed(EVENTS) as waiter:
                loop = asyncio.get_running_loop()
                while not self._wakeups.closing:
                    asked = self._asked()
                    stretch, beside = await self._store.read(partial(self._look, asked=asked))
                    if not await self._hand_out_all(stretch, beside, asked):
                        continue  # who came meanwhile asks for more than was looked up
                    if len(stretch.rows) == PAGE:
                        continue
                    wait_s = SHARED_LOOK_S if stretch.is_shared else QUIET_S
                    if stretch.is_unsettled:
                        wait_s = UNSETTLED_S
                    if await waiter.wait_until(loop.time() + wait_s):
                        await asyncio.sleep(GATHER_S)
        except Exception as error:
            if self._on_failure is None:
                raise
            self._on_failure(error)  # whoever listened is cut off below, and comes back
        finally:
            if self._reader is asyncio.current_task():
                self._reader = None
                self._end_all()

    def _asked(self) -> Asked:
        return Asked.by(one.wanted for one in self._subscribers)

    def _look(self, connection: Connection, asked: Asked) -> tuple[Stretch, Sequence[Beside]]:
        stretch = read_after(connection, self._position, PAGE)
        return stretch, look_beside(connection, stretch.rows, asked)

    async def _hand_out_all(self, stretch: Stretch, beside: Sequence[Beside], asked: Asked) -> bool:
        """A slice at a time, and who keeps up takes it before the next. False: look again."""
        slice_: list[tuple[AnyRow, Beside]] = []
        size = 0
        for row, more in zip(stretch.rows, beside, strict=True):
            slice_.append((row, more))
            size += len(row.body) + FRAME_BYTES
            if size >= SLICE_BYTES:
                if self._asked() != asked:
                    return False
                self._hand_out(slice_, row.id)
                slice_, size = [], 0
                await asyncio.sleep(0)
        if self._asked() != asked:
            return False
        self._hand_out(slice_, stretch.reached)
        return True

    def _hand_out(self, some: Sequence[tuple[AnyRow, Beside]], reached: int) -> None:
        everybody = list(self._subscribers)
        for row, more in some:
            frame: bytes | None = None
            for one in everybody:
                if one.ending is None and row.id > one.reached and one.wanted.wants(row, more):
                    frame = frame or frame_of(row)
                    one.offer(frame)
        self._position = max(self._position, reached)
        for one in everybody:
            self.cut_off += one.ending is Ending.SLOW
            if one.ending is None:
                one.reached = max(one.reached, self._position)
            else:
                self._subscribers.pop(one, None)

    def _end_all(self) -> None:
        for one in list(self._subscribers):
            one.end(Ending.CLOSED)
        self._subscribers.clear()
