"""The table of runs: starts at most once per key, watches, enforces deadlines, records the end.

The disk is the truth about ended runs, this table about running ones. A run leaves the table when
its result is on disk and, if it was stopped, its tree is verified empty.
"""

from __future__ import annotations

import os
import time
from typing import Any

from agent.runner import record
from agent.runner.catalogue import SpawnRefused
from agent.runner.collecting import Collecting
from agent.runner.ending import Ending
from agent.runner.ledger import write_at
from agent.runner.limits import GRACE_S_DEFAULT, PIPE_READ_BYTES, TICK_S, UNRECORDED_MAX
from agent.runner.names import Key
from agent.runner.progress import bound_progress
from agent.runner.run import (
    Run,
    failure_record,
    first_given,
    public_record,
    running_answer,
    start_marker,
)
from agent.runner.starting import AlreadyRecorded, Starter
from agent.runner.wall import Wall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.runner.catalogue import Catalogue
    from agent.runner.cgroups import Cgroups, Group
    from agent.runner.journal import Journal
    from agent.runner.ledger import Ledger
    from agent.runner.loop import Loop
    from agent.runner.output_budget import OutputBudget

    OnExited = Callable[[Run, dict[str, Any]], None]


class Conflict(Exception):
    """The key belongs to another id."""


class UnknownRun(Exception):
    """There is no run of this key."""


class Unavailable(Exception):
    """Not now; the message says why."""


