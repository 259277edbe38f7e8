"""Keeping the runner at hand: connect, say hello, find out what became of every STARTED action.

This is the boot recovery of DESIGN §3 and equally the recovery from a runner that went away: the
same evidence, in the same order. Nothing is started before it is done.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.domain.action import Action
from agent.domain.ending import ADOPTED, RUNNER_STOP, ExitRecord, RunState
from agent.domain.lifecycle import ExecutionStatus
from agent.node import log_events
from agent.node.catalogue import Kinds
from agent.node.engine import Engine, run_key
from agent.node.ports import (
    Hello,
    RunKey,
    Runner,
    RunnerAway,
    RunnerOvertaken,
    RunnerRefused,
    RunStatus,
    Store,
)
from agent.node.store import actions
from agent.node.store.meta import read_meta, write_meta
from agent.node.store.threaded import StoreUnavailable
from agent.node.turn import Ended

RETRY_S_FIRST = 0.05
RETRY_S_MAX = 5.0
CLAIMS_AT_ONCE = 64


class Hands:
    """Holds the connection to the runner and recovers whenever it is new."""

    def __init__(
        self, *, runner: Runner, engine: Engine, store: Store, kinds: Kinds,
        generation: int, log: Any,
    ) -> None:  # fmt: skip
        self._runner = runner
        self._engine = engine
        self._store = store
        self._kinds = kinds
        self._generation = generation
        self._log = log
        self._lost = asyncio.Event()
        self._first = True
        self._behind = 1
        self.hello: Hello | None = None
        self.problem: str | None = "not connected yet"
        self.recovered = asyncio.Event()
        """Set once every STARTED action of the last life has its verdict."""
        self.on_kinds: Callable[[], None] = lambda: None

    def run_exited(self, key: RunKey, record: ExitRecord) -> None:
        """The runner's notice, handed on."""
        if record.stop_cause == RUNNER_STOP:
            # It is leaving and starts nothing more: what is due now is for the one that comes next.
            self._engine.runner_ready = False
        self._engine.run_exited(key, record)

    def runner_lost(self) -> None:
        """The connection is gone: nothing starts until it is back and has been asked."""
        self._log.warning(log_events.RUNNER_LOST, running=len(self._engine.running))
        self._engine.runner_ready = False
        self.hello = None
        self._lost.set()

    async def run(self) -> None:
        """Connect, recover, wait until the connection is lost, and again. Ends by cancellation."""
        wait_s = RETRY_S_FIRST
        while True:
            try:
                await self._connect_and_recover()
            except (RunnerAway, RunnerRefused, StoreUnavailable) as error:
                self._note_problem(str(error))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_S_MAX)
                continue
            wait_s = RETRY_S_FIRST
            self.problem = None
            await self._lost.wait()
            self._note_problem("the connection was lost")

    async def _connect_and_recover(self) -> None:
        self._lost.clear()
        hello = await self._greet()
        self._log.info(log_events.RUNNER_CONNECTED, pid=hello.pid, version=hello.version)
        await self.refresh_kinds()
        await self._recover(hello)
        self.hello = hello
        if not self._lost.is_set():
            self._engine.runner_ready = True
        self.recovered.set()
        self._engine.wake()

    async def _greet(self) -> Hello:
        try:
            return await self._runner.connect(self._generation, self)
        except RunnerOvertaken:
            if not self._first:
                raise
            # We hold the directory's lock, so nobody newer is there: the database is from a backup.
            # By how much it is behind nobody says; twice as far each time is soon enough.
            self._generation += self._behind
            self._behind *= 2
            generation = self._generation
            await self._store.write(lambda c: write_meta(c, generation=generation))
            raise

    async def _recover(self, hello: Hello) -> None:
        started = await self._store.write(lambda c: _open_books(c, hello.max_row))
        self._report_strangers(hello, started)
        statuses = await self._claim_all(started)
        adopted = [
            action
            for action, status in zip(started, statuses, strict=True)
            if status.state is RunState.RUNNING
        ]
        # Since the claims some may have ended and been settled: those are nobody's to adopt.
        first = self._first
        adopted = await self._store.write(lambda c: _still_started(c, adopted, mark=first))
        self._engine.running.clear()
        for action in adopted:
            self._log.info(log_events.ACTION_ADOPTED, action_id=action.definition.id)
            self._engine.adopt(action)
        for action, status in zip(started, statuses, strict=True):
            if status.state is not RunState.RUNNING:
                self._engine.settle(
                    Ended(key=run_key(action), state=status.state, record=status.record, away=True)
                )
        if started:
            self._log.info(log_events.RECOVERED, started=len(started), adopted=len(adopted))
        self._first = False

    async def _claim_all(self, started: list[Action]) -> list[RunStatus]:
        """Ask about each; several at once, because a hundred may have run."""
        statuses: list[RunStatus] = []
        for begin in range(0, len(started), CLAIMS_AT_ONCE):
            group = started[begin : begin + CLAIMS_AT_ONCE]
            statuses += await asyncio.gather(*(self._claim(action) for action in group))
        return statuses

    async def _claim(self, action: Action) -> RunStatus:
        try:
            return await self._runner.claim(run_key(action))
        except RunnerRefused as error:  # its row number names another action's run: no evidence
            self._log.warning(
                log_events.RUNNER_STRANGER, action_id=action.definition.id, error=str(error)
            )
            return RunStatus(state=RunState.UNKNOWN)

    def _report_strangers(self, hello: Hello, started: list[Action]) -> None:
        """Runs that the database does not know as started: only after it was restored or lost."""
        known = {run_key(action) for action in started}
        for key in hello.running:
            if key not in known:
                self._log.warning(
                    log_events.RUNNER_STRANGER, action_id=key.id, row=key.row, start_no=key.start_no
                )

    async def refresh_kinds(self) -> bool:
        """Re-read the catalogue if it changed; whether it did. Raises `RunnerAway`."""
        known = self._kinds.catalogue.digest or None
        catalogue = await self._runner.kinds(known)
        if catalogue is None:
            return False
        lanes = {kind: manifest.parallel for kind, manifest in catalogue.kinds.items()}
        await self._store.write(lambda c: _set_lanes(c, lanes))
        self._kinds.replace(catalogue)  # after the commit: if that fails, it is read again
        self._log.info(
            log_events.CATALOGUE_READ, kinds=len(catalogue.kinds), faults=list(catalogue.faults)
        )
        self.on_kinds()
        return True

    def _note_problem(self, problem: str) -> None:
        if problem != self.problem:  # not once more at every try
            self._log.warning(log_events.RUNNER_UNREACHABLE, error=problem)
        self.problem = problem


def _open_books(connection: sqlite3.Connection, max_row: int) -> list[Action]:
    """What is STARTED; and a floor under row numbers where run files are older than the rows."""
    if max_row > read_meta(connection).row_floor and max_row >= actions.next_row(connection):
        write_meta(connection, row_floor=max_row)
    return actions.started(connection)


def _still_started(
    connection: sqlite3.Connection, found: list[Action], *, mark: bool
) -> list[Action]:
    """Those as they are now; `mark` says in each that this life adopted it."""
    adopted = []
    for action in found:
        current = actions.by_row(connection, action.row)
        if current is None or run_key(current) != run_key(action):
            continue
        if current.execution_status is not ExecutionStatus.STARTED:
            continue
        if mark:
            marked = replace(current, verdict=ADOPTED)
            actions.update(connection, current, marked)
            current = marked
        adopted.append(current)
    return adopted


def _set_lanes(connection: sqlite3.Connection, lanes: dict[str, bool]) -> None:
    for kind, parallel in lanes.items():
        actions.set_lane(connection, kind, parallel=parallel)
