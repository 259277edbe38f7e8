"""The client's half of the fake runner: `agent.node.ports.Runner` over a connection that can break.

In order in both directions, as a socket is. Where it breaks, whoever waits gets `RunnerAway`, and
what was already on its way may still arrive, or not: that is the point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.domain.ending import ExitRecord, RunState
from agent.node.ports import (
    Catalogue,
    Hello,
    OutputChunk,
    Progress,
    RunKey,
    RunnerAway,
    RunnerListener,
    RunStatus,
    StartRecord,
    StartRequest,
)
from tests.fakes.fake_runner import FakeRunner
from tests.fakes.inline_node_store import STEP_S, at_once
from tests.fakes.virtual_loop import Life


def soon() -> float | None:
    """What is on its way when the connection breaks arrives all the same."""
    return 0.0


class FakeRunnerPort:
    """One `agentd`'s way to the runner.

    `late_s` decides about requests of a broken connection: how much later they arrive (a runner
    that hung reads them after those of the next connection), or None: never.
    """

    def __init__(
        self,
        runner: FakeRunner,
        pause_s: Callable[[], float] = at_once,
        late_s: Callable[[], float | None] = soon,
        life: Life | None = None,
    ) -> None:
        self._runner = runner
        self._pause_s = pause_s
        self._late_s = late_s
        self._life = life
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None

    async def connect(self, generation: int, listener: RunnerListener) -> Hello:
        """Reach the runner and say hello."""
        self._require_life()
        self._drop(tell=False)
        if not self._runner.up:
            raise RunnerAway("no runner listens")
        connection = self._connection = _Connection(self, generation, listener)
        hello: Hello = await connection.ask(
            lambda runner: runner.hello(connection, generation), greets=True
        )
        return hello

    async def start(self, request: StartRequest) -> RunStatus:
        """Start a run, once."""
        status: RunStatus = await self._ask(lambda runner: runner.start(request))
        return status

    async def claim(self, key: RunKey) -> RunStatus:
        """What became of a run."""
        status: RunStatus = await self._ask(lambda runner: runner.claim(key))
        return status

    async def stop(self, key: RunKey, cause: str, grace_s: float) -> RunState:
        """Begin to stop a run."""
        state: RunState = await self._ask(lambda runner: runner.stop(key, cause, grace_s))
        return state

    async def set_deadline(self, key: RunKey, stop_at: datetime | None) -> None:
        """Move the end of a run's window."""
        await self._ask(lambda runner: runner.set_deadline(key, stop_at))

    async def collected(self, keys: Sequence[RunKey]) -> None:
        """The final status of these is committed."""
        await self._ask(lambda runner: runner.collected(keys))

    async def records(
        self, after: tuple[int, int] | None
    ) -> tuple[Sequence[StartRecord], tuple[int, int] | None]:
        """A page of all starts on file."""
        page: tuple[Sequence[StartRecord], tuple[int, int] | None] = await self._ask(
            lambda runner: runner.records(after)
        )
        return page

    async def forget(self, keys: Sequence[tuple[int, int]]) -> None:
        """Remove what is kept of these."""
        await self._ask(lambda runner: runner.forget(keys))

    async def leave(self) -> bool:
        """A fake stays."""
        await self._ask(lambda runner: None)
        return False

    async def kinds(self, known: str | None) -> Catalogue | None:
        """The catalogue."""
        catalogue: Catalogue | None = await self._ask(lambda runner: runner.kinds(known))
        return catalogue

    async def output(self, key: RunKey, stream: str, offset: int, limit: int) -> OutputChunk:
        """Some of what a run wrote."""
        chunk: OutputChunk = await self._ask(
            lambda runner: runner.output(key, stream, offset, limit)
        )
        return chunk

    async def progress(self, keys: Sequence[RunKey]) -> Mapping[int, Progress]:
        """Latest progress by row."""
        told: Mapping[int, Progress] = await self._ask(lambda runner: runner.progress(keys))
        return told

    async def close(self) -> None:
        """Leave."""
        self._drop(tell=False)

    def break_connection(self) -> None:
        """The connection is cut."""
        self._drop(tell=True)

    async def _ask(self, operation: Callable[[FakeRunner], Any]) -> Any:
        self._require_life()
        if self._connection is None:
            raise RunnerAway("there is no connection to the runner")
        return await self._connection.ask(operation)

    def _require_life(self) -> None:
        if self._life is not None:
            self._life.require()

    def _drop(self, *, tell: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.break_off(tell=tell)


class _Connection:
    """One connection: requests in order, answers in order, notices among them."""

    def __init__(self, port: FakeRunnerPort, generation: int, listener: RunnerListener) -> None:
        self._port = port
        self._runner = port._runner
        self._boot = port._runner.boot
        self._generation = generation
        self._listener = listener
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._there_s = self._back_s = 0.0
        self._open = True

    async def ask(self, operation: Callable[[FakeRunner], Any], *, greets: bool = False) -> Any:
        """Send, and wait for the answer."""
        future: asyncio.Future[Any] = self._port._loop.create_future()
        self._waiting[future] = None
        loop = self._port._loop
        self._there_s = max(loop.time() + self._port._pause_s(), self._there_s + STEP_S)
        loop.call_at(self._there_s, self._arrive, operation, future, greets)
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    def _arrive(
        self, operation: Callable[[FakeRunner], Any], future: asyncio.Future[Any], greets: bool
    ) -> None:
        """At the runner, whoever sent it may be gone by now."""
        if not self._runner.up or self._runner.boot != self._boot:
            self.break_off(tell=True)
            return
        if not self._open or self._is_dead():
            late_s = None if greets else self._port._late_s()
            if late_s is not None:
                self._port._loop.call_later(late_s, self._execute, operation, future)
            return
        self._execute(operation, future)

    def _execute(self, operation: Callable[[FakeRunner], Any], future: asyncio.Future[Any]) -> None:
        if not self._runner.up or self._runner.boot != self._boot:
            return
        try:
            self._runner.check_generation(self._generation)
            result, error = operation(self._runner), None
        except Exception as refused:  # noqa: BLE001  (an answer like any other)
            result, error = None, refused
        self._send_back(self._answer, future, result, error)

    def _answer(self, future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def notice(self, key: RunKey, record: ExitRecord) -> None:
        """From the runner: a run has ended."""
        self._send_back(self._listener.run_exited, key, record)

    def _send_back(self, deliver: Callable[..., None], *values: Any) -> None:
        loop = self._port._loop
        self._back_s = max(loop.time() + self._port._pause_s(), self._back_s + STEP_S)
        loop.call_at(self._back_s, self._deliver, deliver, values)

    def _deliver(self, deliver: Callable[..., None], values: tuple[Any, ...]) -> None:
        if self._open and not self._is_dead():
            deliver(*values)

    def break_off(self, *, tell: bool) -> None:
        """Nothing comes through any more; who waits gets `RunnerAway`."""
        if not self._open:
            return
        self._open = False
        self._runner.leave(self)
        if self._is_dead():
            return
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(RunnerAway("the connection was lost"))
        if self._port._connection is self:
            self._port._connection = None
        if tell:
            self._listener.runner_lost()

    def _is_dead(self) -> bool:
        return self._port._life is not None and self._port._life.dead
