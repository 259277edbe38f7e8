"""The doctor: measures everything at once, beside the daemon's work, and lets the judges speak.

At most about two seconds, on threads and a connection of its own. A measurement that fails is a
failed check, never a failed answer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.infra.clock import NodeClock
from agent.node.catalogue import Kinds
from agent.node.doctor.check import Check, State, fail
from agent.node.doctor.database import DatabaseFound, examine_database
from agent.node.doctor.judge_database import judge_counts, judge_database
from agent.node.doctor.judge_machine import judge_machine
from agent.node.doctor.judge_running import RunningFound, judge_running, judge_runs
from agent.node.doctor.machine import examine_machine
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ports import RunnerAway, RunnerRefused, RunnerReport, Store
from agent.node.store import actions
from agent.node.sync.state import SyncState

RUNNER_S_MAX = 1.0
LOOKS_MAX = 3  # at what changes while it is looked at
LOOK_AGAIN_S = 0.15
_MOVING = frozenset({"database_counts", "runs"})
"""Checks that compare two sides which are not read in one moment."""


class Reporting(Protocol):
    """The runner, as far as the doctor asks it."""

    async def report(self) -> RunnerReport:
        """What it says of itself. Raises `RunnerAway`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is examined: the daemon's parts, and where its files are."""

    engine: Engine
    hands: Hands
    kinds: Kinds
    sync: SyncState
    runner: Reporting
    store: Store
    clock: NodeClock
    version: str
    database: Path
    state_dir: Path
    scripts_dir: Path
    listens: bool
    backup_at: Callable[[], datetime | None]
    """When the last verified backup was made."""
    backups_wanted: bool = True
    clock_doubt: Callable[[], str | None] = lambda: None
    """Why the wall clock is not believed now."""


class Doctor:
    """Examines one running daemon."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient

    async def examine(self) -> list[Check]:
        """All checks, in a fixed order."""
        (database, zones), running = await asyncio.gather(self._database(), self._running())
        machine = await asyncio.to_thread(self._machine, zones)
        return await self._look_again([*database, *running, *machine])

    def _machine(self, zones: frozenset[str]) -> list[Check]:
        patient = self._patient
        try:
            found = examine_machine(
                patient.state_dir, patient.scripts_dir, zones, listens=patient.listens
            )
        except OSError as error:
            return [fail("permissions", f"the state directory cannot be read: {error}", "mend it")]
        return list(judge_machine(found))

    async def _database(self) -> tuple[list[Check], frozenset[str]]:
        try:
            found = await self._measure()
        except sqlite3.Error as error:
            advice = "restart agentd: it puts a damaged database aside and restores a backup"
            return [fail("database_integrity", f"it cannot be read: {error}", advice)], frozenset()
        return list(judge_database(found, self._patient.clock.now())), found.zones

    async def _measure(self) -> DatabaseFound:
        patient = self._patient
        return await asyncio.to_thread(examine_database, patient.database, patient.clock.monotonic)

    async def _running(self) -> list[Check]:
        return list(judge_running(await self._found(), self._patient.clock.now()))

    async def _found(self) -> RunningFound:
        patient, sync, catalogue = self._patient, self._patient.sync, self._patient.kinds.catalogue
        kinds = catalogue.kinds.values()
        faults = [f"{kind.kind}: {t}" for kind in kinds for t in patient.kinds.faults(kind)]
        runner = await self._ask_runner()
        return RunningFound(
            own_version=patient.version,
            runner=runner,
            runner_problem=patient.hands.problem,
            started=await self._started(),
            known=frozenset((a.row, a.start_no) for a in patient.engine.running.values()),
            store_problem=patient.engine.store_problem,
            kinds=len(catalogue.kinds),
            kind_faults=(*catalogue.faults, *faults),
            core_url=sync.url,
            core_enrolled=sync.enrolled,
            core_connected=sync.connected,
            core_fenced=sync.fenced,
            core_polling=sync.polling,
            core_problem=sync.problem or sync.push_problem,
            last_pull_at=sync.last_pull_at,
            clock_synchronised=patient.clock.reading().synchronised,
            clock_doubt=patient.clock_doubt(),
            backup_at=patient.backup_at(),
            backups_wanted=patient.backups_wanted,
        )

    async def _started(self) -> frozenset[tuple[int, int]]:
        found = await self._patient.store.read(actions.started)
        return frozenset((action.row, action.start_no) for action in found)

    async def _ask_runner(self) -> RunnerReport | None:
        try:
            async with asyncio.timeout(RUNNER_S_MAX):
                return await self._patient.runner.report()
        except (RunnerAway, RunnerRefused, TimeoutError):
            return None

    async def _look_again(self, checks: list[Check]) -> list[Check]:
        """What compares two moments is wrong only if it stays so."""
        for _ in range(LOOKS_MAX - 1):
            if not any(check.name in _MOVING and check.state is not State.OK for check in checks):
                break
            await asyncio.sleep(LOOK_AGAIN_S)
            fresh = {"runs": judge_runs(await self._found())}
            fresh["database_counts"] = judge_counts(await self._measure())
            checks = [fresh.get(check.name, check) for check in checks]
        return checks
