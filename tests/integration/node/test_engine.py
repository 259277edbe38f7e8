"""The engine on a real database, with a runner that cannot answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from agent.domain.ending import RunState
from agent.domain.lane import Lane
from agent.infra.clock import SystemClock, WallAlarm
from agent.node import engine as engine_module
from agent.node.engine import Engine
from agent.node.ports import RunKey, Runner, RunnerAway, RunStatus, StartRequest
from agent.node.store import actions
from agent.node.store.threaded import ThreadedStore
from tests.integration.node.database import make_kinds, make_ledger
from tests.unit.domain.builders import NOW, make_definition

SOON_S = 10.0


class Busy:
    """A runner that stays connected, and refuses the first start as not possible now."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.asked_again = asyncio.Event()

    async def start(self, request: StartRequest) -> RunStatus:
        self.started.append(request.key.start_no)
        if len(self.started) == 1:
            raise RunnerAway("unavailable: too many open files")
        self.asked_again.set()
        return RunStatus(state=RunState.RUNNING, pid=1)

    async def claim(self, key: RunKey) -> RunStatus:
        return RunStatus(state=RunState.NEVER_STARTED)

    async def collected(self, keys: Any) -> None:
        """Nothing is kept."""


def test_a_start_without_an_answer_is_not_left_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "CLAIM_AGAIN_S", 0.01)
    runner = Busy()

    async def play() -> None:
        store, ledger = ThreadedStore(tmp_path / "agent.db"), make_ledger()
        engine = Engine(
            store=store, ledger=ledger, runner=cast("Runner", runner), kinds=make_kinds(sleep={}),
            clock=SystemClock(), alarm=WallAlarm, jitter=lambda: 0.0, parallel_max=1,
            log=structlog.get_logger(),
        )  # fmt: skip
        await store.write(lambda c: ledger.accept(c, make_definition(), NOW, lane=Lane.EXCLUSIVE))
        engine.runner_ready = True
        turning = asyncio.ensure_future(engine.run())
        try:
            async with asyncio.timeout(SOON_S):
                await runner.asked_again.wait()
            action = await store.read(lambda c: actions.by_id(c, "a1"))
            assert action is not None
            assert (action.attempt, action.start_no) == (1, 2), "what never started is not counted"
        finally:
            turning.cancel()
            await asyncio.gather(turning, return_exceptions=True)
            await store.close()

    asyncio.run(play())
    assert runner.started == [1, 2]
