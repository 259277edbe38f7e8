"""The report loop: what this node is, on connection and on change.

A change of the catalogue, of progress, of pause, brakes or the trust in the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from agent.domain.instants import format_instant
from agent.infra.clock import Clock
from agent.node.catalogue import Kinds
from agent.node.engine import Engine, run_key
from agent.node.ports import Progress, Runner, RunnerAway, RunnerRefused
from agent.node.sync.backoff import until_reached
from agent.node.sync.port import Core, CoreUnreachable
from agent.node.views import progress_view
from agent.wire.brake import encode_brake
from agent.wire.definition import FEATURES
from agent.wire.messages import NodeReport

CATALOGUE_S_MAX = 5.0  # how long the first report waits for a runner; then it tells of no kinds
PROGRESS_S = 1.0  # how often progress is looked at, and only while something runs


class Report:
    """Reports for ever; woken by `wake`."""

    def __init__(
        self, *, core: Core, runner: Runner, engine: Engine, kinds: Kinds, clock: Clock,
        jitter: Callable[[], float], version: str, host: str,
        labels: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._core = core
        self._runner = runner
        self._engine = engine
        self._kinds = kinds
        self._clock = clock
        self._jitter = jitter
        self._version = version
        self._host = host
        self._labels = dict(labels or {})
        self._wake = asyncio.Event()
        self._told: Mapping[str, Any] | None = None

    def wake(self) -> None:
        """Something about the node may have changed."""
        self._wake.set()

    def again(self) -> None:
        """The core may be another one than before, or an older one: tell it once more."""
        self._told = None
        self._wake.set()

    async def run(self) -> None:
        """Report until cancelled or refused."""
        await self._until_known()
        self._told = None
        while True:
            self._wake.clear()
            report = await self._compose()
            comparable = {
                "catalogue": report.catalogue, "progress": report.progress,
                "brakes": report.brakes, "pause": report.pause,
                "clock": report.clock.get("state"),
            }  # fmt: skip
            if comparable != self._told:
                async for attempt in until_reached(self._jitter, _say_nothing):
                    with attempt:
                        # Told now, not when the core could not be reached: it measures our clock.
                        report.clock["now"] = format_instant(self._clock.now())
                        await self._core.put_node(report)
                self._told = comparable
            await self._wait()

    async def _until_known(self) -> None:
        """A new process knows neither brakes nor kinds; the core would take that for a change."""
        await self._engine.looked.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(CATALOGUE_S_MAX):
                await self._kinds.looked.wait()

    async def _wait(self) -> None:
        """While something runs its progress is looked at; otherwise only a change wakes this."""
        try:
            async with asyncio.timeout(PROGRESS_S if self._engine.running else None):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _compose(self) -> NodeReport:
        return NodeReport(
            version=self._version,
            features=sorted(FEATURES),
            host=self._host,
            labels=self._labels,
            clock={"now": format_instant(self._clock.now())} | self._engine.clock_watch.view(),
            brakes=[encode_brake(brake) for brake in self._engine.brakes],
            pause=dict(self._engine.pause),
            catalogue=[
                {"kind": kind.kind, "digest": kind.digest, "description": kind.description,
                 "risk_level": kind.risk_level, "parallel": kind.parallel, "mode": kind.mode,
                 "payload_schema": kind.payload_schema, "faults": list(kind.faults)}
                for kind in self._kinds.catalogue.kinds.values()
            ],
            progress=await self._progress(),
        )  # fmt: skip

    async def _progress(self) -> list[dict[str, Any]]:
        running = list(self._engine.running.values())
        if not running:
            return []
        try:
            told: Mapping[int, Progress] = await self._runner.progress(
                [run_key(action) for action in running]
            )
        except (RunnerAway, RunnerRefused):
            return []
        return [
            {"action_id": action.definition.id, **(progress_view(told[action.row]) or {})}
            for action in running
            if action.row in told
        ]


def _say_nothing(error: CoreUnreachable) -> None:
    """Pull and push tell that the core is away; a third voice adds nothing."""
