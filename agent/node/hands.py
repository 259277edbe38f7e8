"""Keeping the runner at hand: connect, say hello, find out what became of every STARTED action.

This is the boot recovery of DESIGN §3 and equally the recovery from a runner that went away: the
same evidence, in the same order. Nothing is started before it is done.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.domain.action import Action
from agent.domain.ending import ADOPTED, RUNNER_STOP, ExitRecord, RunState
from agent.domain.lane import Lane
from agent.domain.lifecycle import ExecutionStatus
from agent.infra.clock import Clock
from agent.node import log_events
from agent.node.attendance import Attendance
from agent.node.catalogue import Kinds
from agent.node.engine import Engine, run_key
from agent.node.evidence import Evidence
from agent.node.ledger import Ledger
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
from agent.node.store.damage import StoreUnavailable
from agent.node.store.meta import read_meta, write_meta
from agent.node.turn import Ended

RETRY_S_FIRST = 0.05
RETRY_S_MAX = 5.0
CLAIMS_AT_ONCE = 64


class Hands:
    """Holds the connection to the runner and recovers whenever it is new."""

    def __init__(
        self, *, runner: Runner, engine: Engine, store: Store, kinds: Kinds,
        ledger: Ledger, clock: Clock, generation: int, log: Any, scripts_dir: str | None = None,
    ) -> None:  # fmt: skip
        self._attendance = Attendance(
            runner=runner, engine=engine, log=log, scripts_dir=scripts_dir,
            read_kinds=self.refresh_kinds, note_problem=self._note_problem,
        )  # fmt: skip
        self._evidence = Evidence(
            runner=runner, engine=engine, store=store, kinds=kinds, ledger=ledger, clock=clock,
            log=log,
        )  # fmt: skip
        self._runner = runner
        self._engine = engine
        self._store = store
        self._kinds = kinds
        self._generation = generation
        self._log = log
        self._lost = asyncio.Event()
        self._first = True
        self._behind = 1
        self._overtaken = False
        self.survivors = 0
        """Processes that outlived a stop and its KILL, told in this life: an alarm."""
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
        self._attendance.wake()

    def kinds_changed(self) -> None:
        """The scripts directory changed: the catalogue is read again."""
        self._attendance.kinds_changed()

    def survivors_found(self, key: RunKey | None, count: int) -> None:
        """What nothing could end. The action's record says so too, where it is known."""
        self.survivors += count
        self._log.error(log_events.SURVIVORS, action_id=key.id if key else None, count=count)

    @property
    def was_restored(self) -> bool:
        """Whether the database was brought up to date by the runner's records in this life."""
        return self._evidence.was_old

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
            if self.hello is not None:
                await self._attendance.until_lost(self.hello, self._lost)
            self._note_problem("the connection was lost")

    async def _connect_and_recover(self) -> None:
        self._lost.clear()
        hello = await self._greet()
        self._engine.metrics.runner_connected(hello.pid)
        self._log.info(log_events.RUNNER_CONNECTED, pid=hello.pid, version=hello.version)
        await self._evidence.begin(hello, overtaken=self._overtaken)
        await self.refresh_kinds()
        await self._recover(hello)
        self.hello = hello
        self.survivors = max(self.survivors, hello.survivors)  # told while nobody listened
        if not self._lost.is_set() and self._attendance.misplaced(hello) is None:
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
            self._overtaken = True
            self._generation += self._behind
            self._behind *= 2
            generation = self._generation
            await self._store.write(lambda c: write_meta(c, generation=generation))
            raise

    async def _recover(self, hello: Hello) -> None:
        await self._evidence.read(hello)
        self._overtaken = False
        self._engine.evidence_read = True
        started = await self._store.write(lambda c: _open_books(c, hello))
        self._report_strangers(hello, started)
        statuses = await self._claim_all(started)
        await self._evidence.doubt(
            [
                action.definition.id
                for action, status in zip(started, statuses, strict=True)
                if status.state is RunState.UNKNOWN
            ]
        )
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
        lanes = {kind: manifest.lane for kind, manifest in catalogue.kinds.items()}
        await self._store.write(lambda c: _set_lanes(c, lanes))
        self._kinds.replace(catalogue)  # after the commit: if that fails, it is read again
        self._log.info(
            log_events.CATALOGUE_READ, kinds=len(catalogue.kinds), faults=list(catalogue.faults),
            faulty_kinds=sum(1 for manifest in catalogue.kinds.values() if manifest.faults),
        )  # fmt: skip
        self.on_kinds()
        return True

    def _note_problem(self, problem: str) -> None:
        if problem != self.problem:  # not once more at every try
            self._log.warning(log_events.RUNNER_UNREACHABLE, error=problem)
        self.problem = problem


def _open_books(connection: sqlite3.Connection, hello: Hello) -> list[Action]:
    """What is STARTED; and a floor under row numbers where run files are older than the rows."""
    meta, max_row = read_meta(connection), hello.max_row
    if max_row > meta.row_floor and max_row >= actions.next_row(connection):
        write_meta(connection, row_floor=max_row)
    if hello.boot_id != meta.boot_id:
        write_meta(connection, boot_id=hello.boot_id)
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


def _set_lanes(connection: sqlite3.Connection, lanes: dict[str, Lane]) -> None:
    """Unless the rows have these already: looking through a million takes seconds."""
    told = repr(sorted((kind, lane.value) for kind, lane in lanes.items()))
    digest = hashlib.sha256(told.encode()).hexdigest()
    if read_meta(connection).lanes_digest == digest:
        return
    write_meta(connection, lanes_digest=digest)
    for kind, lane in lanes.items():
        actions.set_lane(connection, kind, lane)
