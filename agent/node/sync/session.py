"""A life with the core: enrol once, then pull, push and report until this agentd ends.

A refusal ends the session visibly; what is known keeps running. Being fenced is final for this
instance, everything else is tried again slowly.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from agent.domain.ids import RandomBits, new_mark
from agent.node import log_events
from agent.node.credential import Credential, CredentialFile, CredentialUnusable
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ports import Store
from agent.node.store import events
from agent.node.store.damage import StoreUnavailable
from agent.node.store.meta import read_meta, write_meta
from agent.node.sync.backoff import until_reached
from agent.node.sync.port import Core, CoreRefused, CoreUnreachable
from agent.node.sync.pull import Pull
from agent.node.sync.push import Push
from agent.node.sync.report import Report
from agent.node.sync.state import SyncState
from agent.wire.messages import ERROR_FENCED, ERROR_UNAUTHORIZED

REFUSED_AGAIN_S = 60.0
STORE_RETRY_S = 2.0


class Session:
    """Runs the three loops, and understands refusals."""

    def __init__(
        self, *, core: Core, identify: Callable[[str, str], None], store: Store,
        credentials: CredentialFile, engine: Engine, hands: Hands, pull: Pull, push: Push,
        report: Report, state: SyncState, jitter: Callable[[], float],
        random_bits: RandomBits, log: Any,
    ) -> None:  # fmt: skip
        self._core = core
        self._identify = identify
        self._store = store
        self._credentials = credentials
        self._engine = engine
        self._hands = hands
        self._pull = pull
        self._push = push
        self._report = report
        self._state = state
        self._jitter = jitter
        self._random_bits = random_bits
        self._log = log
        self._enrolled = False
        """Whether this instance has used its token: it is good for one enrolment."""

    async def run(self, token: str | None, agent_id: str) -> None:
        """Until cancelled, fenced, or known not to be enrolled."""
        while True:
            try:
                credential = await self._credential(token, agent_id)
                if credential is None:
                    return
                self._identify(credential.agent_id, credential.credential)
                self._state.refused = False
                await self._loops()
            except CoreRefused as error:
                self._refused(error)
                if error.code == ERROR_FENCED:
                    return
                if error.code == ERROR_UNAUTHORIZED and self._may_enroll_anew(token):
                    self._credentials.put_aside()
                    continue
                await asyncio.sleep(REFUSED_AGAIN_S * (1.0 + self._jitter()))
            except (StoreUnavailable, OSError) as error:  # a full disk is waited for, not fatal
                self._state.problem = str(error)
                await asyncio.sleep(STORE_RETRY_S)
            except CredentialUnusable as error:  # what is known runs on; somebody must look
                self._state.problem = str(error)
                self._log.error(log_events.CORE_REFUSED, error=str(error))
                return

    async def _credential(self, token: str | None, agent_id: str) -> Credential | None:
        kept = self._credentials.read()
        if kept is None and token is None:
            self._state.problem = (
                "this node is not enrolled; get a token with `corectl enroll-token` and start "
                "agentd once with --enroll-token TOKEN"
            )
            self._log.warning(log_events.CORE_REFUSED, error=self._state.problem)
            return None
        if kept is None and token is not None:
            kept = await self._enroll(token, agent_id)
        if kept is not None:
            fresh, epoch = kept, new_mark(self._random_bits)
            await self._store.write(lambda c: _begin_reporting(c, fresh, epoch))
            self._state.enrolled = True
        return kept

    async def _enroll(self, token: str, agent_id: str) -> Credential:
        nonce = self._credentials.nonce(lambda: new_mark(self._random_bits))
        async for attempt in until_reached(self._jitter, self._unreachable):
            with attempt:
                enrolled = await self._core.enroll(token, nonce, agent_id)
        credential = Credential(agent_id=enrolled.agent_id, credential=enrolled.credential)
        self._credentials.write(credential)
        self._enrolled = True
        self._log.info(log_events.ENROLLED, agent_id=credential.agent_id)
        return credential

    def _may_enroll_anew(self, token: str | None) -> bool:
        """The credential is another core's or a revoked one, and a token is there to replace it."""
        return token is not None and not self._enrolled and self._credentials.read() is not None

    async def _patiently(self, loop: Callable[[], Awaitable[None]]) -> None:
        """A refused push or report is no reason not to hear of withdrawals: it is tried again."""
        while True:
            try:
                await loop()
            except CoreRefused as error:
                if error.code in (ERROR_FENCED, ERROR_UNAUTHORIZED):
                    raise
                self._log.error(log_events.CORE_REFUSED, error=str(error))
                self._state.push_problem = str(error)
                await asyncio.sleep(REFUSED_AGAIN_S * (1.0 + self._jitter()))

    async def _loops(self) -> None:
        """All three, until one is refused; recovery comes before the first pull (DESIGN §3)."""
        self._state.recheck = True
        loops = [
            asyncio.ensure_future(self._patiently(self._report.run)),
            asyncio.ensure_future(self._patiently(self._push.run)),
            asyncio.ensure_future(self._pull_when_recovered()),
        ]
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for loop in (loop for loop in loops if loop in done):  # a set has no order
                loop.result()
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def _pull_when_recovered(self) -> None:
        await self._hands.recovered.wait()
        await self._pull.run()

    def _refused(self, error: CoreRefused) -> None:
        fenced = error.code == ERROR_FENCED
        self._state.connected = False
        self._state.fenced = fenced
        self._state.refused = True
        self._state.problem = str(error)
        event = log_events.CORE_FENCED if fenced else log_events.CORE_REFUSED
        self._log.error(event, error=str(error))

    def _unreachable(self, error: CoreUnreachable) -> None:
        if self._state.problem is None:
            self._log.warning(log_events.CORE_UNREACHABLE, error=str(error))
        self._state.problem = str(error)


def _begin_reporting(connection: sqlite3.Connection, credential: Credential, epoch: str) -> None:
    """From the first enrolment on there is an outbox; what was before is sent as state."""
    meta = read_meta(connection)
    if meta.enrolled == credential.agent_id:
        return
    write_meta(
        connection,
        enrolled=credential.agent_id,
        agent_id=credential.agent_id,
        agent_epoch=epoch,
        acked_seq=events.next_seq(connection) - 1,
        cursor="",
        state_owed=1,
    )
