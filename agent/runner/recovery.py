"""After a killed runner: its scripts are ended before anyone is answered. Their outcome is unknown.

Evidence is: the cgroup of a run, where one is delegated; the recorded process, if pid and start
time and boot are the same; its session, its descendants; and any process that has an AGENT_PROGRESS
of this runs directory. What was left behind on purpose by a run that has its result stays.
"""

from __future__ import annotations

import os
import signal
import time
from typing import NamedTuple

from agent.runner import names, processes, tree
from agent.runner.limits import RECOVERY_PATIENCE_S, STOP_POLL_FIRST_S
from agent.runner.tree import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agent.runner.cgroups import Cgroups, Group
    from agent.runner.ledger import Ledger
    from agent.runner.names import Key
    from agent.runner.processes import Process


class Recovered(NamedTuple):
    """What a start found."""

    unknown_runs: int  # runs without a result
    killed: int  # processes
    survivors: int


def recover(
    ledger: Ledger,
    boot: str,
    cgroups: Cgroups | None = None,
    patience_s: float = RECOVERY_PATIENCE_S,
) -> Recovered:
    """End everything that a killed runner left running. Also finds the ledger's highest row."""
    unfinished = dict(ledger.scan())
    mains = [
        (int(found.process["pid"]), int(found.process["started"]))
        for found in unfinished.values()
        if found.process is not None and (found.marker or {}).get("boot_id") == boot
    ]
    killed: set[tuple[int, int]] = set()
    groups = [] if cgroups is None else _groups_to_end(ledger, cgroups)
    until = time.monotonic() + patience_s
    while left := find_leftovers(ledger, mains, groups):
        killed |= {(process.pid, process.started) for process in left}
        for group in groups:
            group.kill()
        for process in left:
            processes.send(process, signal.SIGKILL)
        if time.monotonic() >= until:
            break
        time.sleep(STOP_POLL_FIRST_S)  # nobody is served yet; the kernel needs a moment
    if cgroups is not None:
        for group in groups:
            cgroups.leave(group)
    return Recovered(len(unfinished), len(killed), len(left))


def _groups_to_end(ledger: Ledger, cgroups: Cgroups) -> list[Group]:
    """All but those whose run said that leftovers may stay; these are removed when empty."""
    groups = []
    for key, group in cgroups.found():
        if _may_stay(ledger, key):
            cgroups.leave(group)
        else:
            groups.append(group)
    return groups


def find_leftovers(
    ledger: Ledger, mains: list[tuple[int, int]], groups: list[Group]
) -> list[Process]:
    """Living processes of runs in this runs directory."""
    everything = processes.snapshot()
    never = frozenset((os.getpid(), os.getppid(), 1))
    prefix = os.fsencode(ledger.path) + b"/"
    grouped = {pid for group in groups for pid in group.pids()} - never
    found = {pid: everything[pid] for pid in grouped if pid in everything}
    for process in everything.values():
        if not process.is_dead and process.pid not in never:
            progress = tree.progress_of(processes.read_environ(process.pid))
            if progress and progress.startswith(prefix) and not _is_left(ledger, progress):
                found[process.pid] = process
    leaders = [pid for pid, started in mains if _is_same(everything.get(pid), started)]
    leaders += [process.session for process in found.values() if process.session in dict(mains)]
    roots = frozenset(found)
    for leader in (None, *leaders):
        for process in tree.members(Mark(leader, b"", roots), everything, _no_environ, never):
            found[process.pid] = process
    return list(found.values())


def _is_same(process: Process | None, started: int) -> bool:
    return process is not None and process.started == started


def _is_left(ledger: Ledger, progress: bytes) -> bool:
    """Whether the run has its result and its manifest said that leftovers may stay."""
    name = os.path.basename(os.fsdecode(progress)).removesuffix(".progress") + ".run"
    key = names.key_of_run(name)
    return key is not None and _may_stay(ledger, key)


def _may_stay(ledger: Ledger, key: Key) -> bool:
    found = ledger.read(key)
    if found is None or found.marker is None or found.exit is None:
        return False
    return found.marker.get("is_left") is True


def _no_environ(_pid: int) -> bytes:
    return b""
