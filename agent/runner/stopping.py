"""Ends trees of processes: TERM, grace, KILL, verified empty. One timer and one look at /proc for
all that are being stopped at a time. What it means for a run is the supervisor's business.

While the main process lives and its grace lasts there is nothing to look at, so nothing is.
"""

from __future__ import annotations

import os
import signal
import time

from agent.runner import processes, tree
from agent.runner.limits import STOP_POLL_FIRST_S, STOP_POLL_MAX_S, SURVIVOR_PATIENCE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from agent.runner.cgroups import Group
    from agent.runner.loop import Loop, Timer
    from agent.runner.tree import Mark


class TreeStop:
    """One tree that is being stopped."""

    __slots__ = (
        "group", "has_main", "kill_at", "mark", "on_done", "on_kill", "patience_until", "seen",
        "termed",
    )  # fmt: skip

    def __init__(
        self,
        mark: Callable[[], Mark],
        kill_at: float,
        has_main: Callable[[], bool],
        on_done: Callable[[int], None],
        group: Group | None = None,
        on_kill: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_kill = on_kill  # called once, just before the first KILL
        self.group = group  # its cgroup, where it has one: killed at once, verified by the kernel
        self.mark = mark
        self.kill_at = kill_at
        self.has_main = has_main  # whether the main process still runs
        self.on_done = on_done  # called once, with the number of survivors
        self.patience_until: float | None = None  # set by the first KILL
        # pid → start time: once a member always one, also when its parent has gone meanwhile
        self.seen: dict[int, int] = {}
        self.termed: set[tuple[int, int]] = set()


class Stopper:
    """All trees that are being stopped."""

    def __init__(
        self,
        loop: Loop,
        other_mains: Callable[[Hashable], set[int]],
        find_adopted: Callable[[], None],
        name_survivors: Callable[[Hashable, list[int]], None],
    ) -> None:
        self._loop = loop
        self._find_adopted = find_adopted  # before each look: who lost its parent is ours now
        self._name_survivors = name_survivors  # told before `on_done` with their number
        self._other_mains = other_mains  # main pids that do not belong to this key
        self._stops: dict[Hashable, TreeStop] = {}
        self._timer: Timer | None = None
        self._delay_s = STOP_POLL_FIRST_S

    def begin(self, key: Hashable, stop: TreeStop) -> None:
        """Send TERM to the tree now, KILL when `kill_at` has come."""
        self._stops[key] = stop
        _term(stop, self._members(key, stop, processes.snapshot()))
        self.look_soon()

    def hurry(self, key: Hashable, kill_at: float) -> None:
        """Shorten the grace; it never gets longer."""
        stop = self._stops.get(key)
        if stop is not None and kill_at < stop.kill_at:
            stop.kill_at = kill_at
            self.look_soon()

    def look_soon(self) -> None:
        """Something may have changed (a main process ended): look without delay."""
        self._delay_s = STOP_POLL_FIRST_S
        self._schedule(0.001)

    def _schedule(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_in(delay_s, self._step)

    def _step(self) -> None:
        self._timer = None
        self._find_adopted()
        now = time.monotonic()
        due = [key for key, stop in self._stops.items() if _is_due(stop, now)]
        if due:
            everything = processes.snapshot()
            for key in due:
                self._advance(key, self._stops[key], everything, now)
        if not self._stops:
            return
        if any(_is_due(stop, now) for stop in self._stops.values()):
            self._schedule(self._delay_s)
            self._delay_s = min(self._delay_s * 2, STOP_POLL_MAX_S)
        else:
            self._schedule(max(0.0, min(stop.kill_at for stop in self._stops.values()) - now))

    def _advance(
        self, key: Hashable, stop: TreeStop, everything: dict[int, processes.Process], now: float
    ) -> None:
        left = self._members(key, stop, everything)
        has_main = stop.has_main()
        count = len(left) or int(not has_main and _is_populated(stop))
        if count and now >= stop.kill_at:
            if stop.patience_until is None:
                stop.on_kill()
            if stop.group is not None:
                stop.group.kill()
            for process in left:
                processes.send(process, signal.SIGKILL)
            if stop.patience_until is None:
                stop.patience_until = now + SURVIVOR_PATIENCE_S
        elif not has_main:
            # Born after the TERM, of a trap: while the main process lived they were its clean-up,
            # now they are leftovers, and ignoring a signal that never came takes the whole grace.
            _term(stop, left)
        gave_up = stop.patience_until is not None and now > stop.patience_until and not has_main
        if gave_up or not (count or has_main):
            del self._stops[key]
            if count:
                self._name_survivors(key, [process.pid for process in left])
            stop.on_done(count)

    def _members(
        self, key: Hashable, stop: TreeStop, everything: dict[int, processes.Process]
    ) -> list[processes.Process]:
        never = frozenset(self._other_mains(key) | {os.getpid(), 1})
        mark = stop.mark()
        again = {
            pid
            for pid, started in stop.seen.items()
            if pid in everything and everything[pid].started == started
        }
        mark = mark._replace(roots=mark.roots | again)
        found = tree.members(mark, everything, processes.read_environ, never)
        stop.seen.update((process.pid, process.started) for process in found)
        return found


def _term(stop: TreeStop, members: list[processes.Process]) -> None:
    """TERM to those that have not had it. CONT: a stopped process would sleep through its grace."""
    for process in members:
        if (process.pid, process.started) not in stop.termed:
            stop.termed.add((process.pid, process.started))
            processes.send(process, signal.SIGTERM, signal.SIGCONT)


def _is_populated(stop: TreeStop) -> bool:
    return stop.group is not None and stop.group.is_populated


def _is_due(stop: TreeStop, now: float) -> bool:
    return now >= stop.kill_at or not stop.has_main()
