"""The pull loop: hold a long poll open, apply what comes, acknowledge by asking for more."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.catalogue import Kinds
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ledger import Ledger
from agent.node.ports import RunnerAway, RunnerRefused, Store
from agent.node.store.damage import StoreUnavailable
from agent.node.store.meta import read_meta
from agent.node.sync.apply import Applied, apply_pull
from agent.node.sync.backoff import until_reached
from agent.node.sync.port import Core, CoreUnreachable
from agent.node.sync.state import SyncState
from agent.wire.messages import PullAnswer

LONG_POLL_S = 50.0
CUTS_BEFORE_POLLING = 3
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
        self._asked: list[asyncio.Future[PullAnswer]] = []
        self.on_polling: Callable[[bool], None] = lambda _polling: None
        self.on_restrained: Callable[[], Awaitable[None]] = _nothing
        """Brakes were put on or lifted by the core, and that is committed."""

    def nudge(self) -> None:
        """Pull now: ends a long poll, a back-off and the wait between fallback pulls."""
        self._nudged.set()

    async def run(self) -> None:
        """Pull until cancelled or refused (`CoreRefused` is the session's to understand)."""
        try:
            while True:
                answer = None
                async for attempt in until_reached(self._jitter, self._unreachable, self._back_off):
                    with attempt:
                        answer = await self._poll()
                if answer is None:
                    continue  # nudged: the next one does not wait
                await self._apply(answer)
                self._tell_askers(answer)
                if self._state.polling:
                    await self._nudged.wait()
        finally:
            self._tell_askers(CoreUnreachable("sync ended before the pull; `status` says why"))

    async def once(self) -> PullAnswer:
        """One pull without waiting, applied: `agentctl sync`. Raises `CoreUnreachable`."""
        asked: asyncio.Future[PullAnswer] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self.nudge()
        return await asked

    async def _poll(self) -> PullAnswer | None:
        """One request; None if it was given up for a nudge. The first one does not wait, so that
        `status` can say at once whether there is a core.
        """
        self._nudged.clear()
        cursor = (await self._store.read(read_meta)).cursor
        at_once = self._asked or self._state.polling or not self._state.connected
        poll = asyncio.ensure_future(self._core.pull(cursor, 0.0 if at_once else LONG_POLL_S))
        nudged = asyncio.ensure_future(self._nudged.wait())
        try:
            await asyncio.wait((poll, nudged), return_when=asyncio.FIRST_COMPLETED)
            if not poll.done():
                return None
            answer = poll.result()
        finally:
            poll.cancel()
            nudged.cancel()
        self._reached()
        return answer

    async def _back_off(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._nudged.wait()
        except TimeoutError:
            return

    def _tell_askers(self, answer: PullAnswer | CoreUnreachable) -> None:
        asked, self._asked = self._asked, []
        for future in asked:
            if future.done():
                continue
            if isinstance(answer, CoreUnreachable):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _apply(self, answer: PullAnswer) -> None:
        if answer.actions:
            await self._look_at_catalogue()

        def apply(connection: sqlite3.Connection) -> Applied:
            now, moment = self._clock.now(), self._engine.clock_watch.moment()
            return apply_pull(connection, self._ledger, self._kinds, answer, now, moment)

        if answer.actions or answer.requests or await self._cursor_moved(answer.cursor):
            applied = await self._write_until_done(apply)
            self._act(applied)
            if applied.restrained:
                await self.on_restrained()
            await self._engine.until_answered(applied.started)

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
        self._engine.metrics.turned((), applied.ended)
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
            self._state.recheck = True
            self._engine.changes.notify()
        self._state.connected = True
        self._state.problem = None
        self._state.last_pull_at = self._clock.now()

    def _unreachable(self, error: CoreUnreachable) -> None:
        if self._state.connected or self._state.problem is None:
            self._log.warning(log_events.CORE_UNREACHABLE, error=str(error))
        self._state.connected = False
        self._state.problem = str(error)
        self._tell_askers(error)
        if error.cut and not self._state.polling:
            self._cuts += 1
            if self._cuts >= CUTS_BEFORE_POLLING:
                self._state.polling = True
                self.on_polling(True)


async def _nothing() -> None:
    return
