"""Children that the runner adopted as a subreaper: whose they are, and reaping them.

Only pids that are no main process are reaped here; a main process is reaped by its run, or its exit
code would be lost. A pid in this table cannot be reused: its zombie is ours until we reap it.
"""

from __future__ import annotations

import os

from agent.runner import processes, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.runner.run import Run


class Orphans:
    """Adopted children that live."""

    def __init__(self) -> None:
        self._owned: set[int] = set()  # attributed to a run, or left behind on purpose
        self._left: set[int] = set()  # left behind on purpose; a part of the owned
        self._strays: dict[int, set[Run]] = {}  # pid → the runs it may belong to

    def __bool__(self) -> bool:
        return bool(self._owned or self._strays)

    def refresh(self, runs: Iterable[Run]) -> None:
        """Find new ones, give them to their run, reap the dead. `runs` are all not yet reaped."""
        by_pid = {run.pid: run for run in runs}
        now = {pid for pid in processes.read_children() if pid not in by_pid}
        for pid in now:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None:
                self._drop(pid, by_pid.values())
            elif pid not in self._owned and pid not in self._strays:
                self._adopt(pid, by_pid)
        for pid in [pid for pid in (*self._owned, *self._strays) if pid not in now]:
            self._drop(pid, by_pid.values())
        self._give_to_the_only_candidate()

    def release(self, ended: Run) -> None:
        """The run is over and reaped: no stray can belong to it any more."""
        for candidates in self._strays.values():
            candidates.discard(ended)
        self._give_to_the_only_candidate()

    def leave(self, ended: Run) -> None:
        """The run's leftovers stay on purpose. So do strays that may be its."""
        strays = [pid for pid, runs in self._strays.items() if ended in runs]
        for pid in strays:
            del self._strays[pid]
        self._owned.update(strays)
        self._left.update(ended.roots, strays)

    def take_lost(self) -> list[int]:
        """Strays that can belong to no living run; each is returned once."""
        lost = [pid for pid, candidates in self._strays.items() if not candidates]
        for pid in lost:
            del self._strays[pid]
        self._owned.update(lost)
        return lost

    def _adopt(self, pid: int, by_pid: dict[int, Run]) -> None:
        process = processes.read_process(pid)
        if process is None:
            return
        owner = by_pid.get(process.session) or by_pid.get(process.group)
        progress = tree.progress_of(processes.read_environ(pid)) if owner is None else None
        if progress is not None:
            owner = next((run for run in by_pid.values() if run.progress == progress), None)
        if owner is not None:
            owner.roots.add(pid)
            self._owned.add(pid)
        elif progress is not None or self._left:  # it may come from what was left behind
            self._owned.add(pid)
            self._left.add(pid)
        else:
            self._strays[pid] = set(by_pid.values())

    def _give_to_the_only_candidate(self) -> None:
        for pid, candidates in list(self._strays.items()):
            if len(candidates) == 1:
                del self._strays[pid]
                candidates.pop().roots.add(pid)
                self._owned.add(pid)

    def _drop(self, pid: int, runs: Iterable[Run]) -> None:
        self._owned.discard(pid)
        self._left.discard(pid)
        self._strays.pop(pid, None)
        for run in runs:
            run.roots.discard(pid)
