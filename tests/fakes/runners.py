"""Both runners behind one door, for one contract suite: the process, and the simulation's fake.

Both have the catalogue of `tests/fakes/kinds`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from agent.domain.ending import ExitRecord
from agent.infra.clock import SystemClock
from agent.node.ports import Catalogue, Hello, RunKey, Runner, StartRequest
from agent.node.runner_client import SocketRunner
from agent.node.runner_kinds import read_kind
from agent.node.runner_process import accepts, nothing_to_ensure
from tests.fakes.fake_runner import FakeRunner
from tests.fakes.fake_runner_port import FakeRunnerPort

KINDS = Path(__file__).parent / "kinds"
ROOT = Path(__file__).parents[2]
UP_S_MAX = 10.0
TOLD_S_MAX = 10.0


class ClosableRunner(Runner, Protocol):
    """What both have besides the port."""

    async def close(self) -> None: ...


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.records: dict[RunKey, ExitRecord] = {}
        self.lost = 0
        self.kinds = 0
        self.survivors: list[tuple[RunKey | None, int]] = []
        self._told = asyncio.Condition()
        self._pending: set[asyncio.Task[None]] = set()

    def run_exited(self, key: RunKey, record: ExitRecord) -> None:
        self.records[key] = record
        self._ring()

    def runner_lost(self) -> None:
        self.lost += 1
        self._ring()

    def kinds_changed(self) -> None:
        self.kinds += 1
        self._ring()

    def survivors_found(self, key: RunKey | None, count: int) -> None:
        self.survivors.append((key, count))
        self._ring()

    def _ring(self) -> None:
        task = asyncio.ensure_future(self._notify())
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _notify(self) -> None:
        async with self._told:
            self._told.notify_all()

    async def exit_of(self, key: RunKey) -> ExitRecord:
        """The record of a run, as soon as it is told."""
        async with asyncio.timeout(TOLD_S_MAX), self._told:
            await self._told.wait_for(lambda: key in self.records)
        return self.records[key]


class Client:
    """One `agentd`'s connection, said in few words."""

    def __init__(self, port: ClosableRunner) -> None:
        self.port = port
        self.listener = Listener()

    async def connect(self, generation: int = 1) -> Hello:
        return await self.port.connect(generation, self.listener)

    async def start(self, row: int, kind: str, **values: Any) -> Any:
        return await self.port.start(request(row, kind, **values))

    async def exit_of(self, row: int, start_no: int = 1) -> ExitRecord:
        return await self.listener.exit_of(key(row, start_no))


MakeClient = Callable[[], Client]


def key(row: int, start_no: int = 1) -> RunKey:
    """The name of a run."""
    return RunKey(row, start_no, f"a{row}")


def soon(seconds: float) -> datetime:
    """An instant that is near."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def request(row: int, kind: str, **values: Any) -> StartRequest:
    """A start request; `payload` and any other member as given."""
    plain = StartRequest(
        key=key(row), attempt=1, kind=kind, payload={}, metadata={}, app_names=(),
        from_date=None, to_date=None, correlation_id=None, rollback_reference=None,
        dry_run=False, timeout_s=None, grace_s=5.0, stop_at=None,
    )  # fmt: skip
    return replace(plain, **values)


@asynccontextmanager
async def fake_runner() -> AsyncIterator[MakeClient]:
    """The simulation's, on the machine's clock."""
    runner = FakeRunner(clock=SystemClock(), catalogue=read_kinds(), watch=lambda *_, **__: None)
    yield lambda: Client(FakeRunnerPort(runner))


@asynccontextmanager
async def real_runner(directory: Path) -> AsyncIterator[MakeClient]:
    """A process of its own."""
    state, socket = directory / "state", directory / "state" / "runner.sock"
    process = _spawn(directory, state)
    try:
        until = time.monotonic() + UP_S_MAX
        while not accepts(socket):
            told = (directory / "log").read_text()
            assert process.poll() is None and time.monotonic() < until, told  # noqa: PT018
            await asyncio.sleep(0.01)
        yield lambda: Client(SocketRunner(socket, nothing_to_ensure))
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _spawn(directory: Path, state: Path) -> subprocess.Popen[bytes]:
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "agent.runner.main", "--state-dir", state,
             "--scripts-dir", KINDS],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def read_kinds() -> Catalogue:
    """The kinds' manifests as the fake has them."""
    found = {}
    for path in sorted(KINDS.glob("*.toml")):
        entry = {"kind": path.stem, "manifest": tomllib.loads(path.read_text())}
        found[path.stem] = read_kind(entry)
    return Catalogue(digest="fake", kinds=found)