class Supervisor:
    """All runs of this runner."""

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        catalogue: Catalogue,
        journal: Journal,
        runs_max: int,
        cgroups: Cgroups | None = None,
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._journal = journal
        self._runs_max = runs_max
        self._starter = Starter(ledger, catalogue, cgroups)
        self.outputs: OutputBudget | None = None
        self._unrecorded: dict[Key, dict[str, Any]] = {}
        self._is_ticking = False
        self._wall = Wall()
        self.boot_id = self._starter.boot_id
        self.collecting = Collecting(loop, ledger, journal)
        self.running: dict[Key, Run] = {}
        on_group_over = _forget_group if cgroups is None else cgroups.leave
        self.ending = Ending(loop, ledger, journal, self.running, self._exited, on_group_over)
        self.on_idle: Callable[[], None] = lambda: None
        self.on_exited: OnExited = lambda _run, _record: None
        self.is_stopping = False

    # -- requests ---------------------------------------------------------------------------

    def start(self, key: Key, values: dict[str, Any], generation: int) -> dict[str, Any]:
        """Start once; asked again, answer again."""
        if key in self.running or key in self._unrecorded:
            return self.state(key, values["id"])
        if self.is_stopping:
            raise Unavailable("the runner is stopping; ask the next one")
        if values["stop_at"] is not None and time.time() >= values["stop_at"]:
            return self.claim(key, values["id"], generation)  # its window closed on the way here
        try:
            if len(self.running) + len(self.ending) >= self._runs_max:
                raise SpawnRefused("no_resources", f"{self._runs_max} runs are running already")
            run = self._starter.start(key, values, generation)
        except AlreadyRecorded:
            return self.state(key, values["id"])
        except SpawnRefused as refused:
            return self._record_failure(key, values, generation, refused)
        self._watch(run)
        return running_answer(run)

    def state(self, key: Key, action_id: str | None) -> dict[str, Any]:
        """The state of a run and its members. UnknownRun, Conflict."""
        run = self.running.get(key)
        if run is not None:
            _check_id(key, run.action_id, action_id)
            return running_answer(run)
        unrecorded = self._unrecorded.get(key) or self.ending.unwritten.get(key)
        if unrecorded is not None:
            _check_id(key, unrecorded["id"], action_id)
            return {"state": "exited", "record": public_record(unrecorded)}
        found = self._ledger.read(key)
        if found is None:
            raise UnknownRun(f"there is no run {key.row}.{key.start_no}")
        if found.marker is not None:
            _check_id(key, found.marker.get("id"), action_id)
        if found.exit is not None:
            return {"state": "exited", "record": public_record(found.exit)}
        return {"state": "never_started" if found.is_tombstone else "unknown"}

    def claim(self, key: Key, action_id: str, generation: int) -> dict[str, Any]:
        """The state; if there is no such run, there never will be one."""
        try:
            return self.state(key, action_id)
        except UnknownRun:
            pass
        marker = start_marker(
            key, {"id": action_id}, record.STATE_TOMBSTONE, self.boot_id, generation, is_left=False
        )
        try:
            fd = self._ledger.create(key, record.encode_file(marker))
            if fd is not None:
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
                os.fsync(self._ledger.fd)
        except OSError as error:
            raise Unavailable(f"the tombstone cannot be written: {error.strerror}") from None
        return self.state(key, action_id)

    def stop(self, key: Key, action_id: str, cause: str, grace_s: float | None) -> dict[str, Any]:
        """Stop its tree. If it already ended, that is the answer."""
        answer = self.state(key, action_id)
        run = self.running.get(key)
        if run is None:
            return answer
        self.stop_run(run, cause, grace_s)
        return self.state(key, action_id)

    def stop_run(self, run: Run, cause: str, grace_s: float | None) -> None:
        """As `stop`, for a run of the table."""
        if grace_s is None:
            grace_s = first_given(run.grace_s, GRACE_S_DEFAULT)
        assert grace_s is not None
        if not run.is_stopping and not self.ending.look(run):
            self._write_cause(run, cause)
        self.ending.stop(run, grace_s)

    def move_window(self, key: Key, action_id: str, stop_at: float | None) -> dict[str, Any]:
        """Move or lift the end of a running run's window. One that is being stopped stays so."""
        answer = self.state(key, action_id)
        run = self.running.get(key)
        if run is not None and not run.is_stopping:
            run.stop_at = stop_at
            if run.window_timer is not None:
                run.window_timer.cancel()
            self._take_window(run)
        return answer

    def stop_all(self, cause: str) -> None:
        """Stop everything and start nothing more."""
        self.is_stopping = True
        for run in list(self.running.values()):
            self.stop_run(run, cause, None)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and nothing that was left behind needs its reaper."""
        return not (self.running or self.ending.is_busy)

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs any more and no leftovers are being stopped."""
        return not (self.running or len(self.ending))

    def is_busy(self, key: Key) -> bool:
        """Whether the run's output may still grow or be told."""
        return key in self.running or key in self.ending

    @property
    def may_be_replaced(self) -> bool:
        """Whether nothing is held that the disk does not have: another process could take over."""
        is_held = self._unrecorded or self.ending.unwritten or self.is_stopping
        return self.is_empty and not is_held

    def finish(self) -> None:
        """Make every result durable that nobody collected."""
        self.ending.refresh()
        self.collecting.sync_all()

    def collected(self, keys: list[Key]) -> None:
        """Their final status is committed elsewhere."""
        for key in keys:
            self.collecting.remove(key)

    def forget(self, keys: list[Key]) -> list[Key]:
        """Remove all files of ended runs. Returns those that were kept because they run."""
        kept = [key for key in keys if key in self.running or key in self.ending]
        unlisted: set[Key] = set()
        for key in set(keys) - set(kept):
            self.collecting.remove(key)
            self._unrecorded.pop(key, None)
            self.ending.unwritten.pop(key, None)
            found = self._ledger.read(key)
            if found is None or found.exit is None:
                unlisted.add(key)
                continue
            files = found.exit.get("files", {})
            segments = [(name, part[0]) for name, parts in files.items() for part in parts]
            self._ledger.remove(key, segments)
        if unlisted:
            for key, segments in self._ledger.segments(unlisted).items():
                self._ledger.remove(key, segments)
        return kept

    # -- a run's life -----------------------------------------------------------------------

    def _watch(self, run: Run) -> None:
        self.running[run.key] = run
        self._loop.watch(run.pidfd, lambda _events: self._main_ended(run))
        for name, fd in run.pipes.items():
            self._loop.watch(fd, self._reader(run, name, fd))
        if run.timeout_s is not None:
            run.timeout_timer = self._loop.call_in(run.timeout_s, lambda: self._timed_out(run))
        self._take_window(run)
        self._tick_later()

    def _take_window(self, run: Run) -> None:
        """Who sets the end of a window trusts the clock: in doubt, `agentd` lifts it."""
        if run.stop_at is not None:
            self._wall.confirm()
        self._watch_window(run)

    def _watch_window(self, run: Run) -> None:
        if run.stop_at is not None:
            delay_s = max(0.0, run.stop_at - time.time())
            run.window_timer = self._loop.call_in(delay_s, lambda: self._window_ends(run))

    def _reader(self, run: Run, name: str, fd: int) -> Callable[[int], None]:
        def read(_events: int) -> None:
            try:
                data = os.read(fd, PIPE_READ_BYTES)
            except BlockingIOError:
                return
            if data:
                run.take(name, data)
            else:
                self._loop.forget(fd)
                os.close(fd)
                del run.pipes[name]

        return read

    def _main_ended(self, run: Run) -> None:
        self.ending.look(run)

    def _exited(self, run: Run, result: dict[str, Any]) -> None:
        """The run's result is final: leave the table, tell."""
        del self.running[run.key]
        self.collecting.add(run.key)
        self.on_exited(run, public_record(result))
        if self.outputs is not None:
            self.outputs.add(sum(kept.kept_bytes for kept in run.outputs.values()))
        if not self.running:
            self.on_idle()

    def _timed_out(self, run: Run) -> None:
        if not run.is_stopping and run.ended is None:
            run.timed_out_after_s = run.timeout_s
            self.stop_run(run, "timeout", None)

    def _window_ends(self, run: Run) -> None:
        """The timer is monotonic, the window is not: it may be early, or the clock was set back."""
        self._check_window(run)
        if not run.is_stopping and run.stop_at is not None and run.stop_at > time.time():
            self._watch_window(run)  # else the clock is in doubt, and the tick asks again

    def _check_window(self, run: Run) -> None:
        """Wall time: the clock may be set either way, so the tick asks again."""
        is_over = run.stop_at is not None and not run.is_stopping and time.time() >= run.stop_at
        if is_over and self._wall.is_believed():
            self.stop_run(run, "window", None)

    def _write_cause(self, run: Run, cause: str) -> None:
        run.stop_cause = cause
        value = {"cause": cause, "at": round(time.time(), 6)}
        try:
            write_at(run.file_fd, record.STOP.offset, record.encode_slot(record.STOP, value))
        except OSError as error:  # the record will carry it; stopping matters more
            self._journal.write("cause_not_written", run=run.key, error=error.strerror)

    def _record_failure(
        self, key: Key, values: dict[str, Any], generation: int, refused: SpawnRefused
    ) -> dict[str, Any]:
        result = failure_record(key, values, refused.code, str(refused), round(time.time(), 6))
        marker = start_marker(
            key, values, record.STATE_START, self.boot_id, generation, is_left=False
        )
        try:
            if refused.is_marked:
                self._ledger.write_exit(key, result)
            else:
                fd = self._ledger.create(key, record.encode_file(marker, result))
                if fd is None:
                    return self.state(key, values["id"])
                os.close(fd)
        except OSError:
            while len(self._unrecorded) >= UNRECORDED_MAX:
                del self._unrecorded[next(iter(self._unrecorded))]
            self._unrecorded[key] = result
        else:
            self.collecting.add(key)
        return {"state": "exited", "record": public_record(result)}

    # -- housekeeping -----------------------------------------------------------------------

    def _tick_later(self) -> None:
        if not self._is_ticking:
            self._is_ticking = True
            self._loop.call_in(TICK_S, self._tick)

    def _tick(self) -> None:
        self._is_ticking = False
        self._wall.is_believed()  # also while no window ends: slow drift is no leap
        for run in list(self.running.values()):
            self._check_window(run)
            bound_progress(self._ledger.fd, run.key)
        self.ending.refresh()
        if self.running or self.ending.is_busy:
            self._tick_later()


def _check_id(key: Key, recorded: str | None, asked: str | None) -> None:
    if recorded is not None and asked is not None and recorded != asked:
        raise Conflict(f"run {key.row}.{key.start_no} belongs to {recorded}, not to {asked}")


def _forget_group(_group: Group) -> None:
    """Without a delegated cgroup there is none."""
