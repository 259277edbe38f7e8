"""A runner without processes: the machine's half of the `Runner` port, with the real one's manners.

`runs` is its directory and survives a crash of it; `_processes` are the scripts, which live in
virtual time. At most one start per key, tombstones, generations, stops with grace, deadlines kept
by itself, exit records until forgotten (docs/runner-protocol.md). The client half, with its faulty
connection, is `fake_runner_port`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from agent.domain.ending import ExitRecord, RunState
from agent.infra.clock import Clock
from agent.node.ports import (
    Catalogue,
    Hello,
    OutputChunk,
    Progress,
    RunKey,
    RunnerOvertaken,
    RunnerRefused,
    RunStatus,
    StartRecord,
    StartRequest,
)
from tests.fakes.script_behaviour import Behaviour, behaviour_of

SIGKILL, SIGTERM = 9, 15
RECORDS_PAGE = 2
TERM_REACTION_S = 0.02

Watch = Callable[..., None]


class Notices(Protocol):
    """Where the newest connection hears of ends."""

    def notice(self, key: RunKey, record: ExitRecord) -> None:
        """A run has ended."""
        ...


@dataclass(slots=True)
class Run:
    """One run file."""

    key: RunKey
    attempt: int = 1
    kind: str = ""
    tombstone: bool = False
    stop_cause: str = "none"
    stopped_at: datetime | None = None
    record: ExitRecord | None = None
    output: bytes = b""


@dataclass(slots=True)
class Process:
    """One running script."""

    request: StartRequest
    behaviour: Behaviour
    started_at: datetime
    started_s: float
    pid: int
    timers: list[asyncio.TimerHandle]
    window: asyncio.TimerHandle | None = None
    kill: asyncio.TimerHandle | None = None
    stopping: bool = False
    grace_s: float = 10.0


Key = tuple[int, int]


class FakeRunner:
    """The hands of one node. `watch(what, **fields)` is told what the scripts see."""

    def __init__(
        self, *, clock: Clock, catalogue: Catalogue, watch: Watch, version: str = "fake"
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._watch = watch
        self._version = version
        self._processes: dict[Key, Process] = {}
        self._orphans: list[Process] = []
        self._newest: Notices | None = None
        self._pid = 100
        self.catalogue = catalogue
        self.runs: dict[Key, Run] = {}
        self.generation = 0
        self.boot = 0
        self.up = True

    # -- its life ---------------------------------------------------------------------------

    def crash(self) -> None:
        """kill -9: the table is gone, the files stay, the scripts are alone."""
        self.up = False
        self._newest = None
        for process in self._processes.values():
            for timer in (process.window, process.kill, *process.timers[1:]):
                if timer is not None:
                    timer.cancel()
            self._orphans.append(process)
        self._processes.clear()

    def restart(self) -> None:
        """The next runner: what the killed one left running is ended before anybody is served."""
        for process in self._orphans:
            self._cut(process)
            self._tell_end(process, None, SIGKILL, "orphan", recorded=False)
        self._orphans.clear()
        self.up = True
        self.boot += 1

    # -- requests ---------------------------------------------------------------------------

    def hello(self, connection: Notices, generation: int) -> Hello:
        """Begin; a lower generation than any before is refused."""
        self.check_generation(generation)
        self.generation = max(self.generation, generation)
        self._newest = connection
        return Hello(
            version=self._version,
            pid=self.boot + 1,
            max_row=max((row for row, _ in self.runs), default=0),
            running=tuple(process.request.key for process in self._processes.values()),
            features=("records",),
            boot_id="one",
        )

    def leave(self, connection: Notices) -> None:
        """A connection is gone."""
        if self._newest is connection:
            self._newest = None

    def check_generation(self, generation: int) -> None:
        """Refuse who was overtaken."""
        if generation < self.generation:
            raise RunnerOvertaken(f"generation {generation} was overtaken by {self.generation}")

    def start(self, request: StartRequest) -> RunStatus:
        """Start it, once."""
        key = request.key
        if (key.row, key.start_no) in self.runs:
            return self._state(key)
        refusal = self._refusal(request)
        if refusal is not None:
            now = self._clock.now()
            record = ExitRecord(started_at=None, ended_at=now, spawn_error=refusal, duration_s=0.0)
            self.runs[key.row, key.start_no] = Run(
                key, request.attempt, request.kind, record=record
            )
            return RunStatus(state=RunState.EXITED, record=record)
        if request.stop_at is not None and self._clock.now() >= request.stop_at:
            return self.claim(key)  # the window has closed on the way here: a tombstone
        self.runs[key.row, key.start_no] = Run(key, request.attempt, request.kind)
        self._spawn(request)
        return self._state(key)

    def claim(self, key: RunKey) -> RunStatus:
        """The state; where there is nothing, a tombstone."""
        self.runs.setdefault((key.row, key.start_no), Run(key, tombstone=True))
        return self._state(key)

    def stop(self, key: RunKey, cause: str, grace_s: float) -> RunState:
        """Begin to stop it."""
        status = self._known(key)
        process = self._processes.get((key.row, key.start_no))
        if process is not None:
            self._stop(process, cause, grace_s)
        return status.state

    def set_deadline(self, key: RunKey, stop_at: datetime | None) -> None:
        """Move the end of the window."""
        self._known(key)
        process = self._processes.get((key.row, key.start_no))
        if process is not None and not process.stopping:
            self._set_window(process, stop_at)

    def collected(self, keys: Sequence[RunKey]) -> None:
        """Nothing is to be hurried here: records are durable at once."""

    def forget(self, keys: Iterable[Key]) -> None:
        """Remove what does not run."""
        for key in keys:
            if key not in self._processes:
                self.runs.pop(key, None)

    def records(self, after: Key | None) -> tuple[list[StartRecord], Key | None]:
        """All starts behind `after`, in pages of two, so that paging is seen."""
        behind = sorted(key for key in self.runs if after is None or key > after)
        started = [key for key in behind if not self.runs[key].tombstone]
        page = [
            StartRecord(key=run.key, attempt=run.attempt, kind=run.kind)
            for run in (self.runs[key] for key in started[:RECORDS_PAGE])
        ]
        return page, started[RECORDS_PAGE - 1] if len(started) > RECORDS_PAGE else None

    def kinds(self, known: str | None) -> Catalogue | None:
        """The catalogue, or None if it is the known one."""
        return None if known == self.catalogue.digest else self.catalogue

    def output(self, key: RunKey, stream: str, offset: int, limit: int) -> OutputChunk:
        """What a run wrote: all of it at its start, to stdout."""
        self._known(key)
        whole = self.runs[key.row, key.start_no].output if stream != "stderr" else b""
        data = whole[offset : offset + limit]
        end = offset + len(data)
        done = end >= len(whole) and (key.row, key.start_no) not in self._processes
        return OutputChunk(offset=offset, data=data, next_offset=end, total=len(whole), done=done)

    def progress(self, keys: Sequence[RunKey]) -> dict[int, Progress]:
        """Scripts here say nothing."""
        return {}

    # -- a run's life -----------------------------------------------------------------------

    def _refusal(self, request: StartRequest) -> str | None:
        manifest = self.catalogue.kinds.get(request.kind)
        if manifest is None:
            return f"unknown_kind: no script {request.kind!r}"
        if request.dry_run and not manifest.dry_run:
            return f"dry_run_unsupported: {request.kind!r} has none"
        return None

    def _state(self, key: RunKey) -> RunStatus:
        run = self.runs[key.row, key.start_no]
        if run.key.id != key.id:
            raise RunnerRefused("conflict", f"run {key.row}.{key.start_no} belongs to {run.key.id}")
        process = self._processes.get((key.row, key.start_no))
        if process is not None:
            return RunStatus(state=RunState.RUNNING, started_at=process.started_at, pid=process.pid)
        if run.record is not None:
            return RunStatus(state=RunState.EXITED, record=run.record)
        return RunStatus(state=RunState.NEVER_STARTED if run.tombstone else RunState.UNKNOWN)

    def _known(self, key: RunKey) -> RunStatus:
        if (key.row, key.start_no) not in self.runs:
            raise RunnerRefused("unknown_run", f"there is no run {key.row}.{key.start_no}")
        return self._state(key)

    def _spawn(self, request: StartRequest) -> None:
        key, now_s = request.key, self._loop.time()
        behaviour = behaviour_of(request)
        self._pid += 1
        process = Process(
            request, behaviour, self._clock.now(), now_s, self._pid, [], grace_s=request.grace_s
        )
        self._processes[key.row, key.start_no] = process
        self.runs[key.row, key.start_no].output = behaviour.output
        self._watch(
            "script_started", id=key.id, row=key.row, start_no=key.start_no,
            attempt=request.attempt, kind=request.kind, apps=list(request.app_names),
            to_date=request.to_date, from_date=request.from_date,
        )  # fmt: skip
        after = self._loop.call_later
        process.timers.append(after(behaviour.duration_s, self._ends, process))
        bound = self.catalogue.kinds[request.kind].timeout_s
        timeouts = [limit for limit in (request.timeout_s, bound) if limit is not None]
        if timeouts:
            grace_s = request.grace_s
            process.timers.append(after(min(timeouts), self._stop, process, "timeout", grace_s))
        self._set_window(process, request.stop_at)

    def _set_window(self, process: Process, stop_at: datetime | None) -> None:
        if process.window is not None:
            process.window.cancel()
        process.window = None
        if stop_at is not None:
            delay_s = max(0.0, (stop_at - self._clock.now()).total_seconds())
            process.window = self._loop.call_later(
                delay_s, self._stop, process, "window", process.grace_s
            )

    def _stop(self, process: Process, cause: str, grace_s: float) -> None:
        """TERM, grace, KILL. The first cause stands; asked again, only the grace gets shorter."""
        kill_s = self._loop.time() + grace_s
        if process.stopping:
            if process.kill is not None and process.kill.when() <= kill_s:
                return
        else:
            process.stopping = True
            run = self.runs[process.request.key.row, process.request.key.start_no]
            run.stop_cause, run.stopped_at = cause, self._clock.now()
            if process.behaviour.on_term != "ignore":
                code = 0 if process.behaviour.on_term == "exit" else None
                number = None if code == 0 else SIGTERM
                process.timers.append(
                    self._loop.call_later(TERM_REACTION_S, self._ends, process, code, number)
                )
        if process.kill is not None:
            process.kill.cancel()
        process.kill = self._loop.call_at(kill_s, self._ends, process, None, SIGKILL)

    def _ends(self, process: Process, code: int | None = None, number: int | None = None) -> None:
        by_itself = code is None and number is None
        if by_itself:
            code = process.behaviour.code
        self._cut(process)
        if process in self._orphans:
            self._orphans.remove(process)
            self._tell_end(process, code, number, "alone", recorded=False)
            return
        key = process.request.key
        run = self.runs[key.row, key.start_no]
        del self._processes[key.row, key.start_no]
        run.record = ExitRecord(
            started_at=process.started_at,
            ended_at=self._clock.now(),
            code=code,
            signal=number,
            stop_cause=run.stop_cause,
            stopped_at=run.stopped_at,
            killed_at=self._clock.now() if number == SIGKILL and run.stopped_at else None,
            duration_s=round(self._loop.time() - process.started_s, 6),
        )
        self._tell_end(process, code, number, run.stop_cause, recorded=True)
        if self._newest is not None:
            self._newest.notice(key, replace(run.record))

    def _cut(self, process: Process) -> None:
        for timer in (process.window, process.kill, *process.timers):
            if timer is not None:
                timer.cancel()

    def _tell_end(
        self, process: Process, code: int | None, number: int | None, cause: str, *, recorded: bool
    ) -> None:
        key = process.request.key
        told: dict[str, Any] = {"code": code, "signal": number, "cause": cause}
        self._watch(
            "script_ended", id=key.id, row=key.row, start_no=key.start_no,
            attempt=process.request.attempt, recorded=recorded, **told,
        )  # fmt: skip
