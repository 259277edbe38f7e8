"""The pull loop: hold a long poll open, apply what comes, acknowledge by asking for more."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.catalogue import Kinds
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ledger import Ledger
from agent.node.ports import RunnerAway, RunnerRefused, Store
from agent.node.store.meta import read_meta
from agent.node.store.threaded import StoreUnavailable
from agent.node.sync.apply import Applied, apply_pull
from agent.node.sync.backoff import until_reached
from agent.node.sync.port import Core, CoreUnreachable
from agent.node.sync.state import SyncState
from agent.wire.messages import PullAnswer

LONG_POLL_S = 50.0
CUTS_BEFORE_POLLING = 3
FALLBACK_S = 60.0
STORE_RETRY_S = 2.0


class Pull:
    """Pulls for ever; `nudge` ends a wait between polls, `on_polling` tells when polls are cut."""

    def __init__(
        self, *, core: Core, store: Store, ledger: Ledger, engine: Engine, hands: Hands,
        kinds: Kinds, clock: Clock, jitter: Callable[[], float], state: SyncState, log: Any,
    ) -> None:  # fmt: skip
        self._core = core
        self._store = store
        self._ledger = ledger
        self._engine = engine
        self._hands = hands
        self._kinds = kinds
        self._clock = clock
        self._jitter = jitter
        self._state = state
        self._log = log
        self._cuts = 0
        self._nudged = asyncio.Event()
        self.on_polling: Callable[[bool], None] = lambda _polling: None

    def nudge(self) -> None:
        """Pull now instead of at the next fallback instant."""
        self._nudged.set()

    async def run(self) -> None:
        """Pull until cancelled or refused (`CoreRefused` is the session's to understand)."""
        while True:
            async for attempt in until_reached(self._jitter, self._unreachable):
                with attempt:
                    answer = await self._poll_once()
            await self._apply(answer)
            if self._state.polling:
                await self._nudged.wait()

    async def once(self) -> PullAnswer:
        """One pull without waiting, applied: `agentctl sync`."""
        answer = await self._core.pull((await self._store.read(read_meta)).cursor, 0.0)
        await self._apply(answer)
        return answer

    async def _poll_once(self) -> PullAnswer:
        cursor = (await self._store.read(read_meta)).cursor
        self._nudged.clear()
        answer = await self._core.pull(cursor, 0.0 if self._state.polling else LONG_POLL_S)
        self._reached()
        return answer

    async def _apply(self, answer: PullAnswer) -> None:
        if answer.actions:
            await self._look_at_catalogue()

        def apply(connection: sqlite3.Connection) -> Applied:
            return apply_pull(connection, self._ledger, self._kinds, answer, self._clock.now())

        if answer.actions or answer.requests or await self._cursor_moved(answer.cursor):
            applied = await self._write_until_done(apply)
            self._act(applied)

    async def _cursor_moved(self, cursor: str) -> bool:
        return (await self._store.read(read_meta)).cursor != cursor

    async def _write_until_done(self, apply: Callable[[sqlite3.Connection], Applied]) -> Applied:
        """A full disk is waited for: the cursor has not moved, so nothing is lost meanwhile."""
        while True:
            try:
                return await self._store.write(apply)
            except StoreUnavailable as error:
                self._state.problem = str(error)
                await asyncio.sleep(STORE_RETRY_S)

    def _act(self, applied: Applied) -> None:
        for action_id, faults in applied.refused:
            self._log.warning(log_events.DEFINITION_REFUSED, action_id=action_id, faults=faults)
        for action in applied.started:
            self._engine.redefined(action)
        if applied.send_state:
            self._state.send_state.set()
        self._engine.changes.notify()
        self._engine.wake()

    async def _look_at_catalogue(self) -> None:
        try:
            await self._hands.refresh_kinds()
        except (RunnerAway, RunnerRefused):
            return  # judged by what was known last

    def _reached(self) -> None:
        self._cuts = 0
        if not self._state.connected:
            self._log.info(log_events.CORE_CONNECTED, url=self._state.url)
        self._state.connected = True
        self._state.problem = None
        self._state.last_pull_at = self._clock.now()

    def _unreachable(self, error: CoreUnreachable) -> None:
        if self._state.connected or self._state.problem is None:
            self._log.warning(log_events.CORE_UNREACHABLE, error=str(error))
        self._state.connected = False
        self._state.problem = str(error)
        if error.cut and not self._state.polling:
            self._cuts += 1
            if self._cuts >= CUTS_BEFORE_POLLING:
                self._state.polling = True
                self.on_polling(True)
