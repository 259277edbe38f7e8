"""The wiring of sync: built when there is a core, so that a node alone pays nothing for it."""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from typing import Any

from agent.domain.errors import Refused
from agent.infra.clock import Clock
from agent.node.catalogue import Kinds
from agent.node.credential import CredentialFile
from agent.node.duties import Duties
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ledger import Ledger
from agent.node.ports import Runner, Store
from agent.node.restraint_file import RestraintFile
from agent.node.settings import Settings
from agent.node.sync.state import SyncState
from agent.version import VERSION


class CoreConnection:
    """Sync with one core: state that `status` shows, and the session that keeps it."""

    def __init__(
        self, *, settings: Settings, store: Store, ledger: Ledger, engine: Engine, hands: Hands,
        kinds: Kinds, runner: Runner, clock: Clock, duties: Duties, kept: RestraintFile,
        agent_id: str, log: Any,
    ) -> None:  # fmt: skip
        self.state = SyncState(url=settings.core)
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._engine = engine
        self._hands = hands
        self._kinds = kinds
        self._runner = runner
        self._clock = clock
        self._duties = duties
        self._kept = kept
        self._agent_id = agent_id
        self._log = log
        self._http: Any = None
        self._pull: Any = None

    async def run(self) -> None:
        """Until cancelled, fenced, or known not to be enrolled."""
        await asyncio.sleep(0)
        # Imported here: a node without a core saves the memory, one with a core the start-up time.
        from agent.node.sync.http_core import HttpCore  # noqa: PLC0415
        from agent.node.sync.pull import Pull  # noqa: PLC0415
        from agent.node.sync.push import Push  # noqa: PLC0415
        from agent.node.sync.report import Report  # noqa: PLC0415
        from agent.node.sync.session import Session  # noqa: PLC0415

        url = self._settings.core or ""
        self._http = core = HttpCore(url, instance=secrets.token_hex(8), version=VERSION)
        core.on_date = self._engine.core_says
        common: dict[str, Any] = {"core": core, "clock": self._clock, "jitter": random.random}
        self._pull = pull = Pull(
            **common, store=self._store, ledger=self._ledger, engine=self._engine,
            hands=self._hands, kinds=self._kinds, state=self.state, log=self._log,
        )  # fmt: skip
        push = Push(
            **common, store=self._store, random_bits=secrets.randbits, state=self.state,
            log=self._log,
        )  # fmt: skip
        report = Report(
            **common, runner=self._runner, engine=self._engine, kinds=self._kinds,
            version=VERSION, host=socket.gethostname(), labels=self._settings.labels,
        )  # fmt: skip
        pull.on_restrained = self._kept.keep
        push.on_reached = self._pull_again
        push.on_doubt = report.again
        self._engine.changes.listen(push.wake)
        self._engine.changes.listen(report.wake)
        self._hands.on_kinds = report.wake
        pull.on_polling = lambda _: self._duties.fall_back(pull.nudge, self._poll_again)
        session = Session(
            core=core, identify=core.identify, store=self._store,
            credentials=CredentialFile(self._settings.state_dir), engine=self._engine,
            hands=self._hands, pull=pull, push=push, report=report, state=self.state,
            jitter=random.random, random_bits=secrets.randbits, log=self._log,
        )  # fmt: skip
        await session.run(self._settings.enroll_token, self._agent_id)

    def _pull_again(self) -> None:
        """A core that took events is there: a pull that backs off is tried now."""
        if not self.state.connected and not self.state.refused:
            self._pull.nudge()

    def _poll_again(self) -> None:
        self.state.polling = False
        self._pull.nudge()

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    @staticmethod
    def state_of(connection: CoreConnection | None) -> SyncState:
        """The state to show; an empty one for a node without a core."""
        return SyncState() if connection is None else connection.state

    @staticmethod
    async def pull_once(connection: CoreConnection | None) -> dict[str, Any]:
        """`agentctl sync`: one pull now. Raises `Refused` where there is nothing to pull from."""
        if connection is None:
            raise Refused("no_core", "this node has no core; start agentd with --core URL")
        return await connection.sync_now()

    async def sync_now(self) -> dict[str, Any]:
        """Pull once and say what came. Raises `Refused` with why it could not."""
        from agent.node.sync.port import CoreRefused, CoreUnreachable  # noqa: PLC0415

        if self._pull is None or not self.state.enrolled or self.state.refused:
            raise Refused("unavailable", self.state.problem or "sync has not begun yet")
        try:
            answer = await self._pull.once()
        except (CoreUnreachable, CoreRefused) as error:
            raise Refused("unavailable", str(error)) from None
        return {"definitions": len(answer.actions), "requests": len(answer.requests)}
