"""What the engine and sync need of the outside, as small protocols owned by them.

Each has a real implementation and one that a simulation drives; both pass the same contract suite.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from agent.domain.ending import ExitRecord, RunState
from agent.domain.errors import AgentError
from agent.domain.manifest import Manifest

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]


class Store(Protocol):
    """The node's database."""

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run in a transaction; returns after the commit."""
        ...

    async def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run read-only on committed state."""
        ...


class RunnerAway(AgentError):
    """The runner cannot be reached now; what was asked may or may not have happened."""


class RunnerOvertaken(RunnerAway):
    """The runner listens to an `agentd` of a higher generation than this one."""


class RunnerRefused(AgentError):
    """The runner understood and refuses; nothing was started or changed."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True, slots=True)
class RunKey:
    """Names one run at the runner; `id` guards against a row number used for another action."""

    row: int
    start_no: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """Everything the runner may know of a run. No path, no user, no environment."""

    key: RunKey
    attempt: int
    kind: str
    payload: Mapping[str, Any]
    metadata: Mapping[str, Any]
    app_names: Sequence[str]
    from_date: datetime | None
    to_date: datetime | None
    correlation_id: str | None
    rollback_reference: Any
    dry_run: bool
    timeout_s: float | None
    grace_s: float
    stop_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The runner's answer about one run."""

    state: RunState
    record: ExitRecord | None = None
    started_at: datetime | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord:
    """That a script was started, as the runner has it on file; how it ended a claim tells."""

    key: RunKey
    attempt: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What the runner says of itself when a connection begins."""

    version: str
    pid: int
    max_row: int
    running: tuple[RunKey, ...] = ()
    features: tuple[str, ...] = ()
    scripts_dir: str = ""
    containment: str = "attributed"
    """What holds of P11 there: `cgroup` (nothing survives a stop) or `attributed`."""
    controllers: tuple[str, ...] = ()
    """Of the delegated cgroup: which limits hold for a whole tree."""
    survivors: int = 0
    """Processes that outlived a KILL since that runner started."""
    boot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerReport:
    """What the runner says of itself when it is asked how it stands."""

    version: str
    pid: int
    running: int
    uncollected: int
    containment: str | None = None
    """`cgroup` or `attributed`; None of a runner that does not say."""
    survivors: int = 0
    """Processes that a stop could not end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputChunk:
    """Some bytes of a script's output; `offset` counts what the script wrote."""

    offset: int
    data: bytes
    next_offset: int
    total: int
    done: bool
    pruned: bool = False
    """It was there and was removed, because all outputs together took too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The latest a script said of its progress."""

    percent: float | None
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The kinds installed on this node, with a digest over everything that matters in them."""

    digest: str = ""
    kinds: Mapping[str, Manifest] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


class RunnerListener(Protocol):
    """Who is told when something happens at the runner."""

    def run_exited(self, key: RunKey, record: ExitRecord) -> None:
        """A run ended. May be told twice."""
        ...

    def runner_lost(self) -> None:
        """The connection is gone."""
        ...

    def kinds_changed(self) -> None:
        """Something in the scripts directory changed."""
        ...

    def survivors_found(self, key: RunKey | None, count: int) -> None:
        """So many processes outlived a stop and its KILL; None: of which run is not known."""
        ...


class Runner(Protocol):
    """The hands. Every method raises `RunnerAway` where there is no connection."""

    async def connect(self, generation: int, listener: RunnerListener) -> Hello:
        """Reach the runner (starting it if that is our business) and say hello."""
        ...

    async def start(self, request: StartRequest) -> RunStatus:
        """Start a run, once, however often it is asked."""
        ...

    async def claim(self, key: RunKey) -> RunStatus:
        """What became of a run; `NEVER_STARTED` also forbids it for ever."""
        ...

    async def stop(self, key: RunKey, cause: str, grace_s: float) -> RunState:
        """Begin to stop a run; its end is told to the listener."""
        ...

    async def set_deadline(self, key: RunKey, stop_at: datetime | None) -> None:
        """Move the end of a running run's window."""
        ...

    async def collected(self, keys: Sequence[RunKey]) -> None:
        """The final status of these is committed."""
        ...

    async def forget(self, keys: Sequence[tuple[int, int]]) -> None:
        """Remove what is kept of these (row, start_no)."""
        ...

    async def records(
        self, after: tuple[int, int] | None
    ) -> tuple[Sequence[StartRecord], tuple[int, int] | None]:
        """A page of all starts on file, by (row, start_no), and where to go on (None: the end)."""
        ...

    async def kinds(self, known: str | None) -> Catalogue | None:
        """The catalogue; None if it still has the digest `known`."""
        ...

    async def output(self, key: RunKey, stream: str, offset: int, limit: int) -> OutputChunk:
        """Some of what a run wrote."""
        ...

    async def progress(self, keys: Sequence[RunKey]) -> Mapping[int, Progress]:
        """Latest progress by row, of those that told any."""
        ...

    async def leave(self) -> bool:
        """Ask a runner on which nothing runs to end; whether it does."""
        ...
