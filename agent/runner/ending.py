"""How a run ends: the main process's end is seen, its result written, its tree emptied, reaped.

The result is written at once. Where nobody asked for a stop it is also told at once, and leftovers
are stopped behind it; after a stop it is told when the tree is verified empty. The main process
stays a zombie until then: its pid, and so its session, cannot be anybody else's meanwhile.
"""

from __future__ import annotations

import os
import time
from typing import Any

from agent.runner import autopsy, processes, record
from agent.runner.ledger import write_at
from agent.runner.limits import GRACE_S_DEFAULT, PIPE_READ_BYTES
from agent.runner.orphans import Orphans
from agent.runner.progress import bound_progress
from agent.runner.run import Ended, Run, exit_record, first_given
from agent.runner.stopping import Stopper, TreeStop
from agent.runner.tree import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from agent.runner.cgroups import Group
    from agent.runner.journal import Journal
    from agent.runner.ledger import Ledger
    from agent.runner.loop import Loop
    from agent.runner.names import Key

_DRAIN_BYTES_MAX = 1_048_576  # a pipe's largest capacity; a leftover may go on writing forever


class Ending:
    """The last part of every run's life."""

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        journal: Journal,
        running: dict[Key, Run],
        on_final: Callable[[Run, dict[str, Any]], None],
        on_group_over: Callable[[Group], None],
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._journal = journal
        self._running = running
        self._on_final = on_final
        self._on_group_over = on_group_over
        self._closing: dict[Key, Run] = {}  # told, but not reaped: leftovers are looked for
        self._unsettled: list[Run] = []
        self._orphans = Orphans()
        self._stopper = Stopper(
            loop, self._other_mains, self._refresh_orphans, self._name_survivors
        )
        self.unwritten: dict[Key, dict[str, Any]] = {}  # results that the disk did not take yet
        self.survivors = 0  # processes that outlived a KILL, since this runner started
        self.on_survivors: Callable[[Run | None, int], None] = lambda _run, _count: None

    def __contains__(self, key: Key) -> bool:
        return key in self._closing

    def __len__(self) -> int:
        return len(self._closing)

    @property
    def is_busy(self) -> bool:
        """Whether there is housekeeping to do although nothing runs."""
        return bool(self._closing or self._orphans or self.unwritten)

    def look(self, run: Run) -> bool:
        """Whether the main process has ended; if it just did, deal with it."""
        if run.ended is not None:
            return True
        # WNOWAIT: a peek. It stays a zombie until its tree is known to be empty.
        found = os.waitid(os.P_PIDFD, run.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return False
        ended_at, duration_s = time.time(), time.monotonic() - run.started_monotonic
        self._release(run)
        is_exit = found.si_code == os.CLD_EXITED
        code, number = (found.si_status, None) if is_exit else (None, found.si_status)
        zombie = processes.read_zombie(run.pid) if run.is_launched and code != 0 else None
        run.ended = Ended(
            code, number, round(ended_at, 6), round(duration_s, 6),
            autopsy.limit_exceeded(run, code, number, zombie),
            autopsy.launch_error(run, code, zombie),
        )  # fmt: skip
        result = exit_record(run, run.ended)
        self._write(run, result)
        if run.is_stopping:
            self._stopper.look_soon()
        else:
            self._closing[run.key] = run
            if not self._unsettled:
                self._loop.call_soon(self._settle)
            self._unsettled.append(run)
            self._on_final(run, result)
        return True

    def stop(self, run: Run, grace_s: float) -> None:
        """TERM, `grace_s`, KILL to its tree. Again: only shortens the grace."""
        kill_at = time.monotonic() + grace_s
        if run.is_stopping:
            self._stopper.hurry(run.key, kill_at)
        elif run.ended is None:
            run.is_stopping = True
            run.stopped_at = round(time.time(), 6)
            self._refresh_orphans()  # whose parent is gone is found only by being our child
            self._begin(
                run,
                kill_at,
                lambda survivors: self._emptied(run, survivors),
                lambda: _note_kill(run),
            )

    def refresh(self) -> None:
        """Housekeeping: adopted children, and results that a full disk did not take."""
        self._refresh_orphans()
        for key, result in list(self.unwritten.items()):
            try:
                self._ledger.write_exit(key, result)
            except OSError:
                return
            del self.unwritten[key]

    def _refresh_orphans(self) -> None:
        self._orphans.refresh([*self._running.values(), *self._closing.values()])
        for pid in self._orphans.take_lost():
            mark = Mark(None, b"", frozenset((pid,)))
            stop = TreeStop(
                lambda mark=mark: mark,  # type: ignore[misc]
                time.monotonic() + GRACE_S_DEFAULT,
                lambda: False,
                self._tell_survivors,
            )
            self._stopper.begin(pid, stop)

    def _release(self, run: Run) -> None:
        """Let go of what the end makes useless; take what is still in the pipes."""
        for timer in (run.timeout_timer, run.window_timer):
            if timer is not None:
                timer.cancel()
        self._loop.forget(run.pidfd)
        for name, fd in run.pipes.items():
            self._drain(run, name, fd)
            self._loop.forget(fd)
            os.close(fd)
        run.pipes.clear()
        for output in run.outputs.values():
            output.close()
        if run.marks is not None:
            run.marks.close()

    def _drain(self, run: Run, name: str, fd: int) -> None:
        taken = 0
        while taken < _DRAIN_BYTES_MAX:
            try:
                data = os.read(fd, PIPE_READ_BYTES)
            except OSError:  # EAGAIN: a child still holds it open; the run is over all the same
                return
            if not data:
                return
            taken += len(data)
            run.take(name, data)

    def _write(self, run: Run, result: dict[str, Any]) -> None:
        try:
            write_at(run.file_fd, record.EXIT.offset, record.encode_slot(record.EXIT, result))
        except OSError as error:
            self.unwritten[run.key] = result
            self._journal.write("result_not_written", run=run.key, error=error.strerror)

    def _settle(self) -> None:
        """Look for leftovers of all that ended in this turn: one look at the children."""
        ended, self._unsettled = self._unsettled, []
        self._refresh_orphans()
        for run in ended:
            if run.is_left:
                self._orphans.leave(run)
            if run.is_left or not (run.roots or _is_populated(run)):
                self._reap(run)
                continue
            grace_s = first_given(run.grace_s, GRACE_S_DEFAULT) or 0.0
            self._begin(
                run,
                time.monotonic() + grace_s,
                lambda survivors, run=run: self._left_stopped(run, survivors),  # type: ignore[misc]
            )

    def _begin(
        self, run: Run, kill_at: float, on_done: Callable[[int], None],
        on_kill: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        stop = TreeStop(run.mark, kill_at, lambda: not self.look(run), on_done, run.group, on_kill)
        self._stopper.begin(run.key, stop)

    def _left_stopped(self, run: Run, survivors: int) -> None:
        """The leftovers of an ended run are gone; its result was told long ago."""
        self._tell_survivors(survivors, run)
        if survivors and run.ended is not None:
            run.survivors = survivors
            self._write(run, exit_record(run, run.ended))
        self._reap(run)

    def _emptied(self, run: Run, survivors: int) -> None:
        """The tree of a stopped run is empty: only now its end is told."""
        assert run.ended is not None
        self._tell_survivors(survivors, run)
        run.survivors = survivors
        result = exit_record(run, run.ended)
        if survivors or (run.killed_at is not None and run.killed_at >= run.ended.ended_at):
            self._write(run, result)  # more than the main process's end had to tell
        self._on_final(run, result)
        self._reap(run)

    def _reap(self, run: Run) -> None:
        os.waitid(os.P_PIDFD, run.pidfd, os.WEXITED | os.WNOHANG)
        os.close(run.pidfd)
        os.close(run.file_fd)
        bound_progress(self._ledger.fd, run.key)  # what it wrote since the last tick
        self._closing.pop(run.key, None)
        self._orphans.release(run)
        if run.group is not None:
            self._on_group_over(run.group)

    def _name_survivors(self, run: Hashable, pids: list[int]) -> None:
        self._journal.write("survivors", run=run, pids=pids)

    def _tell_survivors(self, survivors: int, run: Run | None = None) -> None:
        """What a KILL did not end: an alarm, and never taken back by silence."""
        if survivors:
            self.survivors += survivors
            self.on_survivors(run, survivors)

    def _other_mains(self, key: Hashable) -> set[int]:
        runs = (*self._running.values(), *self._closing.values())
        return {run.pid for run in runs if run.key != key}


def _note_kill(run: Run) -> None:
    """Whoever asks why it took so long, or what was lost, is told that TERM was not enough."""
    run.killed_at = round(time.time(), 6)


def _is_populated(run: Run) -> bool:
    """Whether its cgroup holds anything; looked at by removing it, which fails then."""
    return run.group is not None and not run.group.remove()
