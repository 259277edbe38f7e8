"""The other `cored`s on the same PostgreSQL: they are told what happened here, and heard.

One connection listens. Whenever it had to be opened anew everybody is woken, since notices may
have been missed meanwhile; a needless look costs little. What is told is gathered for a moment and
sent many at once, by a transaction that nothing else waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

import psycopg

from agent.core.store import notices
from agent.core.store.port import Store, StoreUnavailable
from agent.core.store.postgres import PostgresDatabase
from agent.core.wakeups import EVERYBODY, Topic, Wakeups

TELL_EVERY_S = 0.02  # 500 commits a second become 50 notices
TOPICS_MAX = 4096  # of one notice; whoever has more to tell wakes everybody
RETRY_S_MIN, RETRY_S_MAX = 0.1, 5.0
OnTrouble = Callable[[str | None], None]


class Neighbours:
    """Wires this process's wake-ups to those of the others: `run` until cancelled."""

    def __init__(
        self, database: PostgresDatabase, store: Store, wakeups: Wakeups, on_trouble: OnTrouble
    ) -> None:
        """`on_trouble` is told when listening fails, and why; None when it works again."""
        self._database = database
        self._store = store
        self._wakeups = wakeups
        self._on_trouble = on_trouble
        self._pending: dict[Topic, None] = {}
        self._has_pending = asyncio.Event()
        wakeups.relay = self._gather

    async def run(self) -> None:
        """Listen and tell, for ever."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._listen())
            both.create_task(self._tell())

    def _gather(self, topics: Iterable[Topic]) -> None:
        self._pending.update(dict.fromkeys(topics))
        if len(self._pending) > TOPICS_MAX:
            self._pending = {EVERYBODY: None}
        if self._pending:
            self._has_pending.set()

    async def _tell(self) -> None:
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            some, self._pending = list(self._pending), {}
            pause_s = TELL_EVERY_S
            try:
                await self._store.write(partial(notices.tell_others, topics=some))
            except StoreUnavailable:
                self._gather(some)  # the store says so itself, to who looks after it
                pause_s = RETRY_S_MAX
            await asyncio.sleep(pause_s)

    async def _listen(self) -> None:
        pause_s, in_trouble = RETRY_S_MIN, False
        while True:
            try:
                async with await self._connect() as connection:
                    if in_trouble:
                        self._on_trouble(None)
                    pause_s, in_trouble = RETRY_S_MIN, False
                    await self._hear(connection)
            except psycopg.Error as error:
                if not in_trouble:
                    self._on_trouble(str(error).strip())
                in_trouble = True
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_S_MAX)

    async def _connect(self) -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(
            **self._database.plain_connection(), autocommit=True
        )
        await connection.execute(f"LISTEN {notices.CHANNEL}")
        self._wakeups.hear([EVERYBODY])
        return connection

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        async for notice in connection.notifies():
            try:
                origin, topics = notices.read_payload(notice.payload)
            except ValueError:
                topics, origin = [EVERYBODY], ""  # of another version: look at everything
            if origin != self._database.origin:
                self._wakeups.hear(topics)
