"""One run in memory, and the records made of it. Values only: nothing here starts or stops.

Kept only while the run is running or its leftovers are being stopped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from agent.runner.limits import MESSAGE_CHARS_MAX
from agent.runner.names import MARKS
from agent.runner.tree import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.catalogue import Script
    from agent.runner.cgroups import Group
    from agent.runner.loop import Timer
    from agent.runner.names import Key
    from agent.runner.order import OrderKeeper
    from agent.runner.output import OutputKeeper


class Ended(NamedTuple):
    """How the main process ended."""

    code: int | None
    signal: int | None
    ended_at: float
    duration_s: float
    limit_exceeded: str | None = None  # the manifest's limit that ended it
    spawn_error: dict[str, str] | None = None  # its launcher could not become the script


class Run:
    """A started script."""

    __slots__ = (
        "action_id", "attempt", "ended", "file_fd", "grace_s", "group", "is_launched", "is_left",
        "is_stopping", "key", "killed_at", "kind", "limits", "marks", "outputs", "pid", "pidfd",
        "pipes", "progress", "roots", "script_digest", "started", "started_at",
        "started_monotonic", "stop_at", "stop_cause", "stopped_at", "survivors",
        "timed_out_after_s", "timeout_s", "timeout_timer", "window_timer",
    )  # fmt: skip

    def __init__(self, key: Key, values: dict[str, Any], script: Script) -> None:
        self.key = key
        self.action_id: str = values["id"]
        self.attempt: int = values["attempt"]
        self.kind: str = values["kind"]
        self.script_digest = script.digest
        self.is_left: bool = script.manifest["leftovers"] == "leave"
        self.timeout_s = shorter(values["timeout_s"], script.manifest["timeout_s"])
        self.grace_s: float | None = first_given(values["grace_s"], script.manifest["grace_s"])
        self.stop_at: float | None = values["stop_at"]
        self.limits: dict[str, Any] = script.manifest["limits"] or {}
        self.group: Group | None = None  # its cgroup, where one is delegated
        self.is_launched = False  # through the launcher
        self.progress = b""  # AGENT_PROGRESS, by which its processes are recognised
        self.pid = self.pidfd = self.file_fd = -1
        self.started = 0  # clock ticks since boot: with the pid, its identity
        self.started_at = self.started_monotonic = 0.0
        self.pipes: dict[str, int] = {}  # stream → read end, while open
        self.outputs: dict[str, OutputKeeper] = {}
        self.marks: OrderKeeper | None = None
        self.timeout_timer: Timer | None = None
        self.window_timer: Timer | None = None
        self.roots: set[int] = set()  # adopted children of the runner that belong to this run
        self.stop_cause = "none"
        self.is_stopping = False
        self.stopped_at: float | None = None  # when TERM was sent
        self.killed_at: float | None = None  # when KILL had to be
        self.timed_out_after_s: float | None = None
        self.ended: Ended | None = None
        self.survivors = 0

    def take(self, stream: str, data: bytes) -> None:
        """The script wrote this."""
        output = self.outputs[stream]
        if self.marks is not None:
            self.marks.note(stream, output.total, len(data))
        output.add(data)

    def mark(self) -> Mark:
        """How its processes are recognised. Its pid stays reserved until the runner reaps it."""
        roots = self.roots if self.group is None else self.roots | self.group.pids()
        return Mark(self.pid, self.progress, frozenset(roots), self.started)


def shorter(first: float | None, second: float | None) -> float | None:
    """The shorter of two limits; None is no limit."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def first_given(first: float | None, second: float | None) -> float | None:
    """The first that is not None."""
    return second if first is None else first


def short_message(text: str) -> str:
    """Cut to what the record's slot has room for; always encodable."""
    return text.encode("utf-8", "replace").decode()[:MESSAGE_CHARS_MAX]


def running_answer(run: Run) -> dict[str, Any]:
    """The protocol's `running` state."""
    return {"state": "running", "pid": run.pid, "started_at": run.started_at}


def running_summary(run: Run) -> dict[str, Any]:
    """What hello tells of a running run."""
    return {
        "row": run.key.row, "start_no": run.key.start_no, "id": run.action_id,
        "attempt": run.attempt, "kind": run.kind, "pid": run.pid, "started_at": run.started_at,
    }  # fmt: skip


def start_marker(
    key: Key, values: dict[str, Any], state: str, boot: str, generation: int, *, is_left: bool
) -> dict[str, Any]:
    """The marker slot of a start or a tombstone."""
    return {
        "v": 1, "state": state, "row": key.row, "start_no": key.start_no, "id": values["id"],
        "attempt": values.get("attempt"), "kind": values.get("kind"), "boot_id": boot,
        "generation": generation, "is_left": is_left,
    }  # fmt: skip


def exit_record(run: Run, ended: Ended) -> dict[str, Any]:
    """The exit slot of a run that was started. `files` is the runner's own (see public_record)."""
    outputs = run.outputs
    files = outputs if run.marks is None else {**outputs, MARKS: run.marks.kept}
    return {
        "row": run.key.row, "start_no": run.key.start_no, "id": run.action_id,
        "attempt": run.attempt, "kind": run.kind, "pid": run.pid, "started_at": run.started_at,
        "ended_at": ended.ended_at, "duration_s": ended.duration_s, "code": ended.code,
        "signal": ended.signal, "stop_cause": run.stop_cause, "spawn_error": ended.spawn_error,
        "stopped_at": run.stopped_at, "killed_at": run.killed_at,
        "survivors": run.survivors, "timed_out_after_s": run.timed_out_after_s,
        "limit_exceeded": ended.limit_exceeded,
        "script_digest": run.script_digest,
        "output": {
            name: {"bytes": kept.total, "kept_bytes": kept.kept_bytes}
            for name, kept in outputs.items()
        },
        "files": {
            name: [[segment.start, segment.size] for segment in kept.segments]
            for name, kept in files.items()
        },
    }  # fmt: skip


def failure_record(
    key: Key, values: dict[str, Any], code: str, message: str, now: float
) -> dict[str, Any]:
    """The exit slot of a run whose script could not be started."""
    nothing = {"bytes": 0, "kept_bytes": 0}
    return {
        "row": key.row, "start_no": key.start_no, "id": values["id"],
        "attempt": values["attempt"], "kind": values["kind"], "pid": None, "started_at": None,
        "ended_at": now, "duration_s": 0.0, "code": None, "signal": None, "stop_cause": "none",
        "stopped_at": None, "killed_at": None,
        "spawn_error": {"code": code, "message": short_message(message)}, "survivors": 0,
        "timed_out_after_s": None, "limit_exceeded": None, "script_digest": None,
        "output": {"stdout": nothing, "stderr": nothing}, "files": {"stdout": [], "stderr": []},
    }  # fmt: skip


def public_record(record: dict[str, Any]) -> dict[str, Any]:
    """The exit record as the protocol has it."""
    return {name: value for name, value in record.items() if name != "files"}
